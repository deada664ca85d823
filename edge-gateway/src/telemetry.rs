//! This service's metrics and spans, each named once.

mod limit_hits;

use metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram,
    gauge, histogram,
};

pub(crate) use self::limit_hits::LimitHits;
use crate::close_reason::CloseReason;

/// First span of a client entering a namespace.
pub(crate) const SPAN_CONNECT: &str = "edge.connect";
/// First span of a client's event.
pub(crate) const SPAN_RECEIVE: &str = "edge.receive";
/// A fan-out being carried out on one shard.
pub(crate) const SPAN_DELIVER: &str = "edge.deliver";

const CONNECTIONS: &str = "sockeye_edge_connections";
const SOCKETS: &str = "sockeye_edge_sockets";
const EVENTS_RECEIVED: &str = "sockeye_edge_events_received_total";
const DELIVERIES: &str = "sockeye_edge_deliveries_total";
const COALESCED: &str = "sockeye_edge_coalesced_passes_total";
const OUTBOX_BYTES: &str = "sockeye_edge_outbox_bytes";
const LINK_QUEUE_BYTES: &str = "sockeye_edge_link_queue_bytes";
const COLLAPSED: &str = "sockeye_edge_collapsed_total";
const REFILLS: &str = "sockeye_edge_refills_total";
const CAUGHT_UP: &str = "sockeye_edge_caught_up_total";
const LAGGING: &str = "sockeye_edge_lagging_connections";
const DROPS: &str = "sockeye_edge_drops_total";
const CLOSES: &str = "sockeye_edge_closes_total";
const CONNECTS: &str = "sockeye_edge_connects_total";
const AUTH_SECONDS: &str = "sockeye_edge_auth_seconds";
const LINK_SECONDS: &str = "sockeye_edge_link_seconds";
const REPEATS: &str = "sockeye_edge_repeated_events_total";
const LINKS_UP: &str = "sockeye_edge_links_up";
const SUSPENDED: &str = "sockeye_edge_suspended_sockets";
const RECOVERY_LOG_BYTES: &str = "sockeye_edge_recovery_log_bytes";
const RECOVERIES: &str = "sockeye_edge_recoveries_total";
const OPENS_DELAYED: &str = "sockeye_edge_delayed_opens_total";
const OPENS_REFUSED: &str = "sockeye_edge_refused_opens_total";
const ACCEPT_ERRORS: &str = "sockeye_edge_accept_errors_total";
const PROXY_HEADERS_REFUSED: &str = "sockeye_edge_refused_proxy_headers_total";
const ORIGINS_REFUSED: &str = "sockeye_edge_refused_origins_total";
const TLS_HANDSHAKES: &str = "sockeye_edge_tls_handshakes_total";
const HOSTS_REFUSED: &str = "sockeye_edge_refused_hosts_total";
const SESSION_REQUESTS_REFUSED: &str = "sockeye_edge_refused_session_requests_total";
const LIMIT_HITS: &str = "sockeye_edge_limit_hits_total";
const PRESSURE: &str = "sockeye_edge_pressure";
const PRESSURE_READABLE: &str = "sockeye_edge_pressure_readable";
const LOOP_LAG_SECONDS: &str = "sockeye_edge_loop_lag_seconds";
const FORWARDS: &str = "sockeye_edge_forwards_total";
const REVOCATION_WATCHES: &str = "sockeye_edge_revocation_watches";
const TUNNELS: &str = "sockeye_edge_tunnels";

