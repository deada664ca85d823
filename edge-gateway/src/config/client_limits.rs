//! Settings that bound what one client may send.

use std::num::NonZeroU32;

/// What one client may send.
#[derive(Debug, Clone, clap::Args)]
#[group(id = "edge-client-limits")]
pub struct ClientLimitConfig {
    /// Largest message of a client that is in no namespace yet: its token and the rest of its `auth`.
    #[arg(id = "edge-unauthenticated-payload-bytes-max")]
    #[arg(long = "edge-unauthenticated-payload-bytes-max")]
    #[arg(env = "EDGE_UNAUTHENTICATED_PAYLOAD_BYTES_MAX")]
    #[arg(value_name = "BYTES", default_value = "65536")]
    pub unauthenticated_payload_bytes_max: NonZeroU32,
}
