//! Runs the auth service as a process of its own.

use std::process::ExitCode;

use auth_service::{AuthService, Config};
use clap::Parser;
use mimalloc::MiMalloc;
use service_kit::audit::{AuditConfig, AuditLog};
use service_kit::cores;
use service_kit::exit::{Failure, finish, parse_args};
use service_kit::ops::Readiness;
use service_kit::shutdown::Shutdown;
use service_kit::telemetry::{TelemetryConfig, Tracing, init_logging};
use tokio::runtime::Builder;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Turns tokens into identities, for Sockeye's edge gateways.
#[derive(Debug, Parser)]
#[command(version)]
struct Settings {
    /// Checks the settings and the files that they name, and ends: with 0 if they can be used, with 78 if not.
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    service: Config,
    #[command(flatten)]
    telemetry: TelemetryConfig,
    #[command(flatten)]
    audit: AuditConfig,
}

fn main() -> ExitCode {
    let settings: Settings = parse_args();
    let threads = settings.service.threads.map_or_else(cores::half, usize::from);
    let runtime = Builder::new_multi_thread().worker_threads(threads).enable_all().build();
    finish(match runtime {
        Ok(runtime) => runtime.block_on(run(settings)),
        Err(error) => Err(Failure::internal(error)),
    })
}

async fn run(settings: Settings) -> Result<(), Failure> {
    if settings.check {
        return Ok(settings.service.check()?);
    }
    init_logging(&settings.telemetry).map_err(Failure::configuration)?;
    let _audit_log = AuditLog::start(&settings.audit).map_err(Failure::configuration)?;
    let tracing =
        Tracing::start("auth-service", &settings.telemetry).map_err(Failure::configuration)?;
    let shutdown = Shutdown::on_signals().map_err(Failure::internal)?;
    let service = AuthService::bind(settings.service, tracing.tracer(), Readiness::new()).await?;
    let result = service.run(shutdown).await;
    tracing.shutdown().await;
    result.map_err(Failure::internal)
}
