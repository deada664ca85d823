//! Starts the peers: one process each, which tells its address on standard output.

use std::process::Command;

use super::{Kind, Start, Started, listening, secret_file};
use crate::process::{Process, Program};

pub(super) fn start(kind: Kind, start: &Start<'_>) -> anyhow::Result<Started> {
    let secret = secret_file()?;
    let mut command = match kind {
        Kind::Tungstenite => Command::new(start.programs.rust_peers.join("tungstenite-peer")),
        Kind::Nestjs | Kind::SocketIo => {
            let script = if kind == Kind::Nestjs { "nest.js" } else { "socket-io.js" };
            let mut node = Command::new("node");
            node.arg(start.programs.node_peers.join(script)).env("NODE_ENV", "production");
            node
        }
        Kind::Socketioxide
        | Kind::Sockeye
        | Kind::SockeyeUntraced
        | Kind::SockeyeJson
        | Kind::SendLoop => Command::new(start.programs.rust_peers.join("socketioxide-peer")),
    };
    command.env("BENCH_SECRET_FILE", secret.path());
    if let Some(interval) = start.ping_interval {
        command.env("BENCH_PING_INTERVAL_MS", interval.as_millis().to_string());
    }
    let program =
        Program { name: "server", command, listen: "BENCH_LISTEN", find_address: listening };
    Ok(Started { processes: vec![Process::start(program)?], files: vec![secret] })
}
