//! Holds the client connections and carries out what business services say.
//!
//! One single-threaded shard per core, each with its own listener, its own connections and its own streams to the
//! business services. `docs/ARCHITECTURE.md` tells the walk of a message through it.

mod application;
mod audit;
mod auth;
mod backend_link;
mod capabilities;
mod client_address;
mod client_handshake;
mod client_stream;
mod client_tls;
mod close_reason;
mod config;
mod connection;
mod contained;
mod cors;
mod dialer;
mod error_answer;
#[doc(hidden)]
pub mod fuzzing;
mod hosts;
mod namespaces;
mod older_handshake;
mod origins;
mod overload;
mod peers;
mod quota;
mod request;
mod revocation_watch;
mod revocations;
mod server;
mod session_binding;
mod session_id;
mod shard;
mod shard_thread;
mod simulated;
mod socket;
mod telemetry;
mod threads;
mod ticks;
mod transport;
mod webtransport;

use std::{
    io,
    net::SocketAddr,
    num::NonZeroUsize,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use service_kit::{
    exit::Failure,
    ops::{Condition, InstallMetricsError, OpsServer, Readiness, install_metrics},
    shutdown::Shutdown,
    trace::Tracer,
};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::task::JoinSet;

use crate::{
    application::Application,
    client_tls::ClientTls,
    dialer::Dialer,
    overload::Overload,
    peers::Cluster,
    quota::{AddressLimits, IdentityLimits},
    server::{Admission, client_bundle::ClientBundle},
    shard_thread::ShardThread,
    telemetry::{Metrics, Pressures},
    webtransport::WebTransport,
};
pub use crate::{
    client_tls::ClientTlsError,
    close_reason::CloseReason,
    config::{
        AddressLimitConfig, ClientAddressConfig, ClientLimitConfig, Config, ConfigError,
        DEFAULT_AUTH_URL, ForwardedHeader, GrpcConfig, HopError, HttpConfig, HttpConfigError,
        IdentityLimitConfig, OriginConfig, OverloadConfig, ParseRouteError, ParseSessionBondsError,
        Route, SameSite, SessionBonds, TlsConfig,
    },
    cors::{AllowedOrigin, ParseOriginError},
    hosts::{AllowedHost, ParseHostError},
    namespaces::ReadNamespacesError,
    peers::{ParsePeerError, PeerAddress},
    simulated::{BoxedStream, Dial, SimulatedNetwork, SimulationError, Stream},
    webtransport::WebTransportError,
};

/// How many connections may wait to be accepted.
const BACKLOG: i32 = 1024;

/// The most shards: a session's name holds its shard in one byte.
const SHARDS_MAX: usize = 256;

/// The edge, bound to its addresses and ready to run.
#[derive(Debug)]
pub struct EdgeGateway {
    local_addr: SocketAddr,
    shards: Vec<(ShardThread, std::net::TcpListener)>,
    cluster: Cluster,
    webtransport: Option<WebTransport>,
    ops: OpsServer,
    overload: (Arc<Overload>, Pressures, Condition),
}

fn shard_count(config: &Config) -> Result<usize, ConfigError> {
    let count = config.shards.map_or_else(cores, NonZeroUsize::get);
    if count > SHARDS_MAX { Err(ConfigError::TooManyShards { max: SHARDS_MAX }) } else { Ok(count) }
}

fn log_listening(listener: &'static str, address: SocketAddr) {
    tracing::info!(service = "edge-gateway", listener, %address, "listening");
}

/// Why the edge cannot start.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The settings do not go together.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// An address cannot be had.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The process has a metrics recorder of another kind.
    #[error(transparent)]
    Metrics(#[from] InstallMetricsError),
}

impl From<BindError> for Failure {
    fn from(error: BindError) -> Self {
        match error {
            BindError::Config(_) => Self::configuration(error),
            BindError::Listen { .. } => Self::unavailable(error),
            BindError::Metrics(_) => Self::internal(error),
        }
    }
}

/// Why the edge stopped other than when asked to.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A shard's thread could not be started.
    #[error("cannot start a shard")]
    Start(#[source] io::Error),
    /// A shard has ended by itself.
    #[error("a shard has ended")]
    Ended(#[source] io::Error),
    /// A shard's thread panicked.
    #[error("a shard has failed")]
    Panicked,
}

impl EdgeGateway {
    /// Binds all listeners. `pages` answers what is neither Socket.IO nor plain JSON on the client listener.
    ///
    /// # Errors
    ///
    /// When settings do not go together or an address cannot be had.
    pub async fn bind(
        config: Config,
        tracer: Tracer,
        readiness: Readiness,
        pages: axum::Router,
    ) -> Result<Self, BindError> {
        Self::bind_application(Application::Services, config, tracer, readiness, pages).await
    }

    /// Binds an edge without business services, which sends every message back as it came: Engine.IO on `/engine.io/`,
    /// WebSocket on `/echo`. For tests of those layers, by the same code that serves clients.
    ///
    /// # Errors
    ///
    /// When an address cannot be had.
    #[doc(hidden)]
    pub async fn bind_echo(config: Config) -> Result<Self, BindError> {
        // Nobody enters a namespace here, so that there is nothing to wait for.
        let config = Config { connect_timeout: Duration::MAX, ..config };
        let (tracer, readiness) = (Tracer::disabled(), Readiness::new());
        let pages = axum::Router::new();
        Self::bind_application(Application::Echo, config, tracer, readiness, pages).await
    }

    async fn bind_application(
        application: Application,
        config: Config,
        tracer: Tracer,
        readiness: Readiness,
        pages: axum::Router,
    ) -> Result<Self, BindError> {
        let namespaces = match application {
            Application::Services => config.validated_namespaces()?,
            Application::Echo => Vec::new(),
        };
        let security = config.validated_hops(&namespaces)?;
        let client_bundle = match &config.client_bundle {
            Some(folder) => Some(Arc::new(ClientBundle::load(folder)?)),
            None => None,
        };
        config.validated_listener().map_err(ConfigError::from)?;
        let certificate = client_tls::certificate(&config.tls).map_err(ConfigError::from)?;
        let tls = certificate.clone().map(|certificate| ClientTls::new(certificate, &config.tls));
        let tls = tls.transpose().map_err(ConfigError::from)?;
        let metrics_handle = install_metrics()?;
        let count = shard_count(&config)?;
        let (local_addr, listeners) = listen(config.listen, count)
            .map_err(|source| BindError::Listen { address: config.listen, source })?;
        let ops = OpsServer::bind(config.ops_listen, readiness.clone(), metrics_handle)
            .await
            .map_err(|source| BindError::Listen { address: config.ops_listen, source })?;
        log_listening("clients", local_addr);
        log_listening("ops", ops.local_addr());

        let edge_id: Arc<str> = session_id::random().into();
        let metrics = Metrics::new();
        let bound = Cluster::bind(&config, count, metrics.clone(), &security).await?;
        let (cluster, mailboxes, boxes) = bound;
        let limits = Arc::new(AddressLimits::new(&config.address_limits, Instant::now()));
        let identity_limits = Arc::new(IdentityLimits::of(&config.client_limits));
        let overload = Arc::new(Overload::new(&config.overload, count));
        let admission = Arc::new(Admission::new(config.opens_per_second, Arc::clone(&overload)));
        let overload = (overload, metrics.pressures.clone(), readiness.condition("room"));
        let door = (Arc::clone(&limits), Arc::clone(&admission));
        let ways = mailboxes.clone();
        let server_config = webtransport::server_config(&config, certificate.as_ref());
        let server_config = server_config.map_err(ConfigError::from)?;
        let webtransport = server_config.map(|server_config| {
            let limits = (door, metrics.clone());
            WebTransport::bind((application, &config), server_config, &namespaces, ways, limits)
        });
        let webtransport = webtransport.transpose()?;
        let shards = (0..=u8::MAX)
            .zip(listeners)
            .zip(boxes)
            .map(|((number, listener), mailbox)| {
                let shard = ShardThread {
                    application,
                    number,
                    mailbox,
                    mailboxes: mailboxes.clone(),
                    config: config.clone(),
                    namespaces: namespaces.clone(),
                    tracer: tracer.clone(),
                    pages: pages.clone(),
                    client_bundle: client_bundle.clone(),
                    edge_id: Arc::clone(&edge_id),
                    metrics: metrics.clone(),
                    chat_link: readiness.condition("backend_links"),
                    dialer: Dialer::new(security.tls.clone()),
                    address_limits: Arc::clone(&limits),
                    tls: tls.clone(),
                    admission: Arc::clone(&admission),
                    identity_limits: Arc::clone(&identity_limits),
                };
                (shard, listener)
            })
            .collect();
        Ok(Self { local_addr, shards, cluster, webtransport, ops, overload })
    }

    /// Where clients connect.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Where operators look.
    #[must_use]
    pub fn ops_addr(&self) -> SocketAddr {
        self.ops.local_addr()
    }

    /// Where the other edges of the cluster connect, if they may.
    #[must_use]
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.cluster.local_addr()
    }

    /// Where clients connect on WebTransport, if they may: a port of UDP.
    #[must_use]
    pub fn webtransport_addr(&self) -> Option<SocketAddr> {
        self.webtransport.as_ref().map(WebTransport::local_addr)
    }

    /// Serves clients until shutdown is asked for and the connections are drained.
    ///
    /// # Errors
    ///
    /// When a shard cannot start or has failed.
    pub async fn run(self, shutdown: Shutdown) -> Result<(), RunError> {
        let (ops_trigger, ops_shutdown) = Shutdown::new();
        let ops = tokio::spawn(self.ops.run(ops_shutdown));
        let (shards_trigger, shards_ended) = Shutdown::new();
        let (stop, stopping) = Shutdown::new();
        let mut beside = JoinSet::new();
        if let Some(listener) = self.webtransport {
            beside.spawn(listener.run(stopping.clone(), shards_ended.clone()));
        }
        let (overload, pressures, has_room) = self.overload;
        beside.spawn(overload::watch(overload, pressures, has_room, shards_ended.clone()));
        beside.spawn(self.cluster.run(stopping.clone(), shards_ended));
        let asked = stopping.clone();
        let shards = self.shards.into_iter().map(|(shard, listener)| {
            let asked = asked.clone();
            |shutdown| shard.run(listener, shutdown, asked)
        });
        let shards = threads::run("shard", shards, stopping);
        let outcome = threads::stand_with(&mut beside, shards, (&shutdown, &stop)).await;
        shards_trigger.trigger();
        while let Some(ended) = beside.join_next().await {
            ended.map_err(|_| RunError::Panicked)?;
        }
        // Operators can watch the drain to its end.
        ops_trigger.trigger();
        ops.await.map_err(|_| RunError::Panicked)?;
        outcome
    }
}

fn cores() -> usize {
    thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

/// One listener for each shard on the same address: the kernel spreads the connections.
fn listen(
    address: SocketAddr,
    count: usize,
) -> io::Result<(SocketAddr, Vec<std::net::TcpListener>)> {
    // Port sharing must not hide that another process has the address. This socket does not listen: who connects to one that is
    // closed again is reset.
    drop(bind(address, false)?);
    let listen = |address| -> io::Result<std::net::TcpListener> {
        let socket = bind(address, true)?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    };
    let first = listen(address)?;
    let local_addr = first.local_addr()?;
    let others = (1..count).map(|_| listen(local_addr));
    let listeners = std::iter::once(Ok(first)).chain(others).collect::<io::Result<_>>()?;
    Ok((local_addr, listeners))
}

fn bind(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.set_nonblocking(true)?;
    // Small frames must not wait for the client's delayed acknowledgement. What is accepted inherits it.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn an_address_that_another_edge_listens_on_is_not_shared_with_it() {
        let (address, _listeners) = listen("127.0.0.1:0".parse().unwrap(), 2).unwrap();

        let second = listen(address, 2).unwrap_err();

        assert_eq!(second.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn clients_are_sent_small_frames_at_once() {
        let (address, listeners) = listen("127.0.0.1:0".parse().unwrap(), 1).unwrap();
        listeners[0].set_nonblocking(false).unwrap();
        let _client = TcpStream::connect(address).unwrap();

        let (accepted, _) = listeners[0].accept().unwrap();

        assert!(accepted.nodelay().unwrap());
    }
}
