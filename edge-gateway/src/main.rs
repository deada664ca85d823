//! The edge gateway as a process of its own.

use std::process::ExitCode;

use clap::Parser;
use edge_gateway::{Config, EdgeGateway};
use mimalloc::MiMalloc;
use service_kit::{
    audit::{AuditConfig, AuditLog},
    exit::{self, Failure},
    ops::Readiness,
    shutdown::Shutdown,
    telemetry::{TelemetryConfig, Tracing, init_logging},
};

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Holds the client connections of a Sockeye system: Socket.IO and plain JSON WebSocket.
#[derive(Debug, Parser)]
#[command(name = "edge-gateway", version)]
struct Settings {
    #[command(flatten)]
    edge: Config,
    #[command(flatten)]
    telemetry: TelemetryConfig,
    #[command(flatten)]
    audit: AuditConfig,
}

#[tokio::main]
async fn main() -> ExitCode {
    exit::finish(run(exit::parse_args()).await)
}

async fn run(settings: Settings) -> Result<(), Failure> {
    init_logging(&settings.telemetry).map_err(Failure::configuration)?;
    let _audit_log = AuditLog::start(&settings.audit).map_err(Failure::configuration)?;
    let tracing =
        Tracing::start("edge-gateway", &settings.telemetry).map_err(Failure::configuration)?;
    let shutdown = Shutdown::on_signals().map_err(Failure::internal)?;
    let edge =
        EdgeGateway::bind(settings.edge, tracing.tracer(), Readiness::new(), axum::Router::new())
            .await?;
    let outcome = edge.run(shutdown).await;
    tracing.shutdown().await;
    outcome.map_err(Failure::internal)
}
