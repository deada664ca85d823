//! An edge that sends every message back as it came: Engine.IO on `/engine.io/`, WebSocket on `/echo`.

use std::process::ExitCode;

use clap::Parser;
use edge_gateway::{Config, EdgeGateway};
use service_kit::{
    exit::{self, Failure},
    shutdown::Shutdown,
    telemetry::{TelemetryConfig, init_logging},
};

/// Stands in for a server under test in the conformance suites of Engine.IO and WebSocket.
#[derive(Debug, Parser)]
#[command(name = "eio-echo")]
struct Settings {
    #[command(flatten)]
    edge: Config,
    #[command(flatten)]
    telemetry: TelemetryConfig,
}

#[tokio::main]
async fn main() -> ExitCode {
    exit::finish(run(exit::parse_args()).await)
}

async fn run(settings: Settings) -> Result<(), Failure> {
    init_logging(&settings.telemetry).map_err(Failure::configuration)?;
    let shutdown = Shutdown::on_signals().map_err(Failure::internal)?;
    let edge = EdgeGateway::bind_echo(settings.edge).await?;
    edge.run(shutdown).await.map_err(Failure::internal)
}