/// Handles of the metrics that a shard writes, made once.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    pub(crate) connections: Gauge,
    pub(crate) sockets: Gauge,
    pub(crate) events_received: Counter,
    pub(crate) deliveries: Counter,
    pub(crate) coalesced: Counter,
    pub(crate) outbox_bytes: Gauge,
    pub(crate) link_queue_bytes: Gauge,
    pub(crate) auth_seconds: Histogram,
    pub(crate) link_seconds: Histogram,
    pub(crate) repeats: Counter,
    pub(crate) links_up: Gauge,
    pub(crate) suspended: Gauge,
    pub(crate) recovery_log_bytes: BytesGauge,
    pub(crate) opens_delayed: Counter,
    pub(crate) opens_refused: Counter,
    pub(crate) accept_errors: Counter,
    pub(crate) proxy_headers_refused: Counter,
    pub(crate) limit_hits: LimitHits,
    pub(crate) tls_handshakes: TlsHandshakes,
    pub(crate) pressures: Pressures,
    pub(crate) loop_lag_seconds: Histogram,
    pub(crate) lag: Lag,
    pub(crate) drops: Drops,
    pub(crate) forwards: Forwards,
    pub(crate) tunnels: Gauge,
    pub(crate) revocation_watches: Gauge,
}

/// Requests for sessions of other edges, by what became of them.
#[derive(Debug, Clone)]
pub(crate) struct Forwards {
    /// The other edge has answered, whatever it was.
    pub(crate) answered: Counter,
    /// The client hung up before; the other edge was told.
    pub(crate) hung_up: Counter,
    /// The id names an edge that is not configured: a client's invention, or a setting that is missing.
    pub(crate) unknown_edge: Counter,
    /// The other edge could not be asked, or did not answer.
    pub(crate) unreachable: Counter,
    /// Whoever was asked is another edge than the settings say.
    pub(crate) misrouted: Counter,
}

/// Clients that do not keep up.
#[derive(Debug, Clone)]
pub(crate) struct Lag {
    /// Logged events that were left out for a client, to be given later.
    pub(crate) collapsed: Counter,
    /// Parts of what they missed that clients were given.
    pub(crate) refills: Counter,
    /// Rooms in which a client was behind and is no more.
    pub(crate) caught_up: Counter,
    pub(crate) connections: Gauge,
}

/// How near the edge is to having no room, by signal: from 0 to 1.
#[derive(Debug, Clone)]
pub(crate) struct Pressures {
    pub(crate) memory: Gauge,
    pub(crate) descriptors: Gauge,
    /// Of the shard that is the latest.
    pub(crate) lag: Gauge,
    /// Whether they are known at all.
    pub(crate) memory_readable: Gauge,
    pub(crate) descriptors_readable: Gauge,
}

impl Pressures {
    fn new() -> Self {
        let pressure = |signal: &'static str| gauge!(PRESSURE, "signal" => signal);
        let readable = |signal: &'static str| gauge!(PRESSURE_READABLE, "signal" => signal);
        Self {
            memory: pressure("memory"),
            descriptors: pressure("descriptors"),
            lag: pressure("loop_lag"),
            memory_readable: readable("memory"),
            descriptors_readable: readable("descriptors"),
        }
    }
}

/// Handshakes of TLS with clients, by outcome.
#[derive(Debug, Clone)]
pub(crate) struct TlsHandshakes {
    pub(crate) full: Counter,
    /// The client went on where an earlier connection was.
    pub(crate) resumed: Counter,
    /// What it sent is no handshake, or nothing that both sides speak.
    pub(crate) failed: Counter,
    pub(crate) timeout: Counter,
    /// The client went away.
    pub(crate) hung_up: Counter,
}

impl TlsHandshakes {
    fn new() -> Self {
        let handshake = |outcome: &'static str| counter!(TLS_HANDSHAKES, "outcome" => outcome);
        Self {
            full: handshake("full"),
            resumed: handshake("resumed"),
            failed: handshake("failed"),
            timeout: handshake("timeout"),
            hung_up: handshake("hung_up"),
        }
    }
}

