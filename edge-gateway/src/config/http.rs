//! Settings of what HTTP requests are held against.

mod origins;

pub use self::origins::OriginConfig;
use crate::hosts::AllowedHost;

/// What HTTP requests are held against.
#[derive(Debug, Clone, clap::Args)]
#[group(id = "edge-http")]
pub struct HttpConfig {
    /// Which pages may use the edge.
    #[command(flatten)]
    pub origins: OriginConfig,

    /// Host that clients may ask for, with or without a port; requests for others are answered with 421. May be given several
    /// times [default: every host].
    #[arg(id = "edge-allowed-host", long = "edge-allowed-host", env = "EDGE_ALLOWED_HOSTS")]
    #[arg(value_delimiter = ',', value_name = "HOST")]
    pub allowed_hosts: Vec<AllowedHost>,
}
