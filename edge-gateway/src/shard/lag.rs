//! Clients that do not keep up: what can be had again from the rooms' logs is left out for them, and asked for once they have
//! read what waits.
//!
//! ```text
//!            a logged event is left out            most of what waits is read
//!   even ──────────────────────────────► behind ────────────────────────────► catching up
//!    ▲                                    ▲ ▲                                  │  │
//!    │                                    │ └────── a part of what it missed ──┘  │
//!    └──────────────── all of it, in all rooms ───────────────────────────────────┘
//! ```

use std::{collections::HashMap, time::Instant};

use foldhash::fast::FixedState;
use proto::edge::v1::{CatchUp, Refill};

use super::{ConnectionKey, LinkKey, NamespaceKey, Shard, SocketKey};
use crate::{
    close_reason::CloseReason,
    connection::{Connection, Pace},
    socket::{Socket, Stage},
};

/// The connections of a shard whose clients are behind.
pub(super) type Laggards = HashMap<ConnectionKey, Progress, FixedState>;

/// When a client that is behind has last come on.
#[derive(Debug)]
pub(super) struct Progress {
    at: Instant,
    taken_bytes: u64,
    /// The business service that has been asked for what it missed.
    asked: Option<LinkKey>,
}

/// What came of a part of what a socket missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Given {
    All,
    /// The client does not take more now.
    Some,
    Nothing,
}

impl Shard {
    /// Leaves a socket where it stands in a room: an event with a position is not given to it.
    pub(super) fn fall_behind(&mut self, namespace: NamespaceKey, room: &str, key: SocketKey) {
        self.rooms.fall_behind(namespace, room, key);
        let now = Instant::now();
        self.note_lag(key, now);
        let Some(connection) = self.sockets.get(key.index()).map(|socket| socket.connection) else {
            return;
        };
        let Some(entry) = self.entry(connection) else { return };
        if entry.connection.pace() == Pace::Even {
            entry.connection.set_pace(Pace::Behind);
            let taken_bytes = entry.connection.taken_bytes();
            self.laggards.insert(connection, Progress { at: now, taken_bytes, asked: None });
            self.common.metrics.lag.connections.increment(1.0);
        }
    }

    /// A client that is behind has read enough to be given what it missed.
    pub(crate) fn drained(&mut self, key: ConnectionKey) {
        let Some(entry) = self.entry(key) else { return };
        let bytes_max = u32::try_from(entry.connection.refillable_bytes()).unwrap_or(u32::MAX);
        let sockets = entry.wire.sockets();
        let lags =
            sockets.iter().find_map(|socket| Some((*socket, self.rooms.first_lag(*socket)?)));
        let Some((socket, behind)) = lags else { return self.keeps_up(key) };
        let Some(Socket { handle, namespace, .. }) = self.sockets.get(socket.index()) else {
            return;
        };
        let (handle, namespace) = (*handle, *namespace);
        let Some(link) = self.namespaces.get(namespace.index()).map(|one| one.link) else { return };

        let catch_up = CatchUp { room: behind.room, position: behind.position, bytes_max };
        if let Some(link) = self.links.get_mut(link.0) {
            link.catch_up(handle, catch_up);
        }
        self.set_pace(key, Pace::CatchingUp, Some(link));
    }

    /// Nothing is left that the client missed.
    fn keeps_up(&mut self, key: ConnectionKey) {
        if let Some(entry) = self.entry(key) {
            entry.connection.set_pace(Pace::Even);
        }
        if self.laggards.remove(&key).is_some() {
            self.common.metrics.lag.connections.decrement(1.0);
        }
    }

    fn set_pace(&mut self, key: ConnectionKey, pace: Pace, asked: Option<LinkKey>) {
        let Some(entry) = self.entry(key) else { return };
        entry.connection.set_pace(pace);
        let taken_bytes = entry.connection.taken_bytes();
        self.laggards.insert(key, Progress { at: Instant::now(), taken_bytes, asked });
    }

    /// Waits for a client that is behind to read what waits, unless it has.
    fn wait_for_drain(&mut self, key: ConnectionKey, pace: Pace) {
        self.set_pace(key, pace, None);
        if self.entry(key).is_some_and(|entry| entry.connection.is_drained()) {
            self.drained(key);
        }
    }

