//! Takes in a socket that was claimed from another shard or edge, and brings what it was there up to date here.

use std::time::{Duration, Instant};

use proto::edge::v1::Membership;

use super::{
    Missed, Shard,
    brought::{Brought, NoRoom},
    claims::{Found, Rest, Settled, Then},
    elsewhere::settle,
    recoverable::{Doubles, Search},
};
use crate::{
    backend_link::Moves,
    close_reason::CloseReason,
    shard::{NamespaceKey, SocketKey},
    socket::{Socket, Stage},
};

/// For how long after a socket has come here an event may still arrive that it was given elsewhere, where the business
/// service has not acknowledged in time that there is none.
const DOUBLES_TIME: Duration = Duration::from_secs(10);

impl Shard {
    /// A claimed socket has been let in: it is in its rooms from now on.
    pub(in crate::shard) fn begin_arrival(
        &mut self,
        key: SocketKey,
        namespace: NamespaceKey,
        found: Box<Found>,
    ) {
        self.make_recoverable(key, Some(found.wanted.id));
        for Membership { room, position } in &found.claimed.memberships {
            self.rooms.join(namespace, key, room, position);
            self.note_join(key, room);
        }
        let Some(socket) = self.sockets.get_mut(key.index()) else { return };
        let handle = socket.handle;
        socket.stage = Stage::Arriving { found: Some(found) };
        self.wait_for_acknowledgement(handle, namespace, Then::Fetch);
    }

    /// The business service has taken a claimed socket out of a room before it lets it in.
    pub(in crate::shard) fn forget_claimed_membership(&mut self, handle: u64, room: &str) {
        let socket =
            self.socket_by_handle(handle).and_then(|key| self.sockets.get_mut(key.index()));
        if let Some(Socket { stage: Stage::Opening { found: Some(found), .. }, .. }) = socket {
            found.claimed.memberships.retain(|one| one.room != *room);
        }
    }

    /// Fetches the rest of what a socket missed: its business service sends whatever comes from now on here.
    pub(super) fn fetch_rest(&mut self, handle: u64) {
        let socket = self.socket_by_handle(handle).and_then(|key| self.sockets.get(key.index()));
        let Some(Socket { stage: Stage::Arriving { found: Some(found) }, .. }) = socket else {
            return;
        };
        let (place, settlement) = (found.place, found.claimed.settlement);
        let claims = &mut self.recovery.claims;
        let (mailboxes, shard) = (claims.mailboxes.clone(), claims.shard.clone());
        claims.tasks.spawn_local(async move {
            let settled = settle(&mailboxes, place, settlement).await;
            if let Some(shard) = shard.upgrade() {
                shard.borrow_mut().fetched(handle, settled);
            }
        });
    }

    /// Ends what a socket is elsewhere, when its business service does not want it here: its client must not go on there.
    pub(in crate::shard) fn end_elsewhere(&mut self, key: SocketKey) {
        let found = match self.sockets.get(key.index()).map(|socket| &socket.stage) {
            Some(
                Stage::Opening { found: Some(found), .. } | Stage::Arriving { found: Some(found) },
            ) => found,
            Some(
                Stage::Opening { .. }
                | Stage::Arriving { .. }
                | Stage::Live
                | Stage::Suspended { .. },
            )
            | None => return,
        };
        let (place, settlement) = (found.place, found.claimed.settlement);
        let claims = &mut self.recovery.claims;
        let mailboxes = claims.mailboxes.clone();
        claims.tasks.spawn_local(async move {
            // What it missed is of no use to anybody.
            drop(settle(&mailboxes, place, settlement).await);
        });
    }

