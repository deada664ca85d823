//! Holds what clients have seen against what they were promised. It knows positions only as names: no code of the services.

mod rooms;
#[cfg(test)]
mod tests;
mod tokens;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use self::{
    rooms::{RoomView, Rooms},
    tokens::Tokens,
};
use crate::{
    client::{EDGES, ROOMS},
    faults::{CLIENT_HOSTS, Faults},
    history::{Event, Joined, Message, Position, Seen},
    storage::Durability,
};

/// How much has happened, so that a run that proves nothing shows.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) connections: usize,
    pub(crate) acked: usize,
    pub(crate) delivered: usize,
    pub(crate) recovered: usize,
    pub(crate) gaps: usize,
    pub(crate) unavailable: usize,
}

#[derive(Debug)]
pub(crate) struct Verdict {
    pub(crate) tally: Tally,
    pub(crate) violations: Vec<String>,
}

/// How long after it was appended a message may first be seen or acknowledged: links are held up and cut, and found dead by
/// their keepalive.
const IN_FLIGHT_MAX: Duration = Duration::from_secs(20);

/// The close code that says so.
const TOKEN_EXPIRED: u16 = 4004;

/// Whether those who are there are said to be there, and nobody else.
pub(crate) fn is_settled(events: &[Event], faults: &Faults, durability: Durability) -> bool {
    !check(events, faults, durability)
        .violations
        .iter()
        .any(|violation| violation.starts_with("I6"))
}

/// Checks a whole history.
pub(crate) fn check(events: &[Event], faults: &Faults, durability: Durability) -> Verdict {
    let mut checker = Checker {
        faults,
        durability,
        rooms: Rooms::default(),
        clients: BTreeMap::new(),
        acked: Vec::new(),
        logs: BTreeMap::new(),
        present: BTreeMap::new(),
        fresh: BTreeMap::new(),
        tokens: Tokens::default(),
        tally: Tally::default(),
        violations: Vec::new(),
        now: Duration::ZERO,
    };
    for event in events {
        checker.now = event.at;
        checker.see_token(event.client, &event.seen);
        checker.see(event.client, &event.seen);
    }
    checker.conclude();
    let Checker { tally, violations, .. } = checker;
    Verdict { tally, violations }
}

struct Checker<'a> {
    faults: &'a Faults,
    durability: Durability,
    rooms: Rooms,
    /// What each client has of each room on its present connection.
    clients: BTreeMap<usize, BTreeMap<String, RoomView>>,
    acked: Vec<Acked>,
    logs: BTreeMap<String, Vec<Message>>,
    /// What each client was told last of who is in a room.
    present: BTreeMap<(usize, String), BTreeSet<String>>,
    /// By client: the messages that it has thought of on its present connection, and sent once.
    fresh: BTreeMap<usize, BTreeSet<String>>,
    tokens: Tokens,
    tally: Tally,
    violations: Vec<String>,
    now: Duration,
}

/// When logs were lost, in whole or at their end.
struct Losses(Vec<Duration>);

impl Losses {
    fn was_lost(&self, from: Duration, until: Duration) -> bool {
        self.0.iter().any(|lost_at| from <= *lost_at + IN_FLIGHT_MAX && *lost_at <= until)
    }
}

struct Acked {
    at: Duration,
    room: String,
    id: String,
    position: Position,
}

