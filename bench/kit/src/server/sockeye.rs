//! Starts Sockeye as it is run: three processes with authentication, rooms, presence, metrics and tracing.

use std::{io::Write, net::SocketAddr, process::Command};

use serde_json::Value;
use tempfile::NamedTempFile;

use super::{Start, Started, secret_file};
use crate::process::{Process, Program};

/// One trace of 1024 is recorded.
const TRACE_SAMPLE_RATIO: &str = "0.0009765625";

/// The events of the measures that the chat service does not have by itself.
const NAMESPACES: &str = r#"
[namespace."/chat".event.echo]
audience = "sender"
schema = { required = ["data"], properties = { data = { type = "string" } } }

[namespace."/chat".event.blob]
audience = "room"
echo = true
schema = { required = ["data"], properties = { data = { type = "string" } } }
"#;

/// What one client may do is not what is measured.
const NO_LIMITS: [&str; 4] = [
    "--edge-events-per-second=1000000",
    "--edge-bytes-per-second=4000000000",
    "--edge-events-burst=1000000",
    "--edge-opens-per-second=1000000",
];

/// Starts so many edges, and one each of the other services.
pub(super) fn start(start: &Start<'_>, is_traced: bool, edges: u16) -> anyhow::Result<Started> {
    let secret = secret_file()?;
    let mut namespaces = NamedTempFile::new()?;
    namespaces.write_all(NAMESPACES.as_bytes())?;

    let mut command = command(start, "auth-service", is_traced);
    command.arg("--auth-ops-listen=127.0.0.1:0").arg("--auth-hs256-secret-file").arg(secret.path());
    let auth = Process::start(
        Program {
            name: "auth",
            command,
            listen: "AUTH_LISTEN",
            find_address: |line| listening(line, "auth-service", "grpc"),
        },
        start.cores,
    )?;

    let mut command = self::command(start, "chat-service", is_traced);
    // Nobody is to be kept out. As a variable, it means nothing to versions that do not know it.
    command.env("CHAT_OPEN_ROOMS", "true");
    command.arg("--chat-ops-listen=127.0.0.1:0");
    command.arg("--chat-namespaces-file").arg(namespaces.path());
    let chat = Process::start(
        Program {
            name: "chat",
            command,
            listen: "CHAT_LISTEN",
            find_address: |line| listening(line, "chat-service", "grpc"),
        },
        start.cores,
    )?;

    let services = [auth.address, chat.address];
    let mut processes = vec![auth, chat];
    for number in 0..edges {
        let mut command = edge(start, is_traced, services);
        command.arg(format!("--edge-number={number}"));
        if edges > 1 {
            // Together they have more threads than there are cores.
            command.arg("--edge-shards=1");
        }
        processes.push(Process::start(
            Program {
                name: "edge",
                command,
                listen: "EDGE_LISTEN",
                find_address: |line| listening(line, "edge-gateway", "clients"),
            },
            start.cores,
        )?);
    }
    Ok(Started { processes, files: vec![secret, namespaces] })
}

fn edge(start: &Start<'_>, is_traced: bool, [auth, chat]: [SocketAddr; 2]) -> Command {
    let mut command = command(start, "edge-gateway", is_traced);
    command
        .args(NO_LIMITS)
        .arg("--edge-ops-listen=127.0.0.1:0")
        .arg(format!("--edge-auth-url=http://{auth}"))
        .arg(format!("--edge-route=/chat=http://{chat}"));
    if let Some(interval) = start.ping_interval {
        command.arg(format!("--edge-ping-interval={}ms", interval.as_millis()));
    }
    command
}

fn command(start: &Start<'_>, name: &str, is_traced: bool) -> Command {
    let programs = start.programs;
    let folder = if is_traced { &programs.sockeye } else { &programs.sockeye_untraced };
    let mut command = Command::new(folder.join(name));
    command.args(["--log-format", "json", "--log-filter", "info"]);
    if is_traced {
        command.args(["--otlp-endpoint", start.otlp_endpoint]);
        command.args(["--trace-sample-ratio", TRACE_SAMPLE_RATIO]);
    }
    command
}

fn listening(line: &str, service: &str, listener: &str) -> Option<SocketAddr> {
    let entry: Value = serde_json::from_str(line).ok()?;
    let is_it = entry["service"] == service && entry["listener"] == listener;
    entry["address"].as_str().filter(|_| is_it)?.parse().ok()
}
