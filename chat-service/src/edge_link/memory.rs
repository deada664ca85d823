//! Finds the socket again that a client had on an edge that is lost.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::{frame::Reentry, outbox::Outbox};
use crate::{
    room_key::RoomKey,
    room_log::Position,
    socket::{RecoveryKey, Socket, SocketKey},
    user::User,
};

/// Most sockets of lost edges that wait for their clients. When there are more, those that have waited longest go.
const LOST_MAX: usize = 65_536;

/// Longest time that a client may take to come back.
const WINDOW_MAX: Duration = Duration::from_secs(3600);

/// The sockets whose clients may ask for them at another edge.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// Held for a few lines at a time, never across an await.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    known: HashMap<RecoveryKey, Known>,
    /// Those of lost edges, in the order in which they were lost.
    lost: VecDeque<(Instant, RecoveryKey, SocketKey)>,
}

#[derive(Debug)]
struct Known {
    socket: Arc<Socket>,
    outbox: Outbox,
    /// Until when it waits for its client, if its edge is lost.
    until: Option<Instant>,
}

/// A socket as it was.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Recalled {
    pub(super) key: SocketKey,
    pub(super) id: Arc<str>,
    /// Its rooms, and what it was given of them.
    pub(super) rooms: Vec<(RoomKey, Position)>,
}

impl Memory {
    /// Keeps a socket in mind whose client may come back; it may be the next life of one that is known.
    pub(super) fn keep(&self, socket: &Arc<Socket>, outbox: &Outbox) {
        let Some(recovery) = &socket.recovery else { return };
        outbox.follow(socket.key.handle);
        let known = Known { socket: Arc::clone(socket), outbox: outbox.clone(), until: None };
        self.state().known.insert(recovery.key, known);
    }

    /// Its client will not come back, or it has another life.
    pub(super) fn forget(&self, socket: &Socket) {
        let Some(recovery) = &socket.recovery else { return };
        let mut state = self.state();
        if state.known.get(&recovery.key).is_some_and(|known| known.socket.key == socket.key) {
            state.known.remove(&recovery.key);
        }
    }

    /// Its edge is lost: it waits for its client.
    pub(super) fn note_lost(&self, socket: &Socket, now: Instant) {
        let Some(recovery) = &socket.recovery else { return };
        let mut state = self.state();
        state.forget_old(now);
        let Some(known) = state.known.get_mut(&recovery.key) else { return };
        if known.socket.key == socket.key {
            let until = now + recovery.window.min(WINDOW_MAX);
            known.until = Some(until);
            state.lost.push_back((until, recovery.key, socket.key));
        }
    }

    /// The socket that a client asks for, if it is its own and it is known what it was given.
    pub(super) fn recall(
        &self,
        reentry: &Reentry,
        (namespace, user): (&str, &User),
        now: Instant,
    ) -> Option<Recalled> {
        let (socket, outbox) = {
            let mut state = self.state();
            state.forget_old(now);
            let known = state.known.get(&reentry.key)?;
            if known.until.is_some_and(|until| until <= now) {
                return None;
            }
            (Arc::clone(&known.socket), known.outbox.clone())
        };
        let is_own = *socket.namespace == *namespace && socket.user.is_same(user);
        let has_seen_nothing = reentry.memory == 0 && reentry.delivered == 0;
        if !is_own || !(has_seen_nothing || outbox.memory() == reentry.memory) {
            return None;
        }
        let rooms = outbox.standing_of(socket.key.handle, reentry.delivered)?;
        Some(Recalled { key: socket.key, id: Arc::clone(&socket.id), rooms })
    }

