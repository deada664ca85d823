//! The listener for the other edges of the cluster.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use http::{Request, Response};
use hyper::{body::Incoming, service::service_fn, upgrade::OnUpgrade};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use metrics::Counter;
use proto::peer::v1::edge_peer_server::EdgePeerServer;
use service_kit::shutdown::Shutdown;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time,
};
use tonic::body::Body;
use tower::ServiceExt;

use super::{TUNNEL_PATH, service::PeerService};
use crate::{
    session_id::SessionId,
    transport::mailbox::{Mail, Mailboxes},
};

/// How long a peer may take to send a request's headers.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// How long to wait before accepting again when the process has no descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How long the last answers may take to be written.
const LAST_WRITES: Duration = Duration::from_secs(1);

const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 16 * 1024 * 1024;

/// The listener, bound.
#[derive(Debug)]
pub(super) struct PeerListener {
    listener: TcpListener,
    address: SocketAddr,
}

/// What serves each connection.
#[derive(Debug, Clone)]
struct Served {
    service: PeerService,
    accept_errors: Counter,
}

/// A tunnel whose `101` waits to be written.
type Tunnel = (SessionId, OnUpgrade);

impl PeerListener {
    pub(super) async fn bind(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        tracing::info!(service = "edge-gateway", listener = "peers", %address, "listening");
        Ok(Self { listener, address })
    }

    pub(super) fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves the sessions of these mailboxes, until shutdown is asked for and the last answers are written.
    pub(super) async fn run(
        self,
        service: PeerService,
        accept_errors: Counter,
        shutdown: Shutdown,
    ) {
        let served = Served { service, accept_errors };
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        connections.spawn(served.clone().serve(stream, shutdown.clone()));
                    }
                    Err(error) => {
                        served.accept_errors.increment(1);
                        tracing::warn!(%error, "connection of another edge could not be accepted");
                        time::sleep(ACCEPT_PAUSE).await;
                    }
                },
                _ = connections.join_next(), if !connections.is_empty() => {}
                () = shutdown.requested() => break,
            }
        }
        let last = async { while connections.join_next().await.is_some() {} };
        time::timeout(LAST_WRITES, last).await.ok();
    }
}

impl Served {
    async fn serve(self, stream: TcpStream, shutdown: Shutdown) {
        // Without it small answers wait for the peer's delayed acknowledgement. A socket that refuses is about to fail.
        if stream.set_nodelay(true).is_err() {
            return;
        }
        let tunnel = Arc::new(Mutex::new(None));
        let service = service_fn(|request| self.clone().answer(request, Arc::clone(&tunnel)));
        let mut http = auto::Builder::new(TokioExecutor::new());
        http.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
        // Each stream is a request of a client that another edge has accepted, and bounded there. Polls wait: a bound on
        // them would make all others wait, and clients that abort many must not cost the others their connection.
        http.http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(None)
            .max_pending_accept_reset_streams(usize::MAX)
            .max_local_error_reset_streams(None)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
        let serving = http.serve_connection_with_upgrades(TokioIo::new(stream), service);
        let mut serving = std::pin::pin!(serving);
        let ended = tokio::select! {
            ended = &mut serving => ended,
            () = shutdown.requested() => {
                serving.as_mut().graceful_shutdown();
                serving.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(error, "connection of another edge ended");
        }
        let asked = tunnel.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((session, on_upgrade)) = asked {
            hand_over(&self.service.mailboxes, session, on_upgrade).await;
        }
    }

    async fn answer(
        self,
        mut request: Request<Incoming>,
        tunnel: Arc<Mutex<Option<Tunnel>>>,
    ) -> Result<Response<Body>, Infallible> {
        if !request.uri().path().starts_with(TUNNEL_PATH) {
            // What a session's outbox holds, and thus a poll's answer, has a bound of its own.
            let server = EdgePeerServer::new(self.service).max_encoding_message_size(usize::MAX);
            return server.oneshot(request).await;
        }
        let (response, session) = self.service.open_tunnel(&request);
        if let Some(session) = session {
            let asked = Some((session, hyper::upgrade::on(&mut request)));
            *tunnel.lock().unwrap_or_else(PoisonError::into_inner) = asked;
        }
        Ok(response)
    }
}

/// Gives a tunnel to the session that it leads to, which from then on has it in the place of a client's connection.
async fn hand_over(mailboxes: &Mailboxes, session: SessionId, on_upgrade: OnUpgrade) {
    let Ok(upgraded) = on_upgrade.await else { return };
    let Ok(parts) = auto::upgrade::downcast::<TokioIo<TcpStream>>(upgraded) else { return };
    let Ok(stream) = parts.io.into_inner().into_std() else { return };
    let stream = stream.into();
    // A shard that has ended has no session to take over.
    mailboxes.send(Mail::Probe { session, stream, early: parts.read_buf }).await.ok();
}
