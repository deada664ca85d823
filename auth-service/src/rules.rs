//! Says what a token must claim to be meant for us.

use std::time::Duration;

/// What a token must say, apart from its signature.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    /// The only accepted `iss`.
    pub(crate) issuer: String,
    /// What `aud` must name, alone or among others.
    pub(crate) audience: String,
    /// How far the issuer's clock and ours may differ.
    pub(crate) clock_leeway: Duration,
}

impl Rules {
    pub(crate) fn clock_leeway_ms(&self) -> u64 {
        u64::try_from(self.clock_leeway.as_millis()).unwrap_or(u64::MAX)
    }
}