/// What was not delivered or not passed on, by reason.
#[derive(Debug, Clone)]
pub(crate) struct Drops {
    /// A volatile event for a client that does not keep up, or of a client whose business service is away.
    pub(crate) volatile: Counter,
    /// A volatile event, of a business service or a client, while memory is short.
    pub(crate) memory: Counter,
    /// A client's event beyond its rate; answered `rate_limited`.
    pub(crate) rate_limited: Counter,
    /// A client's event that no business service answered in time, that was under way when one died which does not take
    /// repeats, or that found no room to wait; answered `unavailable`.
    pub(crate) unavailable: Counter,
    /// A client's answer that nobody waits for.
    pub(crate) unexpected_ack: Counter,
    /// An instruction that cannot be carried out as it stands.
    pub(crate) bad_instruction: Counter,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        describe();
        let drop = |reason: &'static str| counter!(DROPS, "reason" => reason);
        let forward = |outcome: &'static str| counter!(FORWARDS, "outcome" => outcome);
        Self {
            connections: gauge!(CONNECTIONS),
            sockets: gauge!(SOCKETS),
            events_received: counter!(EVENTS_RECEIVED),
            deliveries: counter!(DELIVERIES),
            coalesced: counter!(COALESCED),
            outbox_bytes: gauge!(OUTBOX_BYTES),
            link_queue_bytes: gauge!(LINK_QUEUE_BYTES),
            auth_seconds: histogram!(AUTH_SECONDS),
            link_seconds: histogram!(LINK_SECONDS),
            repeats: counter!(REPEATS),
            links_up: gauge!(LINKS_UP),
            suspended: gauge!(SUSPENDED),
            recovery_log_bytes: BytesGauge(gauge!(RECOVERY_LOG_BYTES)),
            opens_delayed: counter!(OPENS_DELAYED),
            opens_refused: counter!(OPENS_REFUSED),
            accept_errors: counter!(ACCEPT_ERRORS),
            proxy_headers_refused: counter!(PROXY_HEADERS_REFUSED),
            limit_hits: LimitHits::new(),
            tls_handshakes: TlsHandshakes::new(),
            pressures: Pressures::new(),
            loop_lag_seconds: histogram!(LOOP_LAG_SECONDS),
            lag: Lag {
                collapsed: counter!(COLLAPSED),
                refills: counter!(REFILLS),
                caught_up: counter!(CAUGHT_UP),
                connections: gauge!(LAGGING),
            },
            drops: Drops {
                volatile: drop("volatile"),
                memory: drop("memory"),
                rate_limited: drop("rate_limited"),
                unavailable: drop("unavailable"),
                unexpected_ack: drop("unexpected_ack"),
                bad_instruction: drop("bad_instruction"),
            },
            forwards: Forwards {
                answered: forward("answered"),
                hung_up: forward("hung_up"),
                unknown_edge: forward("unknown_edge"),
                unreachable: forward("unreachable"),
                misrouted: forward("misrouted"),
            },
            tunnels: gauge!(TUNNELS),
            revocation_watches: gauge!(REVOCATION_WATCHES),
        }
    }

    #[expect(clippy::unused_self, reason = "callers reach all metrics through this type")]
    pub(crate) fn closed(&self, reason: CloseReason) {
        counter!(CLOSES, "reason" => reason.label()).increment(1);
    }

    #[expect(clippy::unused_self, reason = "callers reach all metrics through this type")]
    pub(crate) fn recovered(&self, outcome: &'static str) {
        counter!(RECOVERIES, "outcome" => outcome).increment(1);
    }

    #[expect(clippy::unused_self, reason = "callers reach all metrics through this type")]
    pub(crate) fn connected(&self, outcome: &'static str) {
        counter!(CONNECTS, "outcome" => outcome).increment(1);
    }
}

/// Counts requests from pages that may not use the edge, on every listener for clients.
pub(crate) fn origins_refused() -> Counter {
    counter!(ORIGINS_REFUSED)
}

pub(crate) fn hosts_refused() -> Counter {
    counter!(HOSTS_REFUSED)
}

pub(crate) fn session_requests_refused() -> Counter {
    counter!(SESSION_REQUESTS_REFUSED)
}

