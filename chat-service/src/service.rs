//! Puts the parts together, and takes them apart in order when the service shuts down.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use service_kit::{
    exit::Failure,
    grpc::{GrpcSecurity, GrpcSettingsError, Incoming},
    mutual_tls::HTTP_2,
    ops::{Condition, InstallMetricsError, OpsServer, Readiness, install_metrics},
    shutdown::Shutdown,
    trace::Tracer,
};
use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    task::JoinSet,
    time::{self, Instant},
};
use tokio_stream::Stream;
use tonic::transport::server::Connected;

use crate::{
    Config,
    declared_events::Rate,
    edge_link::{Lease, LinkSettings, Links},
    exclusions::ExclusionBounds,
    grpc::{self, ChatGrpc, Exposure, ServeError, Server},
    namespaces::Namespaces,
    room_log::{Bounds, OpenStoreError, ServiceRoomLog, Threads},
    room_rules::SharedCapabilities,
    socket_registry::SocketRegistry,
    telemetry::Metrics,
    toml_file::TomlFileError,
    worker::{PresenceTerms, Worker, WorkerSettings},
    workers::Workers,
};

/// Most bytes of all logs in memory together, estimated. At the bound, the logs that were quiet longest are given up.
const HISTORY_BYTES_MAX: usize = 512 * 1024 * 1024;

/// Most bytes of the logs on disk that are held in memory, too, for reading and appending. A room has up to 4 MiB.
const HELD_BYTES_MAX: usize = 128 * 1024 * 1024;

/// Most bytes of all latest values together, estimated. At the bound, those of the rooms that were quiet longest go.
const RETAINED_BYTES_MAX: usize = 64 * 1024 * 1024;

/// How long the last calls may take when the service shuts down.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// The chat service, bound to its addresses.
#[derive(Debug)]
pub struct ChatService {
    config: Config,
    namespaces: Arc<Namespaces>,
    tracer: Tracer,
    is_serving: Condition,
    listener: TcpListener,
    address: SocketAddr,
    ops: Option<OpsServer>,
    backend_id: u128,
    /// One for each worker.
    logs: Vec<ServiceRoomLog>,
    exposure: Exposure,
}

/// What a running service is made of.
#[derive(Debug)]
struct Parts {
    config: Config,
    namespaces: Arc<Namespaces>,
    tracer: Tracer,
    is_serving: Condition,
    backend_id: u128,
    logs: Vec<ServiceRoomLog>,
    exposure: Exposure,
}

/// Makes this life of the process unlike all others.
#[derive(Debug)]
struct Random {
    backend_id: u128,
    epoch: u64,
}

