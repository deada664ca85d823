//! Settings that bound what one user and one tenant have and send.

use std::num::NonZeroU32;

/// What one user (issuer, subject and tenant) and one tenant may have on this edge and send to it. Nothing is limited unless it
/// is set: who is one user to an issuer may be one person, or many devices.
#[derive(Debug, Clone, Copy, clap::Args)]
#[group(id = "edge-identity-limits")]
pub struct IdentityLimitConfig {
    /// How many sockets a user may have at a time [default: any number].
    #[arg(id = "edge-subject-sockets-max", long = "edge-subject-sockets-max")]
    #[arg(env = "EDGE_SUBJECT_SOCKETS_MAX", value_name = "COUNT")]
    pub subject_sockets_max: Option<NonZeroU32>,

    /// How many events a user may send each second, over all its sockets; twice as many at once [default: any number].
    #[arg(id = "edge-subject-events-per-second", long = "edge-subject-events-per-second")]
    #[arg(env = "EDGE_SUBJECT_EVENTS_PER_SECOND", value_name = "COUNT")]
    pub subject_events_per_second: Option<NonZeroU32>,

    /// How many bytes a user's events may have each second; twice as many at once, or one largest message [default: any
    /// number].
    #[arg(id = "edge-subject-bytes-per-second", long = "edge-subject-bytes-per-second")]
    #[arg(env = "EDGE_SUBJECT_BYTES_PER_SECOND", value_name = "BYTES")]
    pub subject_bytes_per_second: Option<NonZeroU32>,

    /// How many sockets a tenant's users may have at a time [default: any number].
    #[arg(id = "edge-tenant-sockets-max", long = "edge-tenant-sockets-max")]
    #[arg(env = "EDGE_TENANT_SOCKETS_MAX", value_name = "COUNT")]
    pub tenant_sockets_max: Option<NonZeroU32>,

    /// How many events a tenant's users may send each second; twice as many at once [default: any number].
    #[arg(id = "edge-tenant-events-per-second", long = "edge-tenant-events-per-second")]
    #[arg(env = "EDGE_TENANT_EVENTS_PER_SECOND", value_name = "COUNT")]
    pub tenant_events_per_second: Option<NonZeroU32>,

    /// How many bytes the events of a tenant's users may have each second; twice as many at once, or one largest message
    /// [default: any number].
    #[arg(id = "edge-tenant-bytes-per-second", long = "edge-tenant-bytes-per-second")]
    #[arg(env = "EDGE_TENANT_BYTES_PER_SECOND", value_name = "BYTES")]
    pub tenant_bytes_per_second: Option<NonZeroU32>,
}
