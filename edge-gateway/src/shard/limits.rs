//! How long a shard waits, and how much it takes of a client.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use edge_protocol::MessageBounds;

use super::{
    ConnectionKey, ConnectionLimit, Entry, Flow, Shard, SocketKey, inbound::Event, rate::Allowance,
};
use crate::{
    application::Application,
    close_reason::CloseReason,
    error_answer::ErrorAnswer,
    overload::Overload,
    quota::{Exceeded, IdentityLimits, Steady},
};

/// The settings a shard needs, parsed and checked.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    pub(crate) ping_interval: Duration,
    pub(crate) ping_timeout: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) event_timeout: Duration,
    /// Of a connection.
    pub(crate) events: Steady,
    /// Of a connection, too.
    pub(crate) bytes: Steady,
    /// How deep JSON of a client may be nested.
    pub(crate) json_depth_max: usize,
    /// How many answers of clients may be due to business services.
    pub(crate) awaited_answers_max: usize,
    /// What users and tenants may have on this edge.
    pub(crate) identities: Arc<IdentityLimits>,
    /// Whether there is memory for what may be lost.
    pub(crate) overload: Arc<Overload>,
    pub(crate) drain_timeout: Duration,
    pub(crate) confirm_interval: Duration,
    /// How long before its token expires a client is told; zero where it is not.
    pub(crate) expiry_warning: Duration,
}

impl Limits {
    /// How long a client that pings by itself may be silent.
    pub(super) fn ping_patience(&self) -> Duration {
        self.ping_interval.saturating_add(self.ping_timeout)
    }
}

impl Entry {
    /// Its client has been let into a namespace: from now on it may take its time, and send more at once.
    pub(super) fn set_entered(&mut self) {
        self.connect_by = None;
        self.connection.set_entered();
    }
}

impl Shard {
    /// How large a message of this client may be, with its attachments.
    pub(super) fn payload_bytes_max(&mut self, key: ConnectionKey) -> usize {
        self.entry(key).map_or(0, |entry| entry.connection.payload_bytes_max())
    }

    /// What one message of this client may be.
    pub(super) fn message_bounds(&mut self, key: ConnectionKey) -> MessageBounds {
        let json_depth_max = self.limits.json_depth_max;
        MessageBounds { bytes_max: self.payload_bytes_max(key), json_depth_max }
    }

    pub(super) fn take_allowance(&mut self, key: ConnectionKey, now: Instant) -> Allowance {
        let limit = self.limits.events;
        self.entry(key).map_or(Allowance::Exhausted, |entry| entry.rates.events.take(now, limit))
    }

    /// From the connection's allowance in the socket's namespace where that has its own, else from the one for all.
    fn take_event_allowance(
        &mut self,
        key: ConnectionKey,
        socket: SocketKey,
        now: Instant,
    ) -> Allowance {
        let own = self.sockets.get(socket.index()).and_then(|socket| {
            let namespace = self.namespaces.get(socket.namespace.index())?;
            Some((socket.namespace, namespace.settings.events?))
        });
        let Some((namespace, limit)) = own else {
            return self.take_allowance(key, now);
        };
        self.entry(key).map_or(Allowance::Exhausted, |entry| {
            let rates = entry.rates.namespaces.get_or_insert_default();
            rates.of(namespace, now).take(now, limit)
        })
    }

    /// Goes on with a client that wants into a namespace unless it is more than its connection may send: coming and going counts as
    /// events, since it costs business services no less.
    pub(super) fn within_comings(
        &mut self,
        key: ConnectionKey,
        path: &str,
        now: Instant,
    ) -> Result<(), Flow> {
        let retry_after = match self.take_allowance(key, now) {
            Allowance::Granted => return Ok(()),
            Allowance::Refused { retry_after } => retry_after,
            Allowance::Exhausted => return Err(self.closed(key, CloseReason::RateLimited)),
        };
        self.audit_limit(key, ConnectionLimit::Events);
        self.common.metrics.drops.rate_limited.increment(1);
        self.common.metrics.connected("rate_limited");
        self.forget_namespace(key, path);
        let data = ErrorAnswer::rate_limited(retry_after).connect_error_data();
        self.send_connect_error(key, path, "Too many events", Some(data.as_bytes()));
        Err(self.flow(key))
    }

    /// Takes what a client has sent off its connection's allowance of bytes. It is here, so it is handled however little was left;
    /// no more is read until what is overdrawn is made up for.
    pub(crate) fn charge(&mut self, key: ConnectionKey, bytes: usize, now: Instant) -> Flow {
        let limit = self.limits.bytes;
        let application = self.application;
        let Some(entry) = self.entry(key) else { return Flow::Closed };
        if application == Application::Echo {
            return Flow::Continue;
        }
        let Some(excess) = entry.rates.bytes.overdraw(now, bytes, limit) else {
            return Flow::Continue;
        };
        self.common.metrics.limit_hits.bytes.increment(1);
        self.pause_for_bytes(key, now + excess)
    }

    /// Goes on with an event unless it is more than its connection, its user or its tenant may send. Then it is refused, and
    /// whoever takes no notice for long is cut off.
    pub(super) fn within_limits(
        &mut self,
        key: ConnectionKey,
        event: &Event<'_>,
        now: Instant,
    ) -> Result<(), Flow> {
        let (retry_after, limit) = match self.take_event_allowance(key, event.socket, now) {
            Allowance::Granted => match self.exceeded_share(event, now) {
                None => return Ok(()),
                Some(exceeded) => (exceeded.retry_after(), exceeded.into()),
            },
            Allowance::Refused { retry_after } => (retry_after, ConnectionLimit::Events),
            Allowance::Exhausted => return Err(self.closed(key, CloseReason::RateLimited)),
        };
        self.audit_limit(key, limit);
        self.common.metrics.drops.rate_limited.increment(1);
        Err(self.refuse(key, event, &ErrorAnswer::rate_limited(retry_after)))
    }

    /// What the user or the tenant of an event has sent too much of; none if the event may come now.
    fn exceeded_share(&self, event: &Event<'_>, now: Instant) -> Option<Exceeded> {
        let shares = self.sockets.get(event.socket.index())?.shares.as_deref()?;
        let exceeded = self.limits.identities.take(shares, event.bytes(), now).err()?;
        self.common.metrics.limit_hits.exceeded(exceeded).increment(1);
        Some(exceeded)
    }
}

impl Event<'_> {
    fn bytes(&self) -> usize {
        self.name.len() + self.args.len() + self.attachments.iter().map(Bytes::len).sum::<usize>()
    }
}
