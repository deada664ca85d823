//! Which limits a connection has come to, so that each is in the audit log once and not with everything that is refused.

use crate::quota::{Exceeded, Party};

/// A limit of a connection that does not end it: what comes beyond is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ConnectionLimit {
    Events,
    SubjectEvents,
    SubjectBytes,
    TenantEvents,
    TenantBytes,
    /// Events whose answers are waited for.
    Acks,
    Namespaces,
    /// The size of a post.
    BodyBytes,
    JsonDepth,
}

/// Those that it has come to.
#[derive(Debug, Default)]
pub(crate) struct NotedLimits(u16);

impl ConnectionLimit {
    /// Returns what it is called in metrics.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::SubjectEvents => "subject_events",
            Self::SubjectBytes => "subject_bytes",
            Self::TenantEvents => "tenant_events",
            Self::TenantBytes => "tenant_bytes",
            Self::Acks => "acks",
            Self::Namespaces => "namespaces",
            Self::BodyBytes => "body_bytes",
            Self::JsonDepth => "json_depth",
        }
    }
}

impl From<Exceeded> for ConnectionLimit {
    fn from(exceeded: Exceeded) -> Self {
        match exceeded {
            Exceeded::Events { party: Party::Subject, .. } => Self::SubjectEvents,
            Exceeded::Events { party: Party::Tenant, .. } => Self::TenantEvents,
            Exceeded::Bytes { party: Party::Subject, .. } => Self::SubjectBytes,
            Exceeded::Bytes { party: Party::Tenant, .. } => Self::TenantBytes,
        }
    }
}

impl NotedLimits {
    /// Takes note of a limit; returns whether it was not before.
    pub(crate) fn note(&mut self, limit: ConnectionLimit) -> bool {
        let bit = 1 << limit as u8;
        let is_new = self.0 & bit == 0;
        self.0 |= bit;
        is_new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_is_noted_once() {
        let mut noted = NotedLimits::default();
        let all = [
            ConnectionLimit::Events,
            ConnectionLimit::SubjectEvents,
            ConnectionLimit::SubjectBytes,
            ConnectionLimit::TenantEvents,
            ConnectionLimit::TenantBytes,
            ConnectionLimit::Acks,
            ConnectionLimit::Namespaces,
            ConnectionLimit::BodyBytes,
            ConnectionLimit::JsonDepth,
        ];

        for limit in all {
            assert!(noted.note(limit), "{limit:?}");
            assert!(!noted.note(limit), "{limit:?}");
        }
    }
}
