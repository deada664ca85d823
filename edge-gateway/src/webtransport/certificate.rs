//! The TLS side of the listener, and what QUIC may take of memory.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use quinn::{
    IdleTimeout, ServerConfig, TransportConfig, VarInt,
    crypto::rustls::{NoInitialCipherSuite, QuicServerConfig},
};
use service_kit::{
    tls::{self, Certificate, CertificateError},
    watched_files::{ReadFilesError, SettingFile},
};

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
    /// A certificate is given without its key, or the other way round, or for no listener.
    #[error(
        "EDGE_WEBTRANSPORT_CERTIFICATE and EDGE_WEBTRANSPORT_KEY go together, and with EDGE_WEBTRANSPORT_LISTEN"
    )]
    Incomplete,
    /// There is a listener and no certificate for it.
    #[error(
        "EDGE_WEBTRANSPORT_LISTEN needs EDGE_WEBTRANSPORT_CERTIFICATE and EDGE_WEBTRANSPORT_KEY, or EDGE_TLS_CERT_FILE and EDGE_TLS_KEY_FILE"
    )]
    NoCertificate,
    /// The certificate or its key is of no use.
    #[error(transparent)]
    Certificate(#[from] ReadFilesError<CertificateError>),
    /// The cryptography is not to be had.
    #[error("TLS cannot be had for WebTransport")]
    Setup(#[from] rustls::Error),
    /// TLS has no cipher for the first packets of QUIC.
    #[error("there is no cipher for QUIC")]
    Cipher(#[from] NoInitialCipherSuite),
}

/// Where to listen, and how.
pub(crate) type QuicListen = (SocketAddr, ServerConfig);

/// Where to listen, and as whom: with a certificate of its own, or with the one that clients of TLS are shown. Nothing if there
/// is to be no listener.
pub(crate) fn server_config(
    config: &Config,
    shared: Option<&Certificate>,
) -> Result<Option<QuicListen>, WebTransportError> {
    let files = (&config.webtransport_certificate, &config.webtransport_key);
    let (listen, certificate) = match (config.webtransport_listen, files) {
        (None, (None, None)) => return Ok(None),
        (Some(listen), (None, None)) => {
            (listen, shared.ok_or(WebTransportError::NoCertificate)?.clone())
        }
        (Some(listen), (Some(chain), Some(key))) => {
            let chain = SettingFile::new("EDGE_WEBTRANSPORT_CERTIFICATE", chain);
            let key = SettingFile::new("EDGE_WEBTRANSPORT_KEY", key);
            (listen, Certificate::open("edge_webtransport", chain, key)?)
        }
        _ => return Err(WebTransportError::Incomplete),
    };
    let mut crypto = rustls::ServerConfig::builder_with_provider(tls::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(certificate));
    crypto.alpn_protocols = vec![ALPN.to_vec()];
    // What comes before the handshake is done could be a replay.
    crypto.max_early_data_size = 0;
    let mut server_config =
        ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(crypto)?));
    server_config.transport_config(Arc::new(transport(config)));
    Ok(Some((listen, server_config)))
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
