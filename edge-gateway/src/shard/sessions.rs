//! Which connection has which Engine.IO session, and which sessions only wait to say that they are over.

use std::{
    collections::{HashMap, VecDeque},
    rc::Rc,
    time::{Duration, Instant},
};

use foldhash::fast::RandomState;

use super::{ConnectionKey, Shard};
use crate::{close_reason::CloseReason, connection::Connection, session_id::SessionId};

/// How long a session that was closed waits for a poll, so that its client hears of it.
const LAST_POLL_TIMEOUT: Duration = Duration::from_secs(30);

/// The sessions of a shard, by the name that clients give.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    live: HashMap<SessionId, ConnectionKey, RandomState>,
    /// Closed while no poll waited.
    closed: HashMap<SessionId, Rc<Connection>, RandomState>,
    /// In the order in which they were closed. May name forgotten ones.
    expiries: VecDeque<(Instant, SessionId)>,
}

impl Sessions {
    pub(crate) fn insert(&mut self, session: SessionId, key: ConnectionKey) {
        self.live.insert(session, key);
    }

    /// Ends a session. One on long-polling whose client did nothing wrong is kept until its next poll.
    pub(crate) fn close(
        &mut self,
        session: SessionId,
        connection: Rc<Connection>,
        reason: CloseReason,
    ) {
        self.live.remove(&session);
        let waits_for_poll =
            connection.polling_state().is_some_and(|polling| !polling.is_polled.get());
        if waits_for_poll && is_told(reason) {
            self.closed.insert(session, connection);
            self.expiries.push_back((Instant::now() + LAST_POLL_TIMEOUT, session));
        }
    }

    pub(crate) fn forget(&mut self, session: SessionId) {
        self.closed.remove(&session);
    }

    pub(crate) fn expire(&mut self, now: Instant) {
        while let Some((at, session)) = self.expiries.front().copied() {
            if at > now && self.closed.contains_key(&session) {
                return;
            }
            self.expiries.pop_front();
            self.closed.remove(&session);
        }
    }
}

/// Whether the client is to be told of the end, as with the reference server: not where it went away, was silent, or sent
/// what cannot be read.
fn is_told(reason: CloseReason) -> bool {
    match reason {
        CloseReason::ShuttingDown
        | CloseReason::SlowConsumer
        | CloseReason::ConnectTimeout
        | CloseReason::TokenExpired
        | CloseReason::RateLimited
        | CloseReason::ClosedByBackend
        | CloseReason::DisconnectedByBackend
        | CloseReason::Unavailable
        | CloseReason::TokenRejected
        | CloseReason::ProtocolViolation => true,
        CloseReason::PingTimeout
        | CloseReason::ClosedByClient
        | CloseReason::TransportClosed
        | CloseReason::BadFrame
        | CloseReason::BadText
        | CloseReason::TooManyFragments
        | CloseReason::PayloadTooLarge
        | CloseReason::MalformedPacket => false,
    }
}

impl Shard {
    /// Finds a session: a live one, or one that has been closed and whose client has not heard of it.
    pub(crate) fn session(&self, session: SessionId) -> Option<(Rc<Connection>, ConnectionKey)> {
        if let Some(key) = self.sessions.live.get(&session) {
            let entry = self.connections.get(key.index as usize)?;
            return Some((Rc::clone(&entry.connection), *key));
        }
        let connection = self.sessions.closed.get(&session)?;
        Some((Rc::clone(connection), ConnectionKey { index: u32::MAX, serial: 0 }))
    }

    /// Ends a session whose client has broken the rules of long-polling or has gone: nobody is left to be told later.
    pub(crate) fn abandon(&mut self, session: SessionId, reason: CloseReason) {
        if let Some(key) = self.sessions.live.get(&session).copied() {
            self.close(key, reason);
        }
        self.sessions.forget(session);
    }

    /// The client has been told.
    pub(crate) fn forget_session(&mut self, session: SessionId) {
        self.sessions.forget(session);
    }
}
