//! TLS with clients: as whom, within which bounds, and what is noted of those with whom it comes to nothing.

use std::{net::IpAddr, sync::Arc, time::Duration};

use rustls::{
    HandshakeKind, ServerConfig, ServerConnection,
    crypto::aws_lc_rs::Ticketer,
    version::{TLS12, TLS13},
};
use service_kit::{
    tls::{self, Certificate, CertificateError},
    watched_files::{ReadFilesError, SettingFile},
};
use tokio::{
    net::TcpStream,
    sync::{Semaphore, TryAcquireError},
    time,
};

use crate::{
    audit,
    client_stream::{self, ClientStream, HandshakeError},
    config::TlsConfig,
    telemetry::Metrics,
};

/// What clients may say they want to speak. Those who name other protocols only are refused in the handshake.
const ALPN: &[u8] = b"http/1.1";

/// Why there can be no TLS with clients.
#[derive(Debug, thiserror::Error)]
pub enum ClientTlsError {
    /// One of its settings is given without the other.
    #[error("EDGE_TLS_CERT_FILE and EDGE_TLS_KEY_FILE go together")]
    Incomplete,
    /// The certificate or its key is of no use.
    #[error(transparent)]
    Certificate(#[from] ReadFilesError<CertificateError>),
    /// The cryptography is not to be had.
    #[error("TLS cannot be had")]
    Setup(#[from] rustls::Error),
}

/// How every shard speaks TLS with its clients.
#[derive(Debug, Clone)]
pub(crate) struct ClientTls {
    config: Arc<ServerConfig>,
    /// One for each client that may be shaking hands, on whichever shard.
    handshakes: Arc<Semaphore>,
    timeout: Duration,
}

/// Reads and watches the certificate that clients are shown; none if they speak plaintext.
pub(crate) fn certificate(config: &TlsConfig) -> Result<Option<Certificate>, ClientTlsError> {
    match (&config.certificate, &config.key) {
        (None, None) => Ok(None),
        (Some(chain), Some(key)) => {
            let chain = SettingFile::new("EDGE_TLS_CERT_FILE", chain);
            let key = SettingFile::new("EDGE_TLS_KEY_FILE", key);
            Ok(Some(Certificate::open("edge_tls", chain, key)?))
        }
        _ => Err(ClientTlsError::Incomplete),
    }
}

impl ClientTls {
    pub(crate) fn new(
        certificate: Certificate,
        limits: &TlsConfig,
    ) -> Result<Self, ClientTlsError> {
        let mut config = ServerConfig::builder_with_provider(tls::provider())
            .with_protocol_versions(&[&TLS13, &TLS12])?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(certificate));
        config.alpn_protocols = vec![ALPN.to_vec()];
        // A client that comes back brings its own state, under a key that changes every few hours and is nowhere but here.
        config.ticketer = Ticketer::new()?;
        // What comes before the handshake is done could be a replay.
        config.max_early_data_size = 0;
        let handshakes = usize::try_from(limits.handshakes_max.get()).unwrap_or(usize::MAX);
        Ok(Self {
            config: Arc::new(config),
            handshakes: Arc::new(Semaphore::new(handshakes.min(Semaphore::MAX_PERMITS))),
            timeout: limits.handshake_timeout,
        })
    }

    /// Shakes hands with a client. Those with whom that comes to nothing are closed, counted and noted.
    pub(crate) async fn accept(
        &self,
        tcp: TcpStream,
        peer: IpAddr,
        metrics: &Metrics,
    ) -> Option<ClientStream> {
        let peer = peer.to_canonical();
        let _shaking = match self.handshakes.try_acquire() {
            Ok(shaking) => shaking,
            Err(TryAcquireError::NoPermits | TryAcquireError::Closed) => {
                metrics.limit_hits.tls_handshakes.increment(1);
                audit::limit(peer, "tls_handshakes");
                return None;
            }
        };
        let shaken = time::timeout(self.timeout, self.handshake(tcp)).await;
        let outcomes = &metrics.tls_handshakes;
        match shaken {
            Ok(Ok((stream, HandshakeKind::Resumed))) => {
                outcomes.resumed.increment(1);
                Some(stream)
            }
            Ok(Ok((stream, HandshakeKind::Full | HandshakeKind::FullWithHelloRetryRequest))) => {
                outcomes.full.increment(1);
                Some(stream)
            }
            Ok(Err(HandshakeError::HungUp)) => {
                // Such as a load balancer does that wants to know whether the edge is there.
                outcomes.hung_up.increment(1);
                None
            }
            Ok(Err(error @ HandshakeError::Failed(_))) => {
                outcomes.failed.increment(1);
                audit::tls_refused(peer, "failed");
                tracing::debug!(%error, "tls handshake failed");
                None
            }
            Err(_) => {
                outcomes.timeout.increment(1);
                audit::tls_refused(peer, "timeout");
                None
            }
        }
    }

    async fn handshake(
        &self,
        tcp: TcpStream,
    ) -> Result<(ClientStream, HandshakeKind), HandshakeError> {
        let session = ServerConnection::new(Arc::clone(&self.config))?;
        client_stream::handshake(tcp, session).await
    }
}
