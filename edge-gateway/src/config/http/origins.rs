//! Settings that say which pages may use the edge.

use crate::cors::AllowedOrigin;

/// Which pages may use the edge.
#[derive(Debug, Clone, clap::Args)]
#[group(id = "edge-origins")]
pub struct OriginConfig {
    /// Origin whose pages may send requests of any kind; those of others are answered with 403. May be given several times,
    /// `*` for every origin.
    #[arg(id = "edge-allowed-origin", long = "edge-allowed-origin", env = "EDGE_ALLOWED_ORIGINS")]
    #[arg(value_delimiter = ',', value_name = "ORIGIN", default_value = "*")]
    pub allowed: Vec<AllowedOrigin>,

    /// Origin whose pages may use Engine.IO over HTTP from elsewhere; may be given several times, `*` for every origin
    /// [default: none].
    #[arg(id = "edge-cors-origin", long = "edge-cors-origin", env = "EDGE_CORS_ORIGINS")]
    #[arg(value_delimiter = ',', value_name = "ORIGIN")]
    pub cors: Vec<AllowedOrigin>,
}