    /// A panic under the lock would leave the state whole: each change is one call on a map or a queue.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn forget_old(&mut self, now: Instant) {
        while let Some((until, key, socket)) = self.lost.front().copied()
            && (until <= now || self.lost.len() > LOST_MAX)
        {
            self.lost.pop_front();
            if self.known.get(&key).is_some_and(|known| known.socket.key == socket) {
                self.known.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::socket::{LinkKey, Recovery};

    const WINDOW: Duration = Duration::from_secs(60);
    /// That of the first link.
    const MEMORY: u32 = 1;

    fn user(subject: &str, issuer: &str) -> User {
        User::parse(subject, issuer, b"{}").unwrap()
    }

    fn socket(link: u64) -> Arc<Socket> {
        let key = SocketKey { link: LinkKey(link), handle: 1 };
        let recovery = Recovery { key: RecoveryKey([1; 32]), window: WINDOW };
        let socket = Socket::new(key, "public".into(), "/chat".into(), user("ann", "test"));
        Arc::new(socket.with_recovery(Some(recovery)))
    }

    fn reentry(memory: u32, delivered: u64) -> Reentry {
        Reentry { key: RecoveryKey([1; 32]), memory, delivered }
    }

    /// Ann, in one room.
    fn known() -> (Memory, Outbox, Arc<Socket>) {
        let (memory, outbox, socket) = (Memory::default(), Outbox::new(LinkKey(1)), socket(1));
        memory.keep(&socket, &outbox);
        let room = RoomKey::parse("/chat", "a").unwrap();
        outbox.enter(1, room, Some(Position::start(1)));
        (memory, outbox, socket)
    }

    fn is_recalled(memory: &Memory, reentry: &Reentry, who: (&str, &User), now: Instant) -> bool {
        memory.recall(reentry, who, now).is_some()
    }

    #[test]
    fn only_its_own_client_finds_a_socket_and_with_what_that_life_has_given_it() {
        let (memory, _, socket) = known();
        let (now, ann) = (Instant::now(), user("ann", "test"));

        let recalled = memory.recall(&reentry(MEMORY, 0), ("/chat", &ann), now).unwrap();
        assert_eq!((recalled.key, &*recalled.id, recalled.rooms.len()), (socket.key, "public", 1));
        assert!(is_recalled(&memory, &reentry(0, 0), ("/chat", &ann), now), "it has seen nothing");

        for (who, what) in [(user("bob", "test"), MEMORY), (user("ann", "other"), MEMORY)] {
            assert!(!is_recalled(&memory, &reentry(what, 0), ("/chat", &who), now));
        }
        assert!(!is_recalled(&memory, &reentry(MEMORY, 0), ("/", &ann), now));
        assert!(!is_recalled(&memory, &reentry(MEMORY + 1, 0), ("/chat", &ann), now));
        assert!(!is_recalled(&memory, &reentry(0, 1), ("/chat", &ann), now));
        assert!(!is_recalled(&memory, &reentry(MEMORY, 1), ("/chat", &ann), now));
        let other = Reentry { key: RecoveryKey([2; 32]), ..reentry(MEMORY, 0) };
        assert!(!is_recalled(&memory, &other, ("/chat", &ann), now));
    }

    #[test]
    fn a_lost_socket_is_known_for_its_window_and_one_that_has_ended_is_not() {
        let (memory, _, socket) = known();
        let (now, ann) = (Instant::now(), user("ann", "test"));
        let finds = |at| is_recalled(&memory, &reentry(MEMORY, 0), ("/chat", &ann), at);

        memory.note_lost(&socket, now);
        assert!(finds(now + WINDOW / 2));
        assert!(!finds(now + WINDOW));

        let (memory, _, socket) = known();
        memory.forget(&socket);
        assert!(!is_recalled(&memory, &reentry(MEMORY, 0), ("/chat", &ann), now));
    }

    #[test]
    fn the_end_of_an_earlier_life_does_not_end_the_next() {
        let (memory, _, earlier) = known();
        let (now, ann) = (Instant::now(), user("ann", "test"));
        let later = Outbox::new(LinkKey(2));
        memory.keep(&socket(2), &later);

        memory.forget(&earlier);
        memory.note_lost(&earlier, now);

        let at = now + 2 * WINDOW;
        assert!(!is_recalled(&memory, &reentry(MEMORY, 0), ("/chat", &ann), at));
        assert!(is_recalled(&memory, &reentry(MEMORY + 1, 0), ("/chat", &ann), at));
    }
}
