//! The servers that are measured: how each is started, which processes it is, and where clients find it.

mod peer;
mod send_loop;
mod sockeye;

use std::{collections::BTreeMap, io::Write, net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::Context;
use bench_kit::{
    token::SECRET,
    usage::{Cpu, Memory},
};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

pub(crate) use self::send_loop::relay;
use crate::{
    client::{Dialect, Target},
    cores::Cores,
    process::Process,
    profile::Profiler,
};

/// A server and what its clients speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// Sockeye with everything on, as three processes.
    Sockeye,
    /// The same, built without spans.
    SockeyeUntraced,
    /// The same as the first, with clients that speak plain JSON.
    SockeyeJson,
    /// The same as the first, with clients that poll.
    SockeyePolling,
    /// socketioxide on axum.
    Socketioxide,
    /// The same with clients that poll.
    SocketioxidePolling,
    /// Socket.IO on Node.
    SocketIo,
    /// The same with clients that poll.
    SocketIoPolling,
    /// A NestJS gateway.
    Nestjs,
    /// Rooms on bare tokio-tungstenite, with clients that speak plain JSON.
    Tungstenite,
    /// No server: the same bytes by a bare loop of `send`.
    SendLoop,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sockeye => "Sockeye",
            Self::SockeyeUntraced => "Sockeye, tracing compiled out",
            Self::SockeyeJson => "Sockeye, plain JSON",
            Self::SockeyePolling => "Sockeye, long-polling",
            Self::Socketioxide => "socketioxide",
            Self::SocketioxidePolling => "socketioxide, long-polling",
            Self::SocketIo => "Socket.IO (Node)",
            Self::SocketIoPolling => "Socket.IO (Node), long-polling",
            Self::Nestjs => "NestJS",
            Self::Tungstenite => "tokio-tungstenite, plain JSON",
            Self::SendLoop => "bare send loop",
        }
    }

    /// Whether this is Sockeye, however it is started or spoken to.
    pub(crate) const fn is_ours(self) -> bool {
        matches!(
            self,
            Self::Sockeye | Self::SockeyeUntraced | Self::SockeyeJson | Self::SockeyePolling
        )
    }

    const fn dialect(self) -> Dialect {
        match self {
            Self::SockeyeJson | Self::Tungstenite => Dialect::Json,
            Self::SockeyePolling | Self::SocketioxidePolling | Self::SocketIoPolling => {
                Dialect::Polling
            }
            Self::SendLoop => Dialect::Bare,
            Self::Sockeye
            | Self::SockeyeUntraced
            | Self::Socketioxide
            | Self::SocketIo
            | Self::Nestjs => Dialect::SocketIo,
        }
    }
}

/// Where the programs are.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Programs {
    /// Folder of Sockeye's three services.
    #[arg(long, default_value = "target/release")]
    pub(crate) sockeye: PathBuf,
    /// Folder of the same services, built with the feature `untraced`.
    #[arg(long, default_value = "target/untraced/release")]
    pub(crate) sockeye_untraced: PathBuf,
    /// Folder of the peers in Rust.
    #[arg(long, default_value = "bench/peers/rust/target/release")]
    pub(crate) rust_peers: PathBuf,
    /// Folder of the peers in TypeScript, compiled.
    #[arg(long, default_value = "bench/peers/node/dist")]
    pub(crate) node_peers: PathBuf,
}

/// How a server is to be started.
#[derive(Debug, Clone)]
pub(crate) struct Start<'a> {
    pub(crate) programs: &'a Programs,
    /// Where spans go.
    pub(crate) otlp_endpoint: &'a str,
    /// How often idle clients are pinged; as each server has it, if nothing is said.
    pub(crate) ping_interval: Option<Duration>,
    /// Which cores are for it, if clients have their own.
    pub(crate) cores: Option<Cores>,
    /// Whether to tell what its processes are at.
    pub(crate) is_profiled: bool,
}