    /// Gives a socket a part of what it missed.
    pub(super) fn refill(&mut self, refill: &Refill) {
        let Some(key) = self.socket_by_handle(refill.socket) else { return };
        let Some(socket) = self.sockets.get(key.index()) else { return };
        let (connection, namespace) = (socket.connection, socket.namespace);
        if !matches!(socket.stage, Stage::Live) {
            return;
        }
        let lag = self.rooms.lag_of(namespace, &refill.room, key);
        let given = if lag == Some(&refill.after) {
            self.common.metrics.lag.refills.increment(1);
            self.note_given_to(key);
            self.give(key, namespace, refill)
        } else {
            // The socket has left the room meanwhile, or joined it again.
            Given::Some
        };
        if given == Given::All && refill.more {
            self.rooms.advance_lag(namespace, &refill.room, key, &refill.position);
        } else if given == Given::All {
            self.rooms.end_lag(namespace, &refill.room, key, &refill.position);
            self.common.metrics.lag.caught_up.increment(1);
            self.note_no_lag(key);
        }
        let is_asked = |connection: &Connection| connection.pace() == Pace::CatchingUp;
        if self.entry(connection).is_some_and(|entry| is_asked(&entry.connection)) {
            let pace = if given == Given::Nothing { Pace::FarBehind } else { Pace::Behind };
            self.wait_for_drain(connection, pace);
        }
    }

    fn give(&mut self, key: SocketKey, namespace: NamespaceKey, refill: &Refill) -> Given {
        for (number, emit) in refill.events.iter().enumerate() {
            match self.write_again(key, namespace, emit) {
                Ok(outcome) if !outcome.behind.is_empty() => {
                    return if number > 0 { Given::Some } else { Given::Nothing };
                }
                Ok(outcome) => {
                    self.common.metrics.deliveries.increment(u64::from(outcome.recipients));
                    if let Some(connection) = outcome.overflowed.first() {
                        self.close(*connection, CloseReason::SlowConsumer);
                        return Given::Some;
                    }
                }
                Err(_) => self.bad_instruction("refill with args that are no JSON list"),
            }
            self.rooms.advance_lag(namespace, &refill.room, key, &emit.position);
        }
        Given::All
    }

    /// Puts a socket into a room, or lets one that is in it go on from here.
    pub(super) fn stand_at(
        &mut self,
        namespace: NamespaceKey,
        key: SocketKey,
        room: &str,
        position: &str,
    ) {
        self.rooms.join(namespace, key, room, position);
        self.note_no_lag(key);
        self.note_given_to(key);
    }

    /// Notes, for when it comes back, that a socket is not behind any more, if so.
    pub(super) fn note_no_lag(&mut self, key: SocketKey) {
        if self.rooms.first_lag(key).is_none() {
            self.note_caught_up(key, Instant::now());
        }
    }

    /// A socket has gone, and with it what it missed.
    pub(super) fn go_on_without(&mut self, connection: ConnectionKey) {
        if self.laggards.get(&connection).is_some_and(|progress| progress.asked.is_some()) {
            self.wait_for_drain(connection, Pace::Behind);
        }
    }

    /// A business service starts anew: it gives the sockets what they missed without being asked.
    pub(super) fn forget_lags(&mut self, link: LinkKey) {
        let namespaces = &self.namespaces;
        let is_one = |namespace: NamespaceKey| {
            namespaces.get(namespace.index()).is_some_and(|one| one.link == link)
        };
        for socket in self.rooms.end_lags(is_one) {
            self.note_given_again(socket);
        }
        let asked = self.laggards.iter().filter(|(_, progress)| progress.asked == Some(link));
        let asked: Vec<_> = asked.map(|(key, _)| *key).collect();
        for key in asked {
            self.wait_for_drain(key, Pace::Behind);
        }
    }

    /// Closes the connections whose clients are behind and take nothing.
    pub(super) fn close_stalled(&mut self, now: Instant) {
        if self.laggards.is_empty() {
            return;
        }
        let patience = self.limits.ping_patience();
        let mut stalled = Vec::new();
        let (connections, links) = (&self.connections, &self.links);
        let before = self.laggards.len();
        self.laggards.retain(|key, progress| {
            let entry = connections.get(key.index as usize);
            let Some(entry) = entry.filter(|entry| entry.serial == key.serial) else {
                return false;
            };
            let is_down = |link: LinkKey| links.get(link.0).is_none_or(|link| !link.is_attached());
            let taken_bytes = entry.connection.taken_bytes();
            if taken_bytes != progress.taken_bytes || progress.asked.is_some_and(is_down) {
                (progress.at, progress.taken_bytes) = (now, taken_bytes);
            } else if now.duration_since(progress.at) >= patience {
                stalled.push(*key);
            }
            true
        });
        let gone = before - self.laggards.len();
        self.common.metrics.lag.connections.decrement(crate::telemetry::as_f64(gone));
        for key in stalled {
            self.close(key, CloseReason::SlowConsumer);
        }
    }
}
