//! The way to another edge: one HTTP/2 connection, made when first needed and again after a break.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http::{Request, Response};
use hyper::{
    body::Incoming,
    client::conn::http2::{self, SendRequest},
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use proto::peer::v1::edge_peer_client::EdgePeerClient;
use service_kit::mutual_tls::{HTTP_2, MutualTls};
use tokio::{
    net::TcpStream,
    sync::Mutex,
    task::JoinSet,
    time::{self, Instant},
};
use tonic::body::Body;

use super::PeerAddress;
use crate::client_stream::ClientStream;

/// How long another edge may take to accept a connection, and as long again to shake hands. It is near; a client waits meanwhile,
/// and would be better off with a new session.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// After an attempt that failed, for how long nothing is tried, and clients are told at once.
const RETRY_PAUSE: Duration = Duration::from_millis(250);

/// How often a connection is tried, and for how long it may be silent then: polls that wait on one that is dead wait in vain.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);

const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 16 * 1024 * 1024;

/// How many aborted polls are remembered, so that an answer which was on its way is not taken for a breach of the protocol.
const RESET_STREAMS_MAX: usize = 16 * 1024;

/// The other edge cannot be had at the moment.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error("the other edge cannot be reached")]
    Dial(#[from] io::Error),
    #[error("the other edge does not speak http/2")]
    Handshake(#[from] hyper::Error),
    #[error("the other edge could not be reached a moment ago")]
    Pause,
}

/// The connection to one other edge.
#[derive(Debug)]
pub(super) struct PeerConnection {
    address: PeerAddress,
    /// What is shown to those at `https`.
    tls: Option<MutualTls>,
    /// Held while a connection is made: whoever comes meanwhile waits for that one.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    channel: Option<PeerChannel>,
    failed_at: Option<Instant>,
    /// Holds one task.
    driver: JoinSet<()>,
}

impl PeerConnection {
    pub(super) fn new(address: PeerAddress, tls: Option<MutualTls>) -> Self {
        Self { address, tls, state: Mutex::default() }
    }

    /// What calls the other edge.
    pub(super) async fn client(&self) -> Result<EdgePeerClient<PeerChannel>, ConnectError> {
        let channel = self.channel().await?;
        // What a session's outbox holds, and thus a poll's answer, has a bound of its own.
        let client = EdgePeerClient::with_origin(channel, self.address.url());
        Ok(client.max_decoding_message_size(usize::MAX))
    }

    async fn channel(&self) -> Result<PeerChannel, ConnectError> {
        let mut state = self.state.lock().await;
        if let Some(channel) = state.channel.as_ref().filter(|channel| !channel.0.is_closed()) {
            return Ok(channel.clone());
        }
        if state.failed_at.is_some_and(|at| at.elapsed() < RETRY_PAUSE) {
            return Err(ConnectError::Pause);
        }
        state.channel = None;
        match self.connect(&mut state.driver).await {
            Ok(channel) => {
                tracing::info!(peer = self.address.number, "another edge is reached");
                state.failed_at = None;
                Ok(state.channel.insert(channel).clone())
            }
            Err(error) => {
                // Once for each outage, not for each attempt.
                if state.failed_at.is_none() {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(
                        peer = self.address.number,
                        error,
                        "another edge is out of reach"
                    );
                }
                state.failed_at = Some(Instant::now());
                Err(error)
            }
        }
    }

    async fn connect(&self, driver: &mut JoinSet<()>) -> Result<PeerChannel, ConnectError> {
        let stream = TokioIo::new(self.dial(HTTP_2).await?);
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .max_concurrent_reset_streams(RESET_STREAMS_MAX)
            .handshake(stream)
            .await?;
        // Also forgets the one before.
        *driver = JoinSet::new();
        driver.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection to another edge ended");
            }
        });
        Ok(PeerChannel(sender))
    }

    /// A new connection to the other edge, on which a protocol will be spoken.
    pub(super) async fn dial(&self, protocol: &[u8]) -> io::Result<ClientStream> {
        let connected = TcpStream::connect(self.address.authority.as_str());
        let stream = time::timeout(CONNECT_TIMEOUT, connected).await??;
        stream.set_nodelay(true)?;
        if !self.address.is_tls {
            return Ok(stream.into());
        }
        // Without a certificate nothing is sent to where TLS is wanted.
        let tls = self.tls.as_ref();
        let tls = tls.ok_or_else(|| io::Error::other("there is no certificate"))?;
        let connected = tls.connect(self.address.authority.host(), stream, protocol);
        let (stream, session) = time::timeout(CONNECT_TIMEOUT, connected).await??.into_inner();
        Ok(ClientStream::over_tls(stream, session))
    }

    /// What a request of HTTP/1.1 names as its host.
    pub(super) fn host(&self) -> &str {
        self.address.authority.as_str()
    }
}

/// Carries calls; cheap to clone. A call that is dropped is cancelled at the other edge.
#[derive(Debug, Clone)]
pub(super) struct PeerChannel(SendRequest<Body>);

impl tower::Service<Request<Body>> for PeerChannel {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = hyper::Result<Response<Incoming>>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}
