//! The TLS side of the listener, and what QUIC may take of memory.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use quinn::{
    IdleTimeout, ServerConfig, TransportConfig, VarInt,
    crypto::rustls::{NoInitialCipherSuite, QuicServerConfig},
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use crate::config::Config;

/// The protocol that both sides name in the TLS handshake: HTTP/3.
const ALPN: &[u8] = b"h3";

/// The request that opens a session, and the one stream of it. What else a client opens is not looked at.
const BIDI_STREAMS_MAX: VarInt = VarInt::from_u32(4);
/// The control stream of HTTP/3, two for header compression, and one for what is made up to keep servers tolerant.
const UNI_STREAMS_MAX: VarInt = VarInt::from_u32(4);

/// How much a client may send that has not been read.
const STREAM_WINDOW: VarInt = VarInt::from_u32(128 * 1024);
const CONNECTION_WINDOW: VarInt = VarInt::from_u32(256 * 1024);
/// How much may be on its way to a client that has not acknowledged it.
const SEND_WINDOW: u64 = 256 * 1024;

/// WebTransport has datagrams and clients insist that a server can take them. Nobody reads these.
const DATAGRAM_BUFFER_BYTES: usize = 1200;

/// Longest silence that a connection survives, if the heartbeat of its session lets it.
const IDLE_TIMEOUT_MAX: Duration = Duration::from_secs(60 * 60);

/// Why there can be no listener for WebTransport.
#[derive(Debug, thiserror::Error)]
pub enum WebTransportError {
    /// One of its settings is given without the others.
    #[error(
        "EDGE_WEBTRANSPORT_LISTEN, EDGE_WEBTRANSPORT_CERTIFICATE and EDGE_WEBTRANSPORT_KEY go together"
    )]
    Incomplete,
    /// A file cannot be read, or is not what it should be.
    #[error("{setting} names {}, which cannot be read", file.display())]
    File {
        /// The setting's environment variable.
        setting: &'static str,
        /// The file.
        file: PathBuf,
        /// Why not.
        source: rustls::pki_types::pem::Error,
    },
    /// The certificate and the key are of no use, or do not belong together.
    #[error("EDGE_WEBTRANSPORT_CERTIFICATE and EDGE_WEBTRANSPORT_KEY cannot be used")]
    Tls(#[from] rustls::Error),
    /// TLS has no cipher for the first packets of QUIC.
    #[error("there is no cipher for QUIC")]
    Cipher(#[from] NoInitialCipherSuite),
}

/// Where to listen, and as whom; nothing if there is to be no listener.
pub(super) fn server_config(
    config: &Config,
) -> Result<Option<(SocketAddr, ServerConfig)>, WebTransportError> {
    let files = (&config.webtransport_certificate, &config.webtransport_key);
    let (listen, certificate, key) = match (config.webtransport_listen, files) {
        (None, (None, None)) => return Ok(None),
        (Some(listen), (Some(certificate), Some(key))) => (listen, certificate, key),
        _ => return Err(WebTransportError::Incomplete),
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(read_chain(certificate)?, read_key(key)?)?;
    tls.alpn_protocols = vec![ALPN.to_vec()];
    // What comes before the handshake is done could be a replay.
    tls.max_early_data_size = 0;
    let mut server_config = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?));
    server_config.transport_config(Arc::new(transport(config)));
    Ok(Some((listen, server_config)))
}

fn read_chain(file: &Path) -> Result<Vec<CertificateDer<'static>>, WebTransportError> {
    CertificateDer::pem_file_iter(file).and_then(Iterator::collect).map_err(|source| {
        let setting = "EDGE_WEBTRANSPORT_CERTIFICATE";
        WebTransportError::File { setting, file: file.to_owned(), source }
    })
}

fn read_key(file: &Path) -> Result<PrivateKeyDer<'static>, WebTransportError> {
    PrivateKeyDer::from_pem_file(file).map_err(|source| {
        let setting = "EDGE_WEBTRANSPORT_KEY";
        WebTransportError::File { setting, file: file.to_owned(), source }
    })
}

fn transport(config: &Config) -> TransportConfig {
    let silence = config.ping_interval.saturating_add(config.ping_timeout).min(IDLE_TIMEOUT_MAX);
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(BIDI_STREAMS_MAX)
        .max_concurrent_uni_streams(UNI_STREAMS_MAX)
        .stream_receive_window(STREAM_WINDOW)
        .receive_window(CONNECTION_WINDOW)
        .send_window(SEND_WINDOW)
        .datagram_receive_buffer_size(Some(DATAGRAM_BUFFER_BYTES))
        .max_idle_timeout(IdleTimeout::try_from(silence).ok());
    transport
}
