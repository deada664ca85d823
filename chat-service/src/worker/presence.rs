//! Tells rooms who comes and goes: at once, after a grace, or by number.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use tokio::time::Instant;

use super::{Worker, fan_out::Cause};
use crate::{
    client_view::{self, Members},
    room::{Joined, Left, Notice, NoticeDue, Parting, Room},
    room_key::RoomKey,
    room_log::RoomLog,
    socket::SocketKey,
    user::User,
};

/// How often a room is told how many are there, or who.
const NOTICE_INTERVAL: Duration = Duration::from_secs(1);

/// Most users and bytes of profiles in one notice of who has left.
const NOTICE_USERS_MAX: usize = 500;
const NOTICE_BYTES_MAX: usize = 64 * 1024;

/// About how much is told in one turn: rooms, and bytes to all their sockets. When many rooms are due at once, as when an
/// edge is lost, the links must keep up with what comes of it.
const TURN_ROOMS_MAX: usize = 256;
const TURN_BYTES_MAX: usize = 1024 * 1024;
const TURN_PAUSE: Duration = Duration::from_millis(20);

/// How presence is told.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PresenceTerms {
    /// How long a user is still seen whose last socket was lost.
    pub(crate) grace: Duration,
    /// Up to how many users a room is told who comes and goes.
    pub(crate) list_max: usize,
    /// Until then, edges may come back that a life of this service before this one has known.
    pub(crate) settled_at: Instant,
}

/// What rooms are to be told later. Each queue is in the order of its times.
#[derive(Debug)]
pub(super) struct Agenda {
    terms: PresenceTerms,
    partings: VecDeque<(Instant, RoomKey, Arc<User>)>,
    notices: VecDeque<(Instant, RoomKey)>,
    /// Rooms with notices that are due when edges have had the time to come back.
    unsettled: VecDeque<RoomKey>,
    rests_until: Option<Instant>,
}

/// What is left of a turn.
#[derive(Debug)]
struct Turn {
    rooms: usize,
    bytes: usize,
}

impl Agenda {
    pub(super) fn new(terms: PresenceTerms) -> Self {
        Self {
            terms,
            partings: VecDeque::new(),
            notices: VecDeque::new(),
            unsettled: VecDeque::new(),
            rests_until: None,
        }
    }

    /// When every edge that is still there has said who is with it.
    pub(super) fn settled_at(&self) -> Instant {
        self.terms.settled_at
    }

    pub(super) fn list_max(&self) -> usize {
        self.terms.list_max
    }

    /// How a user goes that has not said so.
    pub(super) fn parting(&self, now: Instant) -> Parting {
        if self.terms.grace.is_zero() {
            return Parting::Final;
        }
        Parting::Until(now + self.terms.grace)
    }

    /// When something is due next.
    pub(super) fn next_at(&self) -> Option<Instant> {
        let parting = self.partings.front().map(|(at, ..)| *at);
        let notice = self.notices.front().map(|(at, _)| *at);
        let settled = (!self.unsettled.is_empty()).then_some(self.terms.settled_at);
        let next = [parting, notice, settled].into_iter().flatten().min()?;
        Some(self.rests_until.map_or(next, |rest| next.max(rest)))
    }

    /// Notes users that are to be gone at once, as far as a turn allows.
    pub(super) fn note_gone(&mut self, room: &RoomKey, users: Vec<Arc<User>>, now: Instant) {
        for user in users.into_iter().rev() {
            self.partings.push_front((now, room.clone(), user));
        }
    }

    /// The partings that are due, by room.
    fn due_partings(&mut self, now: Instant) -> HashMap<RoomKey, Vec<(Instant, Arc<User>)>> {
        let mut due: HashMap<RoomKey, Vec<_>> = HashMap::new();
        while due.len() < TURN_ROOMS_MAX
            && let Some((until, room, user)) = self.partings.pop_front_if(|(at, ..)| *at <= now)
        {
            due.entry(room).or_default().push((until, user));
        }
        due
    }

    /// The next notice that is due.
    fn due_notice(&mut self, now: Instant) -> Option<(Instant, RoomKey)> {
        let settled_at = self.terms.settled_at;
        let settled = if settled_at <= now { self.unsettled.pop_front() } else { None };
        settled
            .map(|room| (settled_at, room))
            .or_else(|| self.notices.pop_front_if(|(at, _)| *at <= now))
    }
}

impl Turn {
    fn spend(&mut self, bytes: usize) {
        self.rooms = self.rooms.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    fn is_over(&self) -> bool {
        self.rooms == 0 || self.bytes == 0
    }
}

impl<L: RoomLog> Worker<L> {
    /// Does what is due, and no more than the links can take.
    pub(super) fn handle_due(&mut self, now: Instant) {
        let mut turn = Turn { rooms: TURN_ROOMS_MAX, bytes: TURN_BYTES_MAX };
        for (key, partings) in self.agenda.due_partings(now) {
            let Some(room) = self.rooms.get_mut(&key) else { continue };
            let gone = partings.iter().filter_map(|(at, user)| room.handle_grace_over(user, *at));
            let gone: Vec<_> = gone.collect();
            if !gone.is_empty() {
                turn.spend(self.handle_gone(&key, &gone, &mut Cause::Other(String::new())));
            }
            self.drop_if_empty(&key);
        }
        while !turn.is_over()
            && let Some((at, key)) = self.agenda.due_notice(now)
        {
            let due = self.rooms.get_mut(&key).and_then(|room| room.handle_notice_due(at));
            if let Some(due) = due {
                turn.spend(self.tell_all(&key, due));
            }
        }
        self.agenda.rests_until = turn.is_over().then(|| now + TURN_PAUSE);
    }

