//! Settings of TLS on the listener for clients.

use std::{num::NonZeroU32, path::PathBuf, time::Duration};

/// TLS on the listener for clients.
#[derive(Debug, Clone, clap::Args)]
#[group(id = "edge-tls")]
pub struct TlsConfig {
    /// PEM file with the certificate chain for clients, the edge's own first. With it, the listener for clients speaks TLS
    /// only. It is read again when it changes [default: none].
    #[arg(id = "edge-tls-cert-file", long = "edge-tls-cert-file", env = "EDGE_TLS_CERT_FILE")]
    #[arg(value_name = "FILE")]
    pub certificate: Option<PathBuf>,

    /// PEM file with the certificate's private key, without a passphrase. It is read again when it changes
    /// [default: none].
    #[arg(id = "edge-tls-key-file", long = "edge-tls-key-file", env = "EDGE_TLS_KEY_FILE")]
    #[arg(value_name = "FILE")]
    pub key: Option<PathBuf>,

    /// How long a client may take for the handshake.
    #[arg(id = "edge-tls-handshake-timeout", long = "edge-tls-handshake-timeout")]
    #[arg(env = "EDGE_TLS_HANDSHAKE_TIMEOUT", value_name = "DURATION", default_value = "10s")]
    #[arg(value_parser = humantime::parse_duration)]
    pub handshake_timeout: Duration,

    /// How many clients may be shaking hands; those beyond are closed.
    #[arg(id = "edge-tls-handshakes-max", long = "edge-tls-handshakes-max")]
    #[arg(env = "EDGE_TLS_HANDSHAKES_MAX", value_name = "COUNT", default_value = "1024")]
    pub handshakes_max: NonZeroU32,

    /// Lets the listener for clients speak plaintext on an address that others reach: a proxy ends TLS before it, and
    /// strangers cannot get there.
    #[arg(
        id = "edge-allow-plaintext",
        long = "edge-allow-plaintext",
        env = "EDGE_ALLOW_PLAINTEXT"
    )]
    pub allow_plaintext: bool,

    /// Tells browsers for how many seconds to come by TLS only (HSTS), with each answer [default: not].
    #[arg(id = "edge-hsts-seconds", long = "edge-hsts-seconds", env = "EDGE_HSTS_SECONDS")]
    #[arg(value_name = "SECONDS")]
    pub hsts_seconds: Option<u32>,
}