    /// The other place has given all that it had. Without that the claim is void: another one came after it, or the other
    /// shard has ended, and the client must try again.
    ///
    /// Some of it was emitted to the socket here too, and may still be on its way: this link need not be as fast as the
    /// other one. It has come when the business service has acknowledged what it is told now.
    fn fetched(&mut self, handle: u64, settled: Option<Settled>) {
        let Some(key) = self.socket_by_handle(handle) else { return };
        let Some(socket) = self.sockets.get_mut(key.index()) else { return };
        let connection = socket.connection;
        let Some(mut settled) = settled else {
            return self.close(connection, CloseReason::Replaced);
        };
        let Stage::Arriving { found } = &mut socket.stage else { return };
        if let (Some(found), Settled::Moved(rest)) = (&mut *found, &mut settled)
            && found.share.add(&mut rest.missed, found.place) == Err(NoRoom)
        {
            self.common.metrics.recovered("no_room");
            return self.close(connection, CloseReason::Replaced);
        }
        let Some(found) = found.take() else { return };
        let Rest { missed: rest, memberships } = match settled {
            Settled::Moved(rest) => rest,
            Settled::Disconnected { close_connection } => {
                return self.disconnected(key, close_connection);
            }
        };
        let Found { wanted, claimed, share, .. } = *found;
        let offset = wanted.offset.map(String::into_boxed_str);
        let logged = rest.iter().filter(|one| one.is_logged).map(|one| one.fingerprint).collect();
        let missed = claimed.missed.into_iter().chain(rest.iter().cloned()).collect();
        if let Some(recoverable) = &mut socket.recoverable {
            let (brought, numbers) = (Brought { missed, share }, Vec::new());
            recoverable.bring(offset.clone(), brought, Doubles { numbers, logged });
        }
        let (namespace, identity) = (socket.namespace, socket.identity.clone());
        let moves = self.move_as_elsewhere(key, &claimed.memberships, memberships);
        self.recovery.doubles_until = Some(Instant::now() + DOUBLES_TIME);
        if let Some(link) = self.link_of(namespace) {
            link.socket_resumed(handle, identity.as_deref(), moves);
        }
        self.wait_for_acknowledgement(handle, namespace, Then::GoOn { offset, rest });
    }

    /// Has a socket join and leave what it joined and left elsewhere after it was claimed, and stand where it came to stand
    /// there; returns what it joined and left.
    fn move_as_elsewhere(
        &mut self,
        key: SocketKey,
        before: &[Membership],
        after: Vec<Membership>,
    ) -> Moves {
        let is_in = |rooms: &[Membership], one: &Membership| {
            rooms.iter().any(|other| other.room == one.room)
        };
        let left = before.iter().filter(|one| !is_in(&after, one)).map(|one| one.room.clone());
        let left: Vec<String> = left.collect();
        let (stayed, joined): (Vec<_>, Vec<_>) =
            after.into_iter().partition(|one| is_in(before, one));
        let Some(namespace) = self.sockets.get(key.index()).map(|socket| socket.namespace) else {
            return Moves::default();
        };
        for Membership { room, position } in &stayed {
            // Where the room has gone on here, it has for this socket as well.
            let stands_as_claimed = self.rooms.rooms_of(key).any(|(name, standing)| {
                before
                    .iter()
                    .any(|one| one.room == *room && one.room == name && one.position == standing)
            });
            if stands_as_claimed {
                self.rooms.advance_one(namespace, room, key, position);
            }
        }
        for Membership { room, position } in &joined {
            self.rooms.join(namespace, key, room, position);
            self.note_join(key, room);
        }
        for room in &left {
            self.rooms.leave(namespace, key, room);
            let recoverable =
                self.sockets.get_mut(key.index()).and_then(|one| one.recoverable.as_mut());
            if let Some(recoverable) = recoverable {
                recoverable.was_never_in(room);
            }
        }
        Moves { joined, left }
    }

    /// Lets a socket go on here, unless its client has been lost meanwhile: then it waits for it.
    pub(super) fn arrived(&mut self, handle: u64, offset: Option<&str>, rest: &[Missed]) {
        let Some(key) = self.socket_by_handle(handle) else { return };
        let Some(socket) = self.sockets.get(key.index()) else { return };
        let Some(log) = self.recovery.log(socket.namespace) else { return };
        let Some(recoverable) = &socket.recoverable else { return };
        let numbers = recoverable.doubles(&Search::of(socket, log, None), rest);
        let Some(socket) = self.sockets.get_mut(key.index()) else { return };
        if let Some(recoverable) = &mut socket.recoverable {
            recoverable.note_doubles(numbers);
        }
        if !matches!(socket.stage, Stage::Arriving { .. }) {
            return;
        }
        socket.stage = Stage::Live;
        let connection = socket.connection;
        let Some(socket) = self.sockets.get(key.index()) else { return };
        match self.missed_by(socket, offset, None) {
            Some(missed) => self.go_on(key, &missed),
            None => self.close(connection, CloseReason::SlowConsumer),
        }
    }
}