fn describe() {
    describe_gauge!(CONNECTIONS, "Open client connections.");
    describe_gauge!(SOCKETS, "Sockets: connections times the namespaces they are in.");
    describe_counter!(EVENTS_RECEIVED, "Events received from clients.");
    describe_counter!(DELIVERIES, "Events sent to clients, one for each recipient.");
    describe_counter!(COALESCED, "Times that events were held back to be written with others.");
    describe_gauge!(OUTBOX_BYTES, Unit::Bytes, "Bytes that wait for clients to read.");
    describe_gauge!(LINK_QUEUE_BYTES, Unit::Bytes, "Bytes that wait for business services.");
    describe_counter!(COLLAPSED, "Logged events left out for clients that do not keep up.");
    describe_counter!(REFILLS, "Parts of what they missed that such clients were given.");
    describe_counter!(CAUGHT_UP, "Rooms in which a client was behind and is no more.");
    describe_gauge!(LAGGING, "Connections whose clients are behind in a room.");
    describe_counter!(DROPS, "What was not delivered or not passed on, by reason.");
    describe_counter!(CLOSES, "Ended connections, by reason.");
    describe_counter!(CONNECTS, "Attempts to enter a namespace, by outcome.");
    describe_histogram!(AUTH_SECONDS, Unit::Seconds, "How long the auth service takes to answer.");
    describe_histogram!(
        LINK_SECONDS,
        Unit::Seconds,
        "From an event to its business service's answer."
    );
    describe_counter!(REPEATS, "Events sent again to a business service that started anew.");
    describe_gauge!(LINKS_UP, "Links to business services that are attached.");
    describe_gauge!(SUSPENDED, "Sockets without a connection that may come back.");
    describe_gauge!(
        RECOVERY_LOG_BYTES,
        Unit::Bytes,
        "Bytes of events kept for sockets that come back."
    );
    describe_counter!(RECOVERIES, "Sockets that lost their connection, by what became of them.");
    describe_counter!(OPENS_DELAYED, "Sessions that had to wait because too many were opened.");
    describe_counter!(OPENS_REFUSED, "Sessions that were refused because too many waited.");
    describe_counter!(ACCEPT_ERRORS, "Connections that could not be accepted.");
    describe_counter!(
        PROXY_HEADERS_REFUSED,
        "Connections closed for want of a trusted proxy's header."
    );
    describe_counter!(ORIGINS_REFUSED, "Requests from pages that may not use the edge.");
    describe_counter!(TLS_HANDSHAKES, "Handshakes of TLS with clients, by outcome.");
    describe_counter!(HOSTS_REFUSED, "Requests for hosts that the edge is not known by.");
    describe_counter!(
        SESSION_REQUESTS_REFUSED,
        "Requests that named a session and were not of the client that opened it."
    );
    describe_counter!(LIMIT_HITS, "What was delayed or refused at a bound, by limit.");
    describe_gauge!(
        PRESSURE,
        "How near the edge is to having no room: new sessions wait, and are refused at 1."
    );
    describe_gauge!(PRESSURE_READABLE, "Whether a signal can be read, by signal: 1 or 0.");
    describe_histogram!(LOOP_LAG_SECONDS, Unit::Seconds, "How late shards are with their timers.");
    describe_counter!(FORWARDS, "Requests for sessions of other edges, by outcome.");
    describe_gauge!(REVOCATION_WATCHES, "Shards that the auth service tells of revocations.");
    describe_gauge!(TUNNELS, "WebSockets that are carried to other edges.");
}

/// A gauge of bytes that move both ways.
#[derive(Debug, Clone)]
pub(crate) struct BytesGauge(Gauge);

impl BytesGauge {
    pub(crate) fn moved(&self, before: usize, after: usize) {
        self.0.increment(as_f64(after) - as_f64(before));
    }
}

/// What a gauge of bytes is moved by.
#[expect(clippy::cast_precision_loss, reason = "a gauge of bytes; far below 2^52")]
pub(crate) fn as_f64(bytes: usize) -> f64 {
    bytes as f64
}
