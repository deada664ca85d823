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

/// Most of those that a shard keeps. When there are more, the oldest are forgotten: their clients find their session unknown.
const CLOSED_MAX: usize = 4096;

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
            while self.closed.len() >= CLOSED_MAX
                && let Some((_, oldest)) = self.expiries.pop_front()
            {
                self.closed.remove(&oldest);
            }
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

/// Whether the client is to be told of the end, as with the reference server: not where it went away or was silent. One that
/// closed may have a poll under way that has not arrived.
fn is_told(reason: CloseReason) -> bool {
    match reason {
        CloseReason::ShuttingDown
        | CloseReason::SlowConsumer
        | CloseReason::ConnectTimeout
        | CloseReason::TokenExpired
        | CloseReason::TokenRevoked
        | CloseReason::Replaced
        | CloseReason::RateLimited
        | CloseReason::ClosedByBackend
        | CloseReason::DisconnectedByBackend
        | CloseReason::InternalError
        | CloseReason::Unavailable
        | CloseReason::ClosedByClient
        | CloseReason::TokenRejected
        | CloseReason::MalformedPacket
        | CloseReason::PayloadTooLarge
        | CloseReason::ProtocolViolation => true,
        CloseReason::PingTimeout
        | CloseReason::TransportClosed
        | CloseReason::BadFrame
        | CloseReason::BadText
        | CloseReason::TooManyFragments => false,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        connection::{Common, PayloadBounds},
        telemetry::Metrics,
        transport::payload::PayloadForm,
    };

    fn connection() -> Rc<Connection> {
        Rc::new(Connection::polling(
            Rc::new(Common::new(PayloadBounds::new(1000, 1000), 1000, Metrics::new())),
            PayloadForm::V4,
        ))
    }

    #[test]
    fn a_session_that_was_closed_waits_for_a_poll_for_so_long() {
        let mut sessions = Sessions::default();
        let (told, not_told) = (SessionId::random(0, 0), SessionId::random(0, 0));

        sessions.close(told, connection(), CloseReason::ShuttingDown);
        sessions.close(not_told, connection(), CloseReason::PingTimeout);

        assert!(sessions.closed.contains_key(&told) && !sessions.closed.contains_key(&not_told));
        sessions.expire(Instant::now() + LAST_POLL_TIMEOUT);
        assert!(sessions.closed.is_empty() && sessions.expiries.is_empty());
    }

    #[test]
    fn a_flood_of_closed_sessions_takes_up_no_more_than_so_much() {
        let mut sessions = Sessions::default();
        let first = SessionId::random(0, 0);
        let connection = connection();

        sessions.close(first, Rc::clone(&connection), CloseReason::ShuttingDown);
        for _ in 0..CLOSED_MAX {
            let session = SessionId::random(0, 0);
            sessions.close(session, Rc::clone(&connection), CloseReason::ShuttingDown);
        }

        assert_eq!(sessions.closed.len(), CLOSED_MAX);
        assert!(!sessions.closed.contains_key(&first));
    }
}
