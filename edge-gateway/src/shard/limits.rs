//! How long a shard waits, and how much it takes of a client.

use std::time::Duration;

use super::{ConnectionKey, Entry, Shard};

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

impl Entry {
    /// Its client has been let into a namespace: from now on it may take its time, and send more at once.
    pub(super) fn has_entered(&mut self) {
        self.connect_by = None;
        self.connection.set_entered();
    }
}

impl Shard {
    /// How large a message of this client may be, with its attachments.
    pub(super) fn payload_bytes_max(&mut self, key: ConnectionKey) -> usize {
        self.entry(key).map_or(0, |entry| entry.connection.payload_bytes_max())
    }
}