#[derive(Debug)]
pub(crate) struct Server {
    /// Clients are connected to the last one.
    processes: Vec<Process>,
    target: Target,
    is_profiled: bool,
    /// Kept for as long as the processes may read it.
    _files: Vec<NamedTempFile>,
}

impl Server {
    pub(crate) fn start(kind: Kind, start: &Start<'_>) -> anyhow::Result<Self> {
        let started = match kind {
            Kind::Sockeye | Kind::SockeyeJson | Kind::SockeyePolling => {
                sockeye::start(start, true, 1)
            }
            Kind::SockeyeUntraced => sockeye::start(start, false, 1),
            Kind::Socketioxide | Kind::SocketioxidePolling => {
                peer::rust("socketioxide-peer", start)
            }
            Kind::Tungstenite => peer::rust("tungstenite-peer", start),
            Kind::SocketIo | Kind::SocketIoPolling => peer::node("socket-io.js", start),
            Kind::Nestjs => peer::node("nest.js", start),
            Kind::SendLoop => send_loop::start(start),
        };
        let Started { processes, files } =
            started.with_context(|| format!("{} does not start", kind.name()))?;
        let address = processes.last().context("a server is a process")?.address;
        let target = Target { address, dialect: kind.dialect() };
        Ok(Self { processes, target, is_profiled: start.is_profiled, _files: files })
    }

    /// Starts Sockeye with so many edges.
    pub(crate) fn start_edges(edges: u16, start: &Start<'_>) -> anyhow::Result<Self> {
        let Started { processes, files } = sockeye::start(start, true, edges)?;
        let address = processes.last().context("a server is a process")?.address;
        let target = Target { address, dialect: Kind::Sockeye.dialect() };
        Ok(Self { processes, target, is_profiled: start.is_profiled, _files: files })
    }

    /// Where the clients of each edge connect to.
    pub(crate) fn edges(&self) -> impl Iterator<Item = SocketAddr> {
        let edges = self.processes.iter().filter(|process| process.name() == "edge");
        edges.map(|process| process.address)
    }

    pub(crate) const fn target(&self) -> Target {
        self.target
    }

    /// Time of the processes, by their names.
    pub(crate) fn cpu(&self) -> anyhow::Result<BTreeMap<&'static str, Cpu>> {
        let mut by_name = BTreeMap::<_, Cpu>::new();
        for process in &self.processes {
            *by_name.entry(process.name()).or_default() += process.cpu()?;
        }
        Ok(by_name)
    }

    /// Begins to look at what the processes are at, if that is wanted.
    pub(crate) fn profiler(&self) -> anyhow::Result<Option<Profiler>> {
        let names = self.processes.iter().map(|process| (process.id(), process.name()));
        self.is_profiled.then(|| Profiler::start(names.collect())).transpose()
    }

    /// Memory of the processes, by their names.
    pub(crate) fn memory(&self) -> anyhow::Result<BTreeMap<&'static str, Memory>> {
        let mut by_name = BTreeMap::<_, Memory>::new();
        for process in &self.processes {
            *by_name.entry(process.name()).or_default() += process.memory()?;
        }
        Ok(by_name)
    }

    /// Kills the process that clients are connected to, and starts it again at the same address.
    pub(crate) fn restart_front(&mut self) -> anyhow::Result<()> {
        self.processes.last_mut().context("a server is a process")?.restart()
    }
}

/// What starting a server has led to.
#[derive(Debug)]
struct Started {
    processes: Vec<Process>,
    files: Vec<NamedTempFile>,
}

fn secret_file() -> anyhow::Result<NamedTempFile> {
    let mut file = NamedTempFile::new()?;
    file.write_all(SECRET.as_bytes())?;
    Ok(file)
}

/// Reads `listening 127.0.0.1:1234`, as the peers write it.
fn listening(line: &str) -> Option<SocketAddr> {
    line.strip_prefix("listening ")?.parse().ok()
}
