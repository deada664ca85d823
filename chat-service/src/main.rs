//! Runs the chat service: settings in, exit code out.

use std::process::ExitCode;

use chat_service::{ChatService, Config};
use clap::Parser;
use mimalloc::MiMalloc;
use service_kit::{
    audit::{AuditConfig, AuditLog},
    exit::{self, Failure},
    ops::Readiness,
    shutdown::Shutdown,
    telemetry::{self, TelemetryConfig, Tracing},
};
use tokio::runtime;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Sockeye's chat service: owns rooms and decides who receives what.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    /// Checks the settings and the files that they name, and ends: with 0 if they can be used, with 78 if not.
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    config: Config,
    #[command(flatten)]
    telemetry: TelemetryConfig,
    #[command(flatten)]
    audit: AuditConfig,
}

fn main() -> ExitCode {
    let cli: Cli = exit::parse_args();
    let threads = cli.config.worker_count();
    let runtime = runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build();
    exit::finish(match runtime {
        Ok(runtime) => runtime.block_on(run(cli)),
        Err(error) => Err(Failure::internal(error)),
    })
}

async fn run(Cli { check, config, telemetry, audit }: Cli) -> Result<(), Failure> {
    if check {
        return Ok(config.check()?);
    }
    telemetry::init_logging(&telemetry).map_err(Failure::configuration)?;
    let _audit_log = AuditLog::start(&audit).map_err(Failure::configuration)?;
    let tracing = Tracing::start("chat-service", &telemetry).map_err(Failure::configuration)?;
    let shutdown = Shutdown::on_signals().map_err(Failure::internal)?;
    let service = ChatService::bind(config, tracing.tracer(), Readiness::new()).await?;
    let ended = service.run(shutdown).await;
    tracing.shutdown().await;
    ended.map_err(Failure::internal)
}
