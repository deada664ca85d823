//! Starts the peers: one process each, which tells its address on standard output.

use std::process::Command;

use super::{Start, Started, listening, secret_file};
use crate::process::{Process, Program};

pub(super) fn rust(program: &str, start: &Start<'_>) -> anyhow::Result<Started> {
    launch(Command::new(start.programs.rust_peers.join(program)), start)
}

pub(super) fn node(script: &str, start: &Start<'_>) -> anyhow::Result<Started> {
    let mut command = Command::new("node");
    command.arg(start.programs.node_peers.join(script)).env("NODE_ENV", "production");
    launch(command, start)
}

fn launch(mut command: Command, start: &Start<'_>) -> anyhow::Result<Started> {
    let secret = secret_file()?;
    command.env("BENCH_SECRET_FILE", secret.path());
    if let Some(interval) = start.ping_interval {
        command.env("BENCH_PING_INTERVAL_MS", interval.as_millis().to_string());
    }
    let program =
        Program { name: "server", command, listen: "BENCH_LISTEN", find_address: listening };
    Ok(Started { processes: vec![Process::start(program, start.cores)?], files: vec![secret] })
}
