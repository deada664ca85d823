//! How long a shard waits, and how much it takes of a client.

use std::time::Duration;

/// The settings a shard needs, parsed and checked.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    pub(crate) ping_interval: Duration,
    pub(crate) ping_timeout: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) event_timeout: Duration,
    pub(crate) events_per_second: u32,
    pub(crate) events_burst: u32,
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
