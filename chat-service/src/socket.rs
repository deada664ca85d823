//! One socket of an edge: where it is, who it speaks for, and how many rooms it is in.

use std::{
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use crate::{
    declared_events::DeclaredEvents,
    room_key::{Realm, RoomKey},
    room_rules::{Capabilities, Deed, RoomRules},
    user::User,
};

/// In how many rooms one socket may be.
pub(crate) const ROOMS_PER_SOCKET_MAX: u32 = 256;

/// One life of an edge link: from a stream that was not resumed to the next such stream, or to the end of the grace.
/// Never given out twice by one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct LinkKey(pub(crate) u64);

/// A socket among all sockets of all links.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct SocketKey {
    pub(crate) link: LinkKey,
    /// The edge's own name for it.
    pub(crate) handle: u64,
}

/// A hash of what a client calls its socket by, which only that client knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct RecoveryKey(pub(crate) [u8; 32]);

/// What it takes to come back to a socket whose edge is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Recovery {
    pub(crate) key: RecoveryKey,
    /// How long the client may take.
    pub(crate) window: Duration,
}

#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) key: SocketKey,
    /// What others know it by, whatever link it is on.
    pub(crate) id: Arc<str>,
    pub(crate) namespace: Arc<str>,
    pub(crate) user: Arc<User>,
    /// Those that its namespace declares, if it does.
    pub(crate) events: Option<Arc<DeclaredEvents>>,
    /// Those that its namespace has for rooms.
    rules: Arc<RoomRules>,
    /// What its token says that its user may do. Its client may bring another token.
    capabilities: RwLock<Arc<Capabilities>>,
    /// Where its client may come back.
    pub(crate) recovery: Option<Box<Recovery>>,
    /// Its rooms lie with several workers; the count is what they share.
    rooms: AtomicU32,
    /// The registry has other sockets of its realm whose users have this subject.
    has_namesakes: AtomicBool,
}

impl Socket {
    /// One whose user may do nothing yet.
    pub(crate) fn new(key: SocketKey, id: Arc<str>, namespace: Arc<str>, user: User) -> Self {
        let (rules, capabilities) = (Arc::default(), RwLock::default());
        Self {
            key,
            id,
            namespace,
            user: Arc::new(user),
            events: None,
            rules,
            capabilities,
            recovery: None,
            rooms: AtomicU32::new(0),
            has_namesakes: AtomicBool::new(false),
        }
    }

    pub(crate) fn with_events(self, events: Option<Arc<DeclaredEvents>>) -> Self {
        Self { events, ..self }
    }

    pub(crate) fn with_rules(self, rules: Arc<RoomRules>, capabilities: Arc<Capabilities>) -> Self {
        Self { rules, capabilities: RwLock::new(capabilities), ..self }
    }

    /// One whose user may do everything.
    #[cfg(test)]
    pub(crate) fn in_open_rooms(self) -> Self {
        self.with_rules(RoomRules::of_others(true), Arc::default())
    }

    pub(crate) fn with_recovery(self, recovery: Option<Recovery>) -> Self {
        Self { recovery: recovery.map(Box::new), ..self }
    }

    /// Where the names that it says are looked up.
    pub(crate) fn realm(&self) -> Realm<'_> {
        Realm { tenant: self.user.tenant(), namespace: &self.namespace }
    }

    /// The room that an edge names and says that the socket is, or was, in: one of its tenant.
    pub(crate) fn room_for_edges(&self, name: &str) -> Option<RoomKey> {
        let room = RoomKey::parse(&self.namespace, name).ok()?;
        room.is_in(self.realm()).then_some(room)
    }

    /// Its user's inbox, if it has one.
    pub(crate) fn inbox(&self) -> Option<RoomKey> {
        self.events.as_ref()?.inboxes.of(&self.namespace, &self.user)
    }

    /// Whether its user may be in a room: in none of another tenant, in no inbox but its own, and where the rules say so.
    pub(crate) fn may_be_in(&self, room: &RoomKey) -> bool {
        let is_anothers = room.is_inbox() && self.inbox().as_ref() != Some(room);
        room.is_in(self.realm()) && !is_anothers && self.may(Deed::Join, room)
    }

    /// Whether its user may do this in a room. Inboxes have no rules: each is its own user's.
    pub(crate) fn may(&self, deed: Deed<'_>, room: &RoomKey) -> bool {
        room.is_inbox() || self.is_allowed(deed, room.name_for_clients())
    }

    /// Whether its user might be in a room and read what was said there before, if that were what it may do.
    pub(crate) fn might_look_back(&self, capabilities: &Capabilities, room: &RoomKey) -> bool {
        let (who, name) = ((&*self.user, capabilities), room.name_for_clients());
        let allows = |deed| self.rules.allow(who, deed, name);
        room.is_inbox() || allows(Deed::Join) && allows(Deed::History)
    }

    /// Whether its user may send an event that goes to no room: to users wherever they are, or into their inboxes.
    pub(crate) fn may_send_directly(&self, event: &str) -> bool {
        self.is_allowed(Deed::Publish(event), "")
    }

    fn is_allowed(&self, deed: Deed<'_>, room: &str) -> bool {
        // A panic under the lock would leave what it holds whole.
        let capabilities = self.capabilities.read().unwrap_or_else(PoisonError::into_inner);
        self.rules.allow((&self.user, &capabilities), deed, room)
    }

    /// Its user may do this from now on, and no longer what it could; tells whether that is another thing.
    pub(crate) fn set_capabilities(&self, capabilities: Arc<Capabilities>) -> bool {
        let mut current = self.capabilities.write().unwrap_or_else(PoisonError::into_inner);
        let is_other = !Arc::ptr_eq(&current, &capabilities);
        *current = capabilities;
        is_other
    }

    pub(crate) fn has_namesakes(&self) -> bool {
        self.has_namesakes.load(Ordering::Acquire)
    }

    /// Says whether it has namesakes, which is the registry's business.
    pub(crate) fn set_namesakes(&self, has_namesakes: bool) {
        self.has_namesakes.store(has_namesakes, Ordering::Release);
    }

    /// Counts one more room, unless it is in as many as it may.
    #[must_use]
    pub(crate) fn take_room(&self) -> bool {
        self.rooms
            .try_update(Ordering::Relaxed, Ordering::Relaxed, |count| {
                (count < ROOMS_PER_SOCKET_MAX).then_some(count + 1)
            })
            .is_ok()
    }

    /// Counts a room that it was in already, with an earlier life of its link.
    pub(crate) fn keep_room(&self) {
        self.rooms.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn give_room_back(&self) {
        self.rooms.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_in_at_most_256_rooms() {
        let key = SocketKey { link: LinkKey(1), handle: 1 };
        let socket =
            Socket::new(key, "x".into(), "/".into(), User::parse("ann", "test", b"{}").unwrap());

        assert!((0..ROOMS_PER_SOCKET_MAX).all(|_| socket.take_room()));
        assert!(!socket.take_room());

        socket.give_room_back();
        assert!(socket.take_room());
    }
}
