//! Runs a whole edge on the thread it is called on, over a network that is not the system's.

use std::{io, net, net::IpAddr, num::NonZeroUsize, sync::Arc, time::Instant};

use service_kit::{grpc::GrpcSecurity, ops::Readiness, shutdown::Shutdown, trace::Tracer};
use tokio::{sync::mpsc, task::JoinSet};

#[doc(hidden)]
pub use crate::dialer::{BoxedStream, Dial, Stream};
use crate::{
    BindError, EdgeGateway, RunError,
    application::Application,
    config::Config,
    dialer::Dialer,
    overload::Overload,
    peers::Cluster,
    quota::{AddressLimits, IdentityLimits},
    server::{Admission, Clients},
    session_id,
    shard::TICK,
    shard_thread::ShardThread,
    telemetry::Metrics,
    ticks::Ticks,
};

/// How an edge in a simulation reaches its clients and services.
#[doc(hidden)]
pub struct SimulatedNetwork {
    /// For each shard, its clients: a stream that is read and written like a connection of TCP, and the client's address.
    pub clients: Vec<mpsc::Receiver<(net::TcpStream, IpAddr)>>,
    /// Opens a stream to a service.
    pub dial: Arc<Dial>,
}

impl std::fmt::Debug for SimulatedNetwork {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shards = self.clients.len();
        formatter.debug_struct("SimulatedNetwork").field("shards", &shards).finish_non_exhaustive()
    }
}

/// Why an edge in a simulation has ended.
#[doc(hidden)]
#[derive(Debug, thiserror::Error)]
pub enum SimulationError {
    /// It could not start.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// It has failed.
    #[error(transparent)]
    Run(#[from] RunError),
}

impl EdgeGateway {
    /// Runs an edge without threads, listeners and operators: each shard is a task of the caller's [`LocalSet`]. For tests,
    /// by the same code that serves clients.
    ///
    /// # Errors
    ///
    /// When settings do not go together, or a shard has failed.
    ///
    /// [`LocalSet`]: tokio::task::LocalSet
    #[doc(hidden)]
    pub async fn run_simulated(
        config: Config,
        network: SimulatedNetwork,
        shutdown: Shutdown,
    ) -> Result<(), SimulationError> {
        let namespaces = config.validated_namespaces().map_err(BindError::from)?;
        let config = Config { shards: NonZeroUsize::new(network.clients.len()), ..config };
        let metrics = Metrics::new();
        let security = GrpcSecurity::plaintext();
        let readiness = Readiness::new();
        let edge_id: Arc<str> = session_id::random().into();
        let bound =
            Cluster::bind(&config, network.clients.len(), metrics.clone(), &security).await?;
        let (_, mailboxes, boxes) = bound;
        let address_limits = Arc::new(AddressLimits::new(&config.address_limits, Instant::now()));
        let identity_limits = Arc::new(IdentityLimits::of(&config.client_limits));
        // Nobody looks at memory and descriptors: they are not those of one edge.
        let overload = Arc::new(Overload::new(&config.overload, network.clients.len()));
        let admission = Arc::new(Admission::new(config.opens_per_second, overload));
        let mut shards = JoinSet::new();
        for (number, (clients, mailbox)) in
            (0..=u8::MAX).zip(network.clients.into_iter().zip(boxes))
        {
            let shard = ShardThread {
                application: Application::Services,
                number,
                mailbox,
                mailboxes: mailboxes.clone(),
                config: config.clone(),
                namespaces: namespaces.clone(),
                tracer: Tracer::disabled(),
                pages: axum::Router::new(),
                client_bundle: None,
                edge_id: Arc::clone(&edge_id),
                metrics: metrics.clone(),
                chat_link: readiness.condition("backend_links"),
                dialer: Dialer::Simulated(Arc::clone(&network.dial)),
                address_limits: Arc::clone(&address_limits),
                tls: None,
                admission: Arc::clone(&admission),
                identity_limits: Arc::clone(&identity_limits),
            };
            let from = (Clients::Handed(clients), Ticks::of_runtime(TICK));
            shards.spawn_local(shard.serve(from, shutdown.clone(), shutdown.clone()));
        }
        Ok(joined(shards).await?)
    }
}

async fn joined(mut shards: JoinSet<io::Result<()>>) -> Result<(), RunError> {
    while let Some(ended) = shards.join_next().await {
        ended.map_err(|_| RunError::Panicked)?.map_err(RunError::Ended)?;
    }
    Ok(())
}
