//! What all clients together know of the rooms' logs: which message stands at a position, and what follows on what.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crate::history::{Joined, Message, Position};

/// A position of a room.
type Place = (String, Position);

/// See the module. A hole, a double or another order shows as two answers to one question.
#[derive(Debug, Default)]
pub(super) struct Rooms {
    /// With the time when it was seen so.
    next: BTreeMap<Place, (Position, Duration)>,
    previous: BTreeMap<Place, Position>,
    contents: BTreeMap<Place, Message>,
    first_seen: BTreeMap<Place, Duration>,
    /// Where a message of a room stands, by its id.
    places: BTreeMap<(String, String), BTreeSet<Position>>,
    senders: BTreeMap<(String, String), usize>,
}

/// What a client has of a room on one connection.
#[derive(Debug, Default)]
pub(super) struct RoomView {
    /// It is in, as far as it knows.
    pub(super) is_in: bool,
    /// It has asked to be in, and has not heard that it is out.
    pub(super) may_hear: bool,
    /// The last that it was given; none where it has been told that something is missing.
    pub(super) cursor: Option<Position>,
    pub(super) heard: BTreeSet<Position>,
    /// Who is there: those that it found when it came in, and what it was told since.
    pub(super) members: BTreeSet<String>,
}

impl RoomView {
    pub(super) fn note_joined(&mut self, joined: &Joined) {
        self.is_in = true;
        self.may_hear = true;
        self.cursor = Some(joined.position.clone());
        self.heard.extend(joined.messages.iter().map(|message| message.position.clone()));
        self.members = joined.members.iter().cloned().collect();
    }

    pub(super) fn note_change(
        &mut self,
        joined: &[String],
        left: &[String],
        users: Option<&[String]>,
    ) {
        self.members.extend(joined.iter().cloned());
        self.members.retain(|member| !left.contains(member));
        if let Some(users) = users {
            self.members = users.iter().cloned().collect();
        }
    }
}

impl Rooms {
    pub(super) fn note_sent(&mut self, room: &str, id: &str, client: usize) {
        self.senders.insert((room.to_owned(), id.to_owned()), client);
    }

    pub(super) fn note_position(&mut self, room: &str, position: &str, now: Duration) {
        self.first_seen.entry((room.to_owned(), position.to_owned())).or_insert(now);
    }

    pub(super) fn first_seen(&self, room: &str, position: &str) -> Option<Duration> {
        self.first_seen.get(&(room.to_owned(), position.to_owned())).copied()
    }

    /// A message was seen at its position; tells what is wrong with it.
    pub(super) fn note_content(&mut self, message: &Message, now: Duration) -> Option<String> {
        let Message { room, id, user, text, position } = message;
        self.note_position(room, position, now);
        let place = (room.clone(), position.clone());
        let name = (room.clone(), id.clone());
        self.places.entry(name.clone()).or_default().insert(position.clone());
        let Some(sender) = self.senders.get(&name) else {
            return Some(format!("{id} was never sent to {room}"));
        };
        if *text != format!("{room}/{id}") || *user != super::user_of(*sender) {
            return Some(format!("{message:?} is not what client {sender} has sent"));
        }
        let known = self.contents.entry(place).or_insert_with(|| message.clone());
        (known != message).then(|| format!("{message:?} and {known:?} stand at the same position"))
    }

    /// A client was given `position` right after `last`; tells who was given something else. `may` tells whether a log that
    /// was set back between two times explains it: then something else may follow, but nothing on something else.
    pub(super) fn note_next(
        &mut self,
        room: &str,
        (last, position): (&str, &str),
        now: Duration,
        may: impl Fn(Duration, Duration) -> bool,
    ) -> Option<String> {
        let from = (room.to_owned(), last.to_owned());
        let to = (room.to_owned(), position.to_owned());
        let name = |place: &str| {
            let message = self.contents.get(&(room.to_owned(), place.to_owned()));
            message.map_or_else(|| place.to_owned(), |message| message.id.clone())
        };
        if last == position {
            return Some(format!("in {room}, {} follows on itself", name(position)));
        }
        let next = self.next.entry(from).or_insert_with(|| (position.to_owned(), now));
        if next.0 != position {
            if !may(next.1, now) {
                let (one, other) = (name(&next.0), name(position));
                let text = format!("in {room}, {} is followed by {one} and by {other}", name(last));
                return Some(text);
            }
            *next = (position.to_owned(), now);
        }
        let previous = self.previous.entry(to).or_insert_with(|| last.to_owned());
        if previous != last {
            let (one, other) = (name(previous), name(last));
            return Some(format!("in {room}, {} follows on {one} and on {other}", name(position)));
        }
        None
    }

    /// A message was acknowledged with this position.
    pub(super) fn note_acked(
        &mut self,
        room: &str,
        id: &str,
        position: &str,
        now: Duration,
    ) -> Option<String> {
        self.note_position(room, position, now);
        let name = (room.to_owned(), id.to_owned());
        self.places.entry(name).or_default().insert(position.to_owned());
        let message = self.contents.get(&(room.to_owned(), position.to_owned()));
        let other = message.filter(|message| message.id != id)?;
        Some(format!("{id} was acknowledged with the position of {}", other.id))
    }

    /// Messages that stand in a log more than once. `may` tells whether a log that was lost between two times explains it.
    pub(super) fn doubled(&self, may: impl Fn(Duration, Duration) -> bool) -> Vec<String> {
        let mut doubled = Vec::new();
        for ((room, id), positions) in &self.places {
            let mut times: Vec<Duration> =
                positions.iter().filter_map(|position| self.first_seen(room, position)).collect();
            times.sort_unstable();
            if times.array_windows().any(|[one, next]| !may(*one, *next)) {
                doubled.push(format!("{id} stands {} times in {room}", positions.len()));
            }
        }
        doubled
    }
}
