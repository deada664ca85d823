//! What was delayed or refused at a bound, counted by limit.

use metrics::{Counter, counter};

use super::LIMIT_HITS;
use crate::{
    overload::Cause,
    quota::{AddressRefusal, Exceeded, Party},
};

/// What was delayed or refused at a bound, by limit.
#[derive(Debug, Clone)]
pub(crate) struct LimitHits {
    /// Sessions that had to wait since their address opened many.
    pub(crate) address_delays: Counter,
    address_opens: Counter,
    address_connections: Counter,
    /// Connections that were closed since their address has too many that speak HTTP.
    pub(crate) address_http_connections: Counter,
    memory: Counter,
    descriptors: Counter,
    loop_lag: Counter,
    /// Posts that came too slowly.
    pub(crate) body_rate: Counter,
    /// Connections that were closed since too many clients were shaking hands.
    pub(crate) tls_handshakes: Counter,
    /// Requests whose headers were too many, or too long.
    pub(crate) headers: Counter,
    /// Connections that were closed since no headers of a request had come in time.
    pub(crate) header_time: Counter,
    /// Namespaces that a connection was refused since it is in so many.
    pub(crate) namespaces: Counter,
    /// Messages whose JSON was nested too deeply.
    pub(crate) json_depth: Counter,
    /// Events whose client waits for too many answers.
    pub(crate) acks: Counter,
    /// Events of business services whose recipients were not asked for an answer, as so many were due.
    pub(crate) awaited_answers: Counter,
    /// Posts that were too large.
    pub(crate) body_bytes: Counter,
    /// How often a connection that had sent too many bytes was not read for a while.
    pub(crate) bytes: Counter,
    /// Calls of other edges that did not go on, or were refused since so many did not.
    pub(crate) peer_calls: Counter,
    /// Polls that were not brought to another edge since so many wait there.
    pub(crate) peer_polls: Counter,
    /// Posts that were not brought to another edge since so many are on their way there.
    pub(crate) peer_posts: Counter,
    /// Sockets that waited for their clients and were given up for others of their users or tenants.
    pub(crate) suspended_sockets: Counter,
    subject: IdentityHits,
    tenant: IdentityHits,
}

/// What was refused since a user, or a tenant, has or sends too much.
#[derive(Debug, Clone)]
struct IdentityHits {
    sockets: Counter,
    events: Counter,
    bytes: Counter,
}

impl LimitHits {
    pub(super) fn new() -> Self {
        let hit = |limit: &'static str| counter!(LIMIT_HITS, "limit" => limit);
        Self {
            address_delays: hit("address_delays"),
            address_opens: hit("address_opens"),
            address_connections: hit("address_connections"),
            address_http_connections: hit("address_http_connections"),
            body_rate: hit("body_rate"),
            tls_handshakes: hit("tls_handshakes"),
            memory: hit("memory"),
            descriptors: hit("descriptors"),
            loop_lag: hit("loop_lag"),
            headers: hit("headers"),
            header_time: hit("header_time"),
            namespaces: hit("namespaces"),
            json_depth: hit("json_depth"),
            acks: hit("acks"),
            awaited_answers: hit("awaited_answers"),
            body_bytes: hit("body_bytes"),
            bytes: hit("bytes"),
            peer_calls: hit("peer_calls"),
            peer_polls: hit("peer_polls"),
            peer_posts: hit("peer_posts"),
            suspended_sockets: hit("suspended_sockets"),
            subject: IdentityHits {
                sockets: hit("subject_sockets"),
                events: hit("subject_events"),
                bytes: hit("subject_bytes"),
            },
            tenant: IdentityHits {
                sockets: hit("tenant_sockets"),
                events: hit("tenant_events"),
                bytes: hit("tenant_bytes"),
            },
        }
    }

    pub(crate) fn address(&self, refusal: AddressRefusal) -> &Counter {
        match refusal {
            AddressRefusal::Opens { .. } => &self.address_opens,
            AddressRefusal::Connections { .. } => &self.address_connections,
        }
    }

    /// Sockets that were refused since their user or tenant has too many.
    pub(crate) fn sockets(&self, party: Party) -> &Counter {
        &self.of(party).sockets
    }

    /// Events that were refused since their user or tenant has sent too much.
    pub(crate) fn exceeded(&self, exceeded: Exceeded) -> &Counter {
        match exceeded {
            Exceeded::Events { party, .. } => &self.of(party).events,
            Exceeded::Bytes { party, .. } => &self.of(party).bytes,
        }
    }

    fn of(&self, party: Party) -> &IdentityHits {
        match party {
            Party::Subject => &self.subject,
            Party::Tenant => &self.tenant,
        }
    }

    /// Sessions that were refused since the edge has no room.
    pub(crate) fn overload(&self, cause: Cause) -> &Counter {
        match cause {
            Cause::Memory => &self.memory,
            Cause::Descriptors => &self.descriptors,
            Cause::Lag => &self.loop_lag,
        }
    }
}
