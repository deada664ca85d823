//! The listener for the other edges of the cluster.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use http::{Request, Response, StatusCode};
use hyper::{body::Incoming, service::service_fn, upgrade::OnUpgrade};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use metrics::Counter;
use proto::peer::v1::edge_peer_server::EdgePeerServer;
use service_kit::{
    grpc::{Accepted, Caller, CallersLayer, GrpcSecurity, Incoming as Connections},
    shutdown::Shutdown,
};
use tokio::{net::TcpListener, task::JoinSet, time};
use tokio_stream::StreamExt;
use tonic::body::Body;
use tower::ServiceExt;

use super::{
    POSTS_MAX, TUNNEL_PATH, WAITING_POLLS_MAX, call_body::BegunCalls, callers, service::PeerService,
};
use crate::{
    audit::SERVICE,
    client_stream::ClientStream,
    session_id::SessionId,
    transport::mailbox::{Mail, Mailboxes},
};

/// How long a peer may take to send a request's headers.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the last answers may take to be written.
const LAST_WRITES: Duration = Duration::from_secs(1);

const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 16 * 1024 * 1024;

/// A call says in its headers what it is and for which host, in less than 700 bytes; the rest is for what a proxy may add.
const HEADERS_BYTES_MAX: u32 = 2 * 1024;
/// The same for a tunnel, as small as can be set.
const HTTP_1_BUFFER_BYTES: usize = 8 * 1024;

/// How many requests may be under way on a connection: those that wait for clients, and as many others as there is any need for.
const STREAMS_MAX: u32 = WAITING_POLLS_MAX + POSTS_MAX + 1024;

/// How many requests may have been given up before they were seen. Clients that abort many must not cost the others their
/// connection.
const RESET_STREAMS_MAX: usize = 4 * 1024;

/// How often a connection is tried, and for how long it may be silent then.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// The listener, bound.
#[derive(Debug)]
pub(super) struct PeerListener {
    connections: Connections,
    callers: CallersLayer,
    begun: BegunCalls,
    address: SocketAddr,
}

/// What serves each connection.
#[derive(Debug, Clone)]
struct Served {
    service: PeerService,
    callers: CallersLayer,
    begun: BegunCalls,
}

/// A tunnel whose `101` waits to be written.
type Tunnel = (SessionId, OnUpgrade);

impl PeerListener {
    pub(super) async fn bind(
        address: SocketAddr,
        security: &GrpcSecurity,
        refused_calls: Counter,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let GrpcSecurity { tls, connections_max, .. } = security;
        let connections = Connections::new(listener, SERVICE, tls.clone(), *connections_max);
        let callers = security.layer(SERVICE, callers::METHODS);
        tracing::info!(service = "edge-gateway", listener = "peers", %address, "listening");
        Ok(Self { connections, callers, begun: BegunCalls::new(refused_calls), address })
    }

    pub(super) fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves the sessions of these mailboxes, until shutdown is asked for and the last answers are written.
    pub(super) async fn run(mut self, service: PeerService, shutdown: Shutdown) {
        let served = Served { service, callers: self.callers, begun: self.begun };
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                Some(Ok(accepted)) = self.connections.next() => {
                    connections.spawn(served.next_connection().serve(accepted, shutdown.clone()));
                }
                _ = connections.join_next(), if !connections.is_empty() => {}
                () = shutdown.requested() => break,
            }
        }
        let last = async { while connections.join_next().await.is_some() {} };
        time::timeout(LAST_WRITES, last).await.ok();
    }
}

impl Served {
    fn next_connection(&self) -> Self {
        Self { begun: self.begun.of_next_connection(), ..self.clone() }
    }

    async fn serve(self, accepted: Accepted, shutdown: Shutdown) {
        let caller = accepted.caller().clone();
        let tunnel = Arc::new(Mutex::new(None));
        let service =
            service_fn(|request| self.clone().answer(request, caller.clone(), Arc::clone(&tunnel)));
        let mut http = auto::Builder::new(TokioExecutor::new());
        http.http1()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .max_buf_size(HTTP_1_BUFFER_BYTES);
        http.http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .max_header_list_size(HEADERS_BYTES_MAX)
            .max_concurrent_streams(STREAMS_MAX)
            .max_pending_accept_reset_streams(RESET_STREAMS_MAX)
            .max_local_error_reset_streams(RESET_STREAMS_MAX)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
        let serving = http.serve_connection_with_upgrades(TokioIo::new(accepted), service);
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
        caller: Caller,
        tunnel: Arc<Mutex<Option<Tunnel>>>,
    ) -> Result<Response<Body>, Infallible> {
        let path = request.uri().path();
        let is_tunnel = path.starts_with(TUNNEL_PATH);
        let method = if is_tunnel { TUNNEL_PATH } else { path };
        if let Err(refusal) = self.callers.decide(method, Some(&caller)) {
            let mut response = refusal.into_http();
            if is_tunnel {
                *response.status_mut() = StatusCode::FORBIDDEN;
            }
            return Ok(response);
        }
        if !is_tunnel {
            let is_post = path == callers::POST_PATH;
            let (head, body) = request.into_parts();
            let body = match self.begun.take(body, is_post) {
                Ok(body) => body,
                Err(refusal) => return Ok(refusal.into_http()),
            };
            // What a session's outbox holds, and thus a poll's answer, has a bound of its own.
            let server = EdgePeerServer::new(self.service).max_encoding_message_size(usize::MAX);
            return server.oneshot(Request::from_parts(head, body)).await;
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
    let Ok(parts) = auto::upgrade::downcast::<TokioIo<Accepted>>(upgraded) else { return };
    let stream = match parts.io.into_inner().into_parts() {
        (stream, None) => ClientStream::from(stream),
        (stream, Some(session)) => ClientStream::over_tls(stream, session),
    };
    let Ok(stream) = stream.detach() else { return };
    // A shard that has ended has no session to take over.
    mailboxes.send(Mail::Probe { session, stream, early: parts.read_buf }).await.ok();
}
