//! Puts the parts together, and takes them apart in order when the service shuts down.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use service_kit::{
    exit::Failure,
    ops::{Condition, InstallMetricsError, OpsServer, Readiness, install_metrics},
    shutdown::Shutdown,
    trace::Tracer,
};
use thiserror::Error;
use tokio::{
    net::TcpListener,
    task::JoinSet,
    time::{self, Instant},
};

use crate::{
    Config,
    edge_link::{LinkSettings, Links},
    grpc::{ServeError, Server},
    namespaces::{Namespaces, ReadNamespacesError},
    room_log::MemoryRoomLog,
    telemetry::Metrics,
    worker::{PresenceTerms, Worker, WorkerSettings},
    workers::Workers,
};

/// Most bytes of all logs together, estimated. At the bound, the logs that were quiet longest are given up.
const HISTORY_BYTES_MAX: usize = 512 * 1024 * 1024;

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
    random: Random,
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
    Namespaces(#[from] ReadNamespacesError),
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
        let namespaces = Arc::new(config.namespaces()?);
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
        Ok(Self { config, namespaces, tracer, is_serving, listener, address, ops, random })
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
        let Self { config, namespaces, tracer, is_serving, listener, address: _, ops, random } =
            self;
        let metrics = Metrics::new();

        let mut worker_tasks = JoinSet::new();
        let worker_count = config.worker_count();
        let settings = WorkerSettings {
            tracer: tracer.clone(),
            metrics: metrics.clone(),
            expose_trace_ids: config.expose_trace_ids,
            presence: PresenceTerms {
                grace: config.presence_grace,
                list_max: config.presence_list_max,
                settled_at: Instant::now() + config.link_grace,
            },
        };
        let new_worker = |_| {
            let bytes_max = HISTORY_BYTES_MAX / worker_count;
            let log = MemoryRoomLog::new(random.epoch, Arc::clone(&namespaces), bytes_max);
            Worker::new(log, settings.clone())
        };
        let workers = Workers::start((0..worker_count).map(new_worker), &mut worker_tasks);

        let links = Links::new(LinkSettings {
            backend_id: format!("{:032x}", random.backend_id),
            grace: config.link_grace,
            workers: workers.clone(),
            tracer: tracer.clone(),
            metrics: metrics.clone(),
            shutdown: shutdown.clone(),
        });
        let server = Server::new(links.clone(), workers, tracer);
        let mut ops_task = JoinSet::new();
        if let Some(ops) = ops {
            ops_task.spawn(ops.run(shutdown.clone()));
        }
        is_serving.set(true);
        let drained = async {
            shutdown.requested().await;
            is_serving.set(false);
            links.ended().await;
            time::sleep(DRAIN_TIMEOUT).await;
        };
        tokio::select! {
            served = server.serve(listener, shutdown.clone()) => served.map_err(RunError::Serve),
            () = drained => Ok(()),
            Some(_) = worker_tasks.join_next() => Err(RunError::Worker),
        }
    }
}

impl From<BindError> for Failure {
    fn from(error: BindError) -> Self {
        match error {
            BindError::Listen(..) | BindError::ListenOps(..) => Self::unavailable(error),
            BindError::Namespaces(_) => Self::configuration(error),
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