impl Checker<'_> {
    fn violation(&mut self, invariant: &str, client: usize, text: &str) {
        self.violations.push(format!("{invariant}: {:?} client {client}: {text}", self.now));
    }

    fn view(&mut self, client: usize, room: &str) -> &mut RoomView {
        self.clients.entry(client).or_default().entry(room.to_owned()).or_default()
    }

    fn see(&mut self, client: usize, seen: &Seen) {
        match seen {
            Seen::Connected { edge, expires } => {
                self.tally.connections += 1;
                let is_skewed = self.faults.is_skewed(*edge, self.now);
                self.tokens.note_connected(client, *expires, is_skewed);
                self.clients.insert(client, BTreeMap::new());
                self.fresh.insert(client, BTreeSet::new());
            }
            Seen::Closed { edge, by_client, code } => {
                self.see_closed(client, *edge, *by_client, *code);
            }
            Seen::Joining { room } => self.view(client, room).may_hear = true,
            Seen::Joined(joined) => self.see_joined(client, joined),
            Seen::Leaving { room } => {
                // It may be out from here on, whatever the answer is.
                let view = self.view(client, room);
                view.is_in = false;
                view.cursor = None;
            }
            Seen::Left { room } => *self.view(client, room) = RoomView::default(),
            Seen::Message(message) => self.see_message(client, message),
            Seen::Gap { room } => {
                let last = self.view(client, room).cursor.take();
                self.see_gap(client, room, last.as_ref());
                self.forget_lost(client, room);
            }
            Seen::Sent { room, id } => {
                self.fresh.entry(client).or_default().insert(id.clone());
                self.rooms.note_sent(room, id, client);
            }
            Seen::Acked { room, id, position } => self.see_acked(client, room, id, position),
            Seen::Refused { event, room, code, edge } => {
                self.see_refused(client, (event, room), code, *edge);
            }
            Seen::Unanswered { event, edge } => {
                if !self.faults.excuse(*edge, host_of(client), self.now) {
                    self.violation("acks", client, &format!("{event} was never answered"));
                }
            }
            Seen::Notice { room, joined, left, users } => {
                self.view(client, room).note_change(joined, left, users.as_deref());
            }
            Seen::Present { room, users } => {
                self.present.insert((client, room.clone()), users.iter().cloned().collect());
            }
            Seen::Log { room, messages } => self.see_log(client, room, messages),
            Seen::Nonsense { text } => self.violation("contract", client, text),
        }
    }

    /// An edge says nothing to a client whose token has ended, save what was on its way.
    fn see_token(&mut self, client: usize, seen: &Seen) {
        let is_late = (0..EDGES).any(|edge| self.faults.excuse(edge, host_of(client), self.now));
        if seen.is_from_edge() && !is_late && self.tokens.has_outlived(client, self.now) {
            self.violation("I9", client, "it is sent something by a token that has ended");
        }
    }

    fn see_closed(
        &mut self,
        client: usize,
        edge: usize,
        by_client: Option<&str>,
        code: Option<u16>,
    ) {
        self.clients.remove(&client);
        let is_own = matches!(by_client, Some("by chance" | "unanswered"));
        let is_expiry = code == Some(TOKEN_EXPIRED) && self.tokens.may_expire(client, self.now);
        if !is_own && !is_expiry && !self.faults.excuse(edge, host_of(client), self.now) {
            let text = format!("connection to edge {edge} lost: {by_client:?}, code {code:?}");
            self.violation("I8", client, &text);
        }
    }

    /// An event was refused. That may be only where its service could not be reached, or had no disk.
    fn see_refused(&mut self, client: usize, (event, room): (&str, &str), code: &str, edge: usize) {
        self.fresh.remove(&client);
        if code != "unavailable" {
            return self.violation("I1", client, &format!("{event} in {room} refused: {code}"));
        }
        self.tally.unavailable += 1;
        if !self.faults.excuse_refusal(edge, event, self.now) {
            let text = format!("{event} in {room} refused by edge {edge}, which had its service");
            self.violation("acks", client, &text);
        }
    }

    fn see_joined(&mut self, client: usize, joined: &Joined) {
        let Joined { room, since, position, recovered, messages, .. } = joined;
        let mut found = Vec::new();
        for message in messages {
            found.extend(self.rooms.note_content(message, self.now));
        }
        if let (Some(since), true) = (since, *recovered) {
            self.tally.recovered += 1;
            let mut last = since;
            for message in messages {
                found.extend(self.note_next(room, last, &message.position));
                last = &message.position;
            }
            if last != position {
                found.push(format!("{room} recovered up to {last}, but stands at {position}"));
            }
        } else if let Some(since) = since {
            self.see_gap(client, room, Some(since));
        }
        self.rooms.note_position(room, position, self.now);
        let view = self.view(client, room);
        if let Some(cursor) = view.cursor.as_ref().filter(|cursor| *cursor != position) {
            found.push(format!("{room} stands at {position}, but the client at {cursor}"));
        }
        view.note_joined(joined);
        for text in found {
            self.violation("I4", client, &text);
        }
    }

    fn see_message(&mut self, client: usize, message: &Message) {
        self.tally.delivered += 1;
        let Message { room, id, position, .. } = message;
        let view = self.view(client, room);
        let may_hear = view.may_hear;
        let is_new = view.heard.insert(position.clone());
        let last = view.cursor.clone();
        if view.cursor.is_some() {
            view.cursor = Some(position.clone());
        }
        if !may_hear {
            self.violation("I5", client, &format!("{id} came from {room}, where it is not"));
        }
        if !is_new {
            self.violation("I2", client, &format!("{id} came twice in {room}"));
        }
        if let Some(text) = self.rooms.note_content(message, self.now) {
            self.violation("I5", client, &text);
        }
        if let Some(last) = last
            && let Some(text) = self.note_next(room, &last, position)
        {
            self.violation("I3", client, &text);
        }
    }

    /// Something was missed, and said to be. That may be only where the log was lost.
    fn see_gap(&mut self, client: usize, room: &str, last: Option<&Position>) {
        self.tally.gaps += 1;
        let seen_at = last.and_then(|last| self.rooms.first_seen(room, last));
        let seen_at = seen_at.unwrap_or(Duration::ZERO);
        if !self.was_lost(seen_at, self.now) {
            self.violation("I1", client, &format!("a gap in {room}, whose log was not lost"));
        }
    }

    /// What a client has heard may come again once it was told of a gap: where a log was set back and the same messages are
    /// sent again in the same order, they get the positions that they had. Where they were not lost, it shows in what they
    /// follow on.
    fn forget_lost(&mut self, client: usize, room: &str) {
        let (losses, rooms, now) = (self.losses(), &self.rooms, self.now);
        let is_lost = |position: &Position| {
            rooms.first_seen(room, position).is_some_and(|seen_at| losses.was_lost(seen_at, now))
        };
        let views = self.clients.entry(client).or_default();
        let view = views.entry(room.to_owned()).or_default();
        view.heard.retain(|position| !is_lost(position));
    }

    /// Whether some of the logs was lost between two times.
    fn was_lost(&self, from: Duration, until: Duration) -> bool {
        self.losses().was_lost(from, until)
    }

    fn losses(&self) -> Losses {
        Losses(self.faults.losses(self.durability).collect())
    }

    fn note_next(&mut self, room: &str, last: &str, position: &str) -> Option<String> {
        let losses = self.losses();
        let may = |from, until| losses.was_lost(from, until);
        self.rooms.note_next(room, (last, position), self.now, may)
    }

    fn see_acked(&mut self, client: usize, room: &str, id: &str, position: &Position) {
        self.tally.acked += 1;
        let is_fresh = self.fresh.get(&client).is_some_and(|fresh| fresh.contains(id));
        let view = self.view(client, room);
        if is_fresh && view.cursor.is_some() && !view.heard.contains(position) {
            let text = format!("{id} was acknowledged in {room} before the client heard it");
            self.violation("order", client, &text);
        }
        if let Some(text) = self.rooms.note_acked(room, id, position, self.now) {
            self.violation("I1", client, &text);
        }
        let (at, room, id) = (self.now, room.to_owned(), id.to_owned());
        self.acked.push(Acked { at, room, id, position: position.clone() });
    }

    fn see_log(&mut self, client: usize, room: &str, messages: &[Message]) {
        let mut found = Vec::new();
        for message in messages {
            found.extend(self.rooms.note_content(message, self.now));
        }
        for [one, next] in messages.array_windows() {
            found.extend(self.note_next(room, &one.position, &next.position));
        }
        for text in found {
            self.violation("I3", client, &text);
        }
        let known = self.logs.entry(room.to_owned()).or_insert_with(|| messages.to_vec());
        if known != messages {
            self.violation("I3", client, &format!("two logs of {room}"));
        }
    }

    /// What must be so in the end, when nothing is broken any more.
    fn conclude(&mut self) {
        let lost: Vec<String> = self
            .acked
            .iter()
            .filter(|acked| !self.was_lost(acked.at, self.now))
            .filter(|acked| {
                let log = self.logs.get(&acked.room);
                let is_it = |one: &Message| one.id == acked.id && one.position == acked.position;
                log.is_some_and(|log| log.iter().filter(|one| is_it(one)).count() != 1)
            })
            .map(|acked| format!("I1: {} of {} is acknowledged and lost", acked.id, acked.room))
            .collect();
        self.violations.extend(lost);
        let losses = self.losses();
        for text in self.rooms.doubled(|from, until| losses.was_lost(from, until)) {
            self.violations.push(format!("I2: {text}"));
        }
        if !self.logs.is_empty() {
            self.conclude_rooms();
        }
    }

    fn conclude_rooms(&mut self) {
        for room in ROOMS {
            let end = self.logs.get(room).and_then(|log| log.last());
            let end = end.map(|message| &message.position);
            let mut users = BTreeSet::new();
            for (client, views) in &self.clients {
                let Some(view) = views.get(room).filter(|view| view.is_in) else { continue };
                users.insert(user_of(*client));
                if end.is_some() && view.cursor.as_ref() != end {
                    let text =
                        format!("{room} ends at {end:?}, client {client} at {:?}", view.cursor);
                    self.violations.push(format!("I10: {text}"));
                }
            }
            self.conclude_presence(room, &users);
        }
    }

    fn conclude_presence(&mut self, room: &str, users: &BTreeSet<String>) {
        for (client, views) in &self.clients {
            let view = views.get(room).filter(|view| view.is_in && view.members != *users);
            if let Some(RoomView { members, .. }) = view {
                let text = format!("in {room} are {users:?}, client {client} knows of {members:?}");
                self.violations.push(format!("I6: {text}"));
            }
        }
        for ((client, of), present) in &self.present {
            let is_in = self.clients.get(client).and_then(|views| views.get(room));
            if of == room && is_in.is_some_and(|view| view.is_in) && present != users {
                let text = format!("in {room} are {users:?}, client {client} hears of {present:?}");
                self.violations.push(format!("I6: {text}"));
            }
        }
    }
}

fn host_of(client: usize) -> &'static str {
    CLIENT_HOSTS[client % CLIENT_HOSTS.len()]
}

fn user_of(client: usize) -> String {
    format!("user-{}", client % crate::run::USERS)
}
