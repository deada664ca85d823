//! Settings that bound what one client may send and leave unread.

mod identities;

use std::num::NonZeroU32;

pub use self::identities::IdentityLimitConfig;

/// What one client may send, and leave unread.
#[derive(Debug, Clone, clap::Args)]
#[group(id = "edge-client-limits")]
pub struct ClientLimitConfig {
    /// Largest message a client may send; at most 3 MiB.
    #[arg(id = "edge-payload-bytes-max", long = "edge-payload-bytes-max")]
    #[arg(env = "EDGE_PAYLOAD_BYTES_MAX", value_name = "BYTES", default_value = "1000000")]
    pub payload_bytes_max: NonZeroU32,

    /// Largest message of a client that is in no namespace yet: its token and the rest of its `auth`.
    #[arg(id = "edge-unauthenticated-payload-bytes-max")]
    #[arg(long = "edge-unauthenticated-payload-bytes-max")]
    #[arg(env = "EDGE_UNAUTHENTICATED_PAYLOAD_BYTES_MAX")]
    #[arg(value_name = "BYTES", default_value = "65536")]
    pub unauthenticated_payload_bytes_max: NonZeroU32,

    /// How many arrays and objects may lie in each other in what a client sends: in each argument of an event or an answer, and in
    /// the `auth` of its CONNECT.
    #[arg(id = "edge-json-depth-max", long = "edge-json-depth-max", env = "EDGE_JSON_DEPTH_MAX")]
    #[arg(value_name = "COUNT", default_value = "64")]
    pub json_depth_max: NonZeroU32,

    /// How much may wait for a client that does not read before it is closed as a slow consumer.
    #[arg(id = "edge-outbox-bytes-max", long = "edge-outbox-bytes-max")]
    #[arg(env = "EDGE_OUTBOX_BYTES_MAX", value_name = "BYTES", default_value = "1048576")]
    pub outbox_bytes_max: NonZeroU32,

    /// How many events a connection may send each second, in the long run.
    #[arg(id = "edge-events-per-second", long = "edge-events-per-second")]
    #[arg(env = "EDGE_EVENTS_PER_SECOND", value_name = "COUNT", default_value = "50")]
    pub events_per_second: NonZeroU32,

    /// How many events a connection may send at once. A client that comes back enters its namespaces and joins its rooms at once.
    #[arg(id = "edge-events-burst", long = "edge-events-burst", env = "EDGE_EVENTS_BURST")]
    #[arg(value_name = "COUNT", default_value = "300")]
    pub events_burst: NonZeroU32,

    /// How many bytes a connection may send each second, in the long run; twice as many at once, or one largest message. One that
    /// sends faster is read no faster.
    #[arg(id = "edge-bytes-per-second", long = "edge-bytes-per-second")]
    #[arg(env = "EDGE_BYTES_PER_SECOND", value_name = "BYTES", default_value = "10000000")]
    pub bytes_per_second: NonZeroU32,

    /// How many answers of clients may be due to business services, on each shard; beyond, events are sent and nobody is asked.
    #[arg(id = "edge-awaited-answers-max", long = "edge-awaited-answers-max")]
    #[arg(env = "EDGE_AWAITED_ANSWERS_MAX", value_name = "COUNT", default_value = "1000000")]
    pub awaited_answers_max: NonZeroU32,

    /// What one user and one tenant may have and send.
    #[command(flatten)]
    pub identities: IdentityLimitConfig,
}
