//! Starts the three services one after the other, wires them over loopback, and stops them the other way round.

use std::time::Duration;

use auth_service::AuthService;
use axum::Router;
use chat_service::ChatService;
use edge_gateway::EdgeGateway;
use service_kit::{
    exit::Failure,
    ops::Readiness,
    shutdown::Shutdown,
    telemetry::{StartTracingError, TelemetryConfig, Tracing},
};

use crate::{
    dev_tokens::DevTokens,
    page,
    part::Part,
    settings::{Settings, loopback_url},
};

/// How long a service may take to stop, once there is nobody left to serve.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// The services, running.
#[derive(Debug)]
pub(crate) struct Services {
    auth: Part,
    chat: Part,
    edge: Part,
    tracing: TracingOfAll,
}

/// The tracing of each service, under the name that it has as a process of its own.
#[derive(Debug)]
struct TracingOfAll {
    auth: Tracing,
    chat: Tracing,
    edge: Tracing,
}

impl Services {
    /// Checks the settings as `--check` does, and then binds and starts all services. The page can be opened when this returns.
    ///
    /// # Errors
    ///
    /// When a setting is wrong, or an address cannot be bound.
    pub(crate) async fn start(settings: Settings) -> Result<Self, Failure> {
        settings.check()?;
        let tracing = TracingOfAll::start(&settings.telemetry).map_err(Failure::configuration)?;
        let readiness = Readiness::new();
        let issues_page_tokens = settings.issues_page_tokens();

        let tracer = tracing.auth.tracer();
        let auth = AuthService::bind(settings.auth.clone(), tracer, readiness.clone()).await?;
        let tracer = tracing.chat.tracer();
        let chat = ChatService::bind(settings.chat.clone(), tracer, readiness.clone()).await?;
        let config = settings.edge_between(auth.local_addr(), chat.local_addr())?;

        let dev_tokens = config.auth_url.clone().filter(|_| issues_page_tokens);
        let pages = page::router(settings.page.trace_ui, dev_tokens.map(DevTokens::of));
        let auth = Part::start("auth-service", STOP_TIMEOUT, |shutdown| auth.run(shutdown));
        let chat = Part::start("chat-service", STOP_TIMEOUT, |shutdown| chat.run(shutdown));
        let edge = start_edge(config, &tracing.edge, readiness, pages).await?;
        Ok(Self { auth, chat, edge, tracing })
    }

    /// Runs until shutdown is requested or a service ends by itself, and then stops all of them.
    ///
    /// # Errors
    ///
    /// When a service failed.
    pub(crate) async fn run(self, shutdown: Shutdown) -> Result<(), Failure> {
        tokio::select! {
            () = shutdown.requested() => {}
            () = self.edge.ended() => {}
            () = self.chat.ended() => {}
            () = self.auth.ended() => {}
        }
        // The edge drains while the others still serve it.
        let edge = self.edge.stop().await;
        let chat = self.chat.stop().await;
        let auth = self.auth.stop().await;
        self.tracing.shutdown().await;
        edge.and(chat).and(auth).map_err(Failure::internal)
    }
}

async fn start_edge(
    config: edge_gateway::Config,
    tracing: &Tracing,
    readiness: Readiness,
    pages: Router,
) -> Result<Part, Failure> {
    let stop_timeout = config.drain_timeout.saturating_add(STOP_TIMEOUT);
    let edge = EdgeGateway::bind(config, tracing.tracer(), readiness, pages).await?;
    tracing::info!(url = loopback_url("http", edge.local_addr()), "open this address in a browser");
    Ok(Part::start("edge-gateway", stop_timeout, |shutdown| edge.run(shutdown)))
}

impl TracingOfAll {
    fn start(config: &TelemetryConfig) -> Result<Self, StartTracingError> {
        Ok(Self {
            auth: Tracing::start("auth-service", config)?,
            chat: Tracing::start("chat-service", config)?,
            edge: Tracing::start("edge-gateway", config)?,
        })
    }

    async fn shutdown(self) {
        tokio::join!(self.auth.shutdown(), self.chat.shutdown(), self.edge.shutdown());
    }
}