    /// Tells a room who has joined: all of it, but for the socket that is told with its answer.
    pub(super) fn tell_joined(
        &mut self,
        key: &RoomKey,
        user: &User,
        except: Option<SocketKey>,
        cause: &mut Cause<'_>,
    ) {
        if let Some(count) = self.count_to_tell(key) {
            let args = client_view::presence(key.name_for_clients(), &[user], &[], count);
            self.fan_out_presence(key, args, except, cause);
        }
    }

    /// Does what comes of a socket that has come back into a room, after its link has lost its life or this service all
    /// state. It has not been told what happened meanwhile. In the latter case nobody is told of it now: for the others it
    /// was there all along.
    pub(super) fn handle_restored(
        &mut self,
        key: &RoomKey,
        (joined, user): (&Joined, &User),
        cause: &mut Cause<'_>,
    ) {
        if key.is_inbox() {
            return;
        }
        let now = Instant::now();
        let settled_at = self.agenda.terms.settled_at;
        let is_settled = now >= settled_at;
        if is_settled && *joined == Joined::User {
            self.tell_joined(key, user, None, cause);
        }
        let due_at = if is_settled { now + NOTICE_INTERVAL } else { settled_at };
        let owed = self.rooms.get_mut(key).map(|room| room.owe_notice(due_at));
        match owed {
            Some(Notice::Due) if is_settled => {
                self.agenda.notices.push_back((due_at, key.clone()));
            }
            Some(Notice::Due) => self.agenda.unsettled.push_back(key.clone()),
            Some(Notice::Now | Notice::Awaited) | None => {}
        }
    }

    /// Does what comes of a socket that has left a room, or has lost its client there.
    pub(super) fn handle_left(&mut self, key: &RoomKey, left: Left, cause: &mut Cause<'_>) {
        match left {
            Left::Never | Left::Socket => {}
            Left::Going { user, until } => {
                self.agenda.partings.push_back((until, key.clone(), user));
            }
            Left::User(user) => {
                self.handle_gone(key, &[user], cause);
            }
        }
        self.drop_if_empty(key);
    }

    /// Does what comes of users that are seen no more. Returns how many bytes were told.
    fn handle_gone(&mut self, key: &RoomKey, users: &[Arc<User>], cause: &mut Cause<'_>) -> usize {
        if let Some(events) = self.namespaces.events(key.namespace()) {
            self.retained.forget_users(key, events, users);
        }
        self.tell_left(key, users, cause)
    }

    /// Who is in a room, for a socket that comes into it.
    pub(super) fn members<'a>(&self, key: &RoomKey, room: &'a Room) -> Members<'a> {
        if key.is_inbox() {
            return Members::Listed(Vec::new());
        }
        if room.is_counted() {
            return Members::Counted(room.user_count());
        }
        let users = room.users().map(|(user, _)| user);
        Members::Listed(client_view::listed_profiles(users, self.agenda.list_max()))
    }

    /// Tells a room who has left, in as few notices as their size allows. Returns how many bytes were told.
    fn tell_left(&mut self, key: &RoomKey, users: &[Arc<User>], cause: &mut Cause<'_>) -> usize {
        let Some(count) = self.count_to_tell(key) else { return 0 };
        let mut told_bytes = 0;
        let mut rest = users;
        while !rest.is_empty() {
            let mut bytes = 0;
            let fitting = rest.iter().take(NOTICE_USERS_MAX).take_while(|user| {
                bytes += user.profile().get().len();
                bytes <= NOTICE_BYTES_MAX
            });
            let (told, untold) = rest.split_at(fitting.count().max(1));
            let told: Vec<&User> = told.iter().map(Arc::as_ref).collect();
            let args = client_view::presence(key.name_for_clients(), &[], &told, count);
            told_bytes += self.bytes_to_all(key, &args);
            self.fan_out_presence(key, args, None, cause);
            rest = untold;
        }
        told_bytes
    }

    /// Tells a room how many or who is there. Returns how many bytes were told.
    fn tell_all(&mut self, key: &RoomKey, due: NoticeDue) -> usize {
        let Some(room) = self.rooms.get(key) else { return 0 };
        let args = match due {
            NoticeDue::Count => {
                client_view::presence_count(key.name_for_clients(), room.user_count())
            }
            NoticeDue::List => {
                let users = room.users().map(|(user, _)| user);
                let users = client_view::listed_profiles(users, self.agenda.list_max());
                client_view::presence_list(key.name_for_clients(), &users)
            }
        };
        let bytes = self.bytes_to_all(key, &args);
        self.fan_out_presence(key, args, None, &mut Cause::Other(String::new()));
        bytes
    }

    /// How many users there are, if who has come or gone is to be told now. A user's devices are not told of each other.
    fn count_to_tell(&mut self, key: &RoomKey) -> Option<usize> {
        if key.is_inbox() {
            return None;
        }
        let due_at = Instant::now() + NOTICE_INTERVAL;
        let room = self.rooms.get_mut(key)?;
        match room.note_change(due_at) {
            Notice::Now => return Some(room.user_count()),
            Notice::Due => self.agenda.notices.push_back((due_at, key.clone())),
            Notice::Awaited => {}
        }
        None
    }

    fn bytes_to_all(&self, key: &RoomKey, args: &Bytes) -> usize {
        self.rooms.get(key).map_or(0, |room| room.socket_count() * args.len())
    }
}

#[cfg(test)]
mod tests;
