//! Runs the three services of Sockeye in one process, and the page to try them with.

mod dev_tokens;
mod page;
mod part;
mod services;
mod settings;

use std::process::ExitCode;

use mimalloc::MiMalloc;
use service_kit::{
    audit::AuditLog,
    exit::{Failure, finish, parse_args},
    ops::install_metrics,
    shutdown::Shutdown,
    telemetry::init_logging,
};

use self::{services::Services, settings::Settings};

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    finish(run(parse_args()))
}

#[tokio::main]
async fn run(mut settings: Settings) -> Result<(), Failure> {
    if settings.check {
        return settings.check();
    }
    init_logging(&settings.telemetry).map_err(Failure::configuration)?;
    install_metrics().map_err(Failure::internal)?;
    let _audit_log = AuditLog::start(&settings.audit).map_err(Failure::configuration)?;
    let shutdown = Shutdown::on_signals().map_err(Failure::internal)?;
    settings.complete().map_err(Failure::internal)?;

    let services = Services::start(settings).await?;
    services.run(shutdown).await
}
