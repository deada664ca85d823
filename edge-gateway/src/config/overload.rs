//! Settings that say when the edge has no room for more sessions.

use std::{num::NonZeroU64, time::Duration};

/// When the edge has no room for more sessions.
#[derive(Debug, Clone, clap::Args)]
#[group(id = "edge-overload")]
pub struct OverloadConfig {
    /// How much memory the process may have; from 90 % of it on no session is opened, until it is below 80 % [default: what the
    /// process's control group may have, else the machine].
    #[arg(id = "edge-memory-bytes-max", long = "edge-memory-bytes-max")]
    #[arg(env = "EDGE_MEMORY_BYTES_MAX", value_name = "BYTES")]
    pub memory_bytes_max: Option<NonZeroU64>,

    /// How late a shard may be, on average, before it opens no session; 0s takes no notice.
    #[arg(id = "edge-lag-max", long = "edge-lag-max", env = "EDGE_LAG_MAX")]
    #[arg(value_name = "DURATION", default_value = "1s", value_parser = humantime::parse_duration)]
    pub lag_max: Duration,
}