/// Why the service cannot start.
#[derive(Debug, Error)]
pub enum BindError {
    /// The address of the gRPC services cannot be listened on.
    #[error("cannot listen on {1} (CHAT_LISTEN)")]
    Listen(#[source] io::Error, SocketAddr),
    /// The address for operators cannot be listened on.
    #[error("cannot listen on {1} (CHAT_OPS_LISTEN)")]
    ListenOps(#[source] io::Error, SocketAddr),
    /// The file of namespaces cannot be used.
    #[error("unusable CHAT_NAMESPACES_FILE")]
    Namespaces(#[from] TomlFileError),
    /// gRPC cannot be served as the settings say.
    #[error("gRPC cannot be served")]
    Grpc(#[from] GrpcSettingsError),
    /// A namespace is to be on disk, and there is no directory.
    #[error("rooms cannot be on disk without a directory (CHAT_DATA_DIR)")]
    NoDataDirectory,
    /// The data directory cannot be used.
    #[error("unusable CHAT_DATA_DIR")]
    DataDirectory(#[from] OpenStoreError),
    /// Metrics cannot be recorded.
    #[error("cannot record metrics")]
    Metrics(#[source] InstallMetricsError),
    /// The system gives out no random numbers.
    #[error("no random numbers")]
    Random(#[source] getrandom::Error),
}

/// Why the service ended by itself.
#[derive(Debug, Error)]
pub enum RunError {
    /// The gRPC services cannot be served any more.
    #[error("serving gRPC failed")]
    Serve(#[source] ServeError),
    /// A worker has panicked, and its rooms are gone.
    #[error("a worker failed")]
    Worker,
}

impl ChatService {
    /// Binds the service's addresses. From here on clients can connect; they are served when it runs.
    ///
    /// # Errors
    ///
    /// When an address is taken, or something else that the service needs is not to be had.
    pub async fn bind(
        config: Config,
        tracer: Tracer,
        readiness: Readiness,
    ) -> Result<Self, BindError> {
        let namespaces = Arc::new(config.checked_namespaces()?);
        let exposure =
            Exposure { security: config.grpc_security()?, reflects: config.grpc_reflection };
        let is_serving = readiness.condition("chat_grpc");
        let random = Random::draw().map_err(BindError::Random)?;
        let listen = config.listen;
        let listening = TcpListener::bind(listen).await;
        let listener = listening.map_err(|error| BindError::Listen(error, listen))?;
        let address = listener.local_addr().map_err(|error| BindError::Listen(error, listen))?;
        log_listening("grpc", address);

        let ops = match config.ops_listen {
            Some(listen) => {
                let metrics = install_metrics().map_err(BindError::Metrics)?;
                let bound = OpsServer::bind(listen, readiness, metrics).await;
                let ops = bound.map_err(|error| BindError::ListenOps(error, listen))?;
                log_listening("ops", ops.local_addr());
                Some(ops)
            }
            None => None,
        };
        let logs = open_logs(&config, random.epoch, &namespaces, Threads::Own).await?;
        let backend_id = random.backend_id;
        Ok(Self {
            config,
            namespaces,
            tracer,
            is_serving,
            listener,
            address,
            ops,
            backend_id,
            logs,
            exposure,
        })
    }

    /// Where the gRPC services are.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Where operators are answered, if they are.
    pub fn ops_addr(&self) -> Option<SocketAddr> {
        self.ops.as_ref().map(OpsServer::local_addr)
    }

    /// Serves until the shutdown is asked for. Edges keep their clients meanwhile, and attach to the next life.
    ///
    /// # Errors
    ///
    /// When it can no longer do its work.
    pub async fn run(self, shutdown: Shutdown) -> Result<(), RunError> {
        let Self {
            config,
            namespaces,
            tracer,
            is_serving,
            listener,
            ops,
            backend_id,
            logs,
            exposure,
            ..
        } = self;
        let mut ops_task = JoinSet::new();
        if let Some(ops) = ops {
            ops_task.spawn(ops.run(shutdown.clone()));
        }
        let GrpcSecurity { tls, connections_max, .. } = &exposure.security;
        let connections = Incoming::new(listener, grpc::SERVICE, tls.clone(), *connections_max);
        let parts = Parts { config, namespaces, tracer, is_serving, backend_id, logs, exposure };
        run(parts, connections, shutdown).await
    }

    /// Runs a service without listeners, for connections of a network that is not the system's. For tests, by the same code
    /// that serves edges.
    ///
    /// # Errors
    ///
    /// As [`bind`](Self::bind) and as [`run`](Self::run).
    #[doc(hidden)]
    pub async fn run_simulated<C, S>(
        config: Config,
        connections: C,
        shutdown: Shutdown,
    ) -> Result<Result<(), RunError>, BindError>
    where
        C: Stream<Item = io::Result<S>>,
        S: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
    {
        let namespaces = Arc::new(config.checked_namespaces()?);
        let is_serving = Readiness::new().condition("chat_grpc");
        let Random { backend_id, epoch } = Random::draw().map_err(BindError::Random)?;
        let logs = open_logs(&config, epoch, &namespaces, Threads::None).await?;
        let tracer = Tracer::disabled();
        let exposure = Exposure { security: GrpcSecurity::plaintext(), reflects: false };
        let parts = Parts { config, namespaces, tracer, is_serving, backend_id, logs, exposure };
        Ok(run(parts, connections, shutdown).await)
    }
}

/// Serves `connections` until the shutdown is asked for.
async fn run<C, S>(parts: Parts, connections: C, shutdown: Shutdown) -> Result<(), RunError>
where
    C: Stream<Item = io::Result<S>>,
    S: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
{
    let Parts { config, namespaces, tracer, is_serving, backend_id, logs, exposure } = parts;
    let metrics = Metrics::new().with_declared(&namespaces);

    // Half of the random number is unlike that of other lives, too.
    let registry = SocketRegistry::new(backend_id as u64);
    let mut worker_tasks = JoinSet::new();
    let settled_at = Instant::now() + config.link_grace;
    let settings = WorkerSettings {
        tracer: tracer.clone(),
        metrics: metrics.clone(),
        expose_trace_ids: config.expose_trace_ids,
        presence: PresenceTerms {
            grace: config.presence_grace,
            list_max: config.presence_list_max,
            settled_at,
        },
        namespaces: Arc::clone(&namespaces),
        retained_bytes_max: RETAINED_BYTES_MAX / config.worker_count(),
        followed_users_max: config.followed_users_max.get().div_ceil(config.worker_count()),
        exclusions: ExclusionBounds {
            count_max: config.exclusions_max.get().div_ceil(config.worker_count()),
            room_bans_max: config.room_bans_max.get(),
        },
        registry: registry.clone(),
    };
    let new_worker = |log| Worker::new(log, settings.clone());
    let workers = Workers::start(logs.into_iter().map(new_worker), &mut worker_tasks);

    let links = Links::new(LinkSettings {
        backend_id: format!("{:032x}", backend_id),
        first_life: (backend_id >> 64) as u64,
        lease: Lease::new(config.link_grace),
        registry,
        namespaces: Arc::clone(&namespaces),
        capabilities: SharedCapabilities::default(),
        joins: Rate::new(config.joins_per_second, config.joins_burst),
        workers: workers.clone(),
        tracer: tracer.clone(),
        metrics: metrics.clone(),
        shutdown: shutdown.clone(),
    });
    let chat = ChatGrpc::new(links.clone(), workers, namespaces, tracer, settled_at);
    let server = Server::new(chat, exposure);
    is_serving.set(true);
    let drained = async {
        shutdown.requested().await;
        is_serving.set(false);
        links.ended().await;
        time::sleep(DRAIN_TIMEOUT).await;
    };
    let ended = tokio::select! {
        served = server.serve(connections, shutdown.clone()) => served.map_err(RunError::Serve),
        () = drained => Ok(()),
        Some(_) = worker_tasks.join_next() => Err(RunError::Worker),
    };
    // With the workers go their logs, and what is in the directory is in order.
    worker_tasks.shutdown().await;
    ended
}

async fn open_logs(
    config: &Config,
    epoch: u64,
    namespaces: &Arc<Namespaces>,
    threads: Threads,
) -> Result<Vec<ServiceRoomLog>, BindError> {
    let bounds = Bounds {
        memory_bytes_max: HISTORY_BYTES_MAX,
        disk_bytes_max: config.data_bytes_max.get(),
        held_bytes_max: HELD_BYTES_MAX,
        threads,
    };
    let directory = config.data_dir.as_deref();
    let workers = config.worker_count();
    let logs = ServiceRoomLog::open(directory, epoch, namespaces, bounds, workers).await?;
    if let Some(directory) = directory {
        tracing::info!(service = "chat-service", directory = %directory.display(), "history is on disk");
    }
    Ok(logs)
}

impl Config {
    /// Looks at what can be looked at without starting the service.
    ///
    /// # Errors
    ///
    /// When the service would not start.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn check(&self) -> Result<(), BindError> {
        self.checked_namespaces()?;
        self.grpc_security()?;
        Ok(())
    }

    fn grpc_security(&self) -> Result<GrpcSecurity, GrpcSettingsError> {
        let listen = Some(("CHAT_LISTEN", self.listen));
        self.grpc.settings().open("chat_grpc", listen, &[HTTP_2], false)
    }

    fn checked_namespaces(&self) -> Result<Namespaces, BindError> {
        let namespaces = self.namespaces()?;
        if namespaces.has_disk() && self.data_dir.is_none() {
            return Err(BindError::NoDataDirectory);
        }
        Ok(namespaces)
    }
}

impl From<BindError> for Failure {
    fn from(error: BindError) -> Self {
        match error {
            BindError::Listen(..) | BindError::ListenOps(..) => Self::unavailable(error),
            BindError::DataDirectory(OpenStoreError::InUse(_) | OpenStoreError::Directory(..)) => {
                Self::unavailable(error)
            }
            BindError::Namespaces(TomlFileError::Faults(faults)) => Self::of_configurations(faults),
            BindError::Namespaces(TomlFileError::Read { .. })
            | BindError::NoDataDirectory
            | BindError::Grpc(_)
            | BindError::DataDirectory(OpenStoreError::Foreign(_) | OpenStoreError::Damaged(..)) => {
                Self::configuration(error)
            }
            BindError::Metrics(_) | BindError::Random(_) => Self::internal(error),
        }
    }
}

impl Random {
    fn draw() -> Result<Self, getrandom::Error> {
        let mut backend_id = [0; 16];
        getrandom::fill(&mut backend_id)?;
        let epoch = getrandom::u64()?;
        Ok(Self { backend_id: u128::from_ne_bytes(backend_id), epoch })
    }
}

fn log_listening(listener: &'static str, address: SocketAddr) {
    tracing::info!(service = "chat-service", listener, %address, "listening");
}
