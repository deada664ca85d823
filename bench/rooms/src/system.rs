//! The system under test: one process with a data directory of its own.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, bail};
use bench_kit::{
    token::SECRET,
    usage::{Cpu, Memory},
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, ChildStderr, Command},
    time,
};

const START_TIMEOUT: Duration = Duration::from_secs(30);

/// What an acknowledged message survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    Memory,
    Disk,
    DiskFsync,
}

impl Durability {
    const fn label(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Disk => "disk",
            Self::DiskFsync => "disk+fsync",
        }
    }
}

impl std::str::FromStr for Durability {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Memory, Self::Disk, Self::DiskFsync]
            .into_iter()
            .find(|one| one.label() == text)
            .ok_or_else(|| "memory, disk or disk+fsync".to_owned())
    }
}

impl fmt::Display for Durability {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.label())
    }
}

#[derive(Debug)]
pub(crate) struct System {
    sockeye: PathBuf,
    durability: Durability,
    process: Child,
    /// `host:port` of the clients' listener.
    pub(crate) address: String,
    /// Its data; removed in the end.
    folder: TempDir,
}

impl System {
    pub(crate) async fn start(
        sockeye: &Path,
        durability: Durability,
        folder: &Path,
    ) -> anyhow::Result<Self> {
        let folder = TempDir::new_in(folder)?;
        let (process, address) = spawn(sockeye, durability, folder.path()).await?;
        Ok(Self { sockeye: sockeye.to_owned(), durability, process, address, folder })
    }

    /// Kills the process, and starts one on what it left.
    pub(crate) async fn restart(&mut self) -> anyhow::Result<()> {
        self.process.kill().await?;
        (self.process, self.address) =
            spawn(&self.sockeye, self.durability, self.folder.path()).await?;
        Ok(())
    }

    /// The process's own time on the processors so far, in seconds.
    pub(crate) fn cpu_seconds(&self) -> anyhow::Result<f64> {
        Ok(Cpu::of(self.id()?)?.seconds)
    }

    /// Memory of the process that is resident, in bytes.
    pub(crate) fn resident_bytes(&self) -> anyhow::Result<f64> {
        Ok(Memory::of(self.id()?)?.resident)
    }

    fn id(&self) -> anyhow::Result<u32> {
        self.process.id().context("the process has ended")
    }

    /// What the files of its data take, in bytes.
    pub(crate) fn data_bytes(&self) -> anyhow::Result<f64> {
        fn sum(folder: &Path) -> std::io::Result<u64> {
            fs::read_dir(folder)?.try_fold(0, |bytes, entry| {
                let entry = entry?;
                let metadata = entry.metadata()?;
                Ok(bytes + if metadata.is_dir() { sum(&entry.path())? } else { metadata.len() })
            })
        }
        Ok(sum(self.folder.path())? as f64)
    }

    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        self.process.kill().await?;
        Ok(())
    }
}

/// Starts a process on a folder, and waits until it listens.
async fn spawn(
    sockeye: &Path,
    durability: Durability,
    folder: &Path,
) -> anyhow::Result<(Child, String)> {
    let mut command = Command::new(sockeye);
    command
        .args(["--log-format", "json", "--chat-durability", durability.label()])
        .arg("--chat-data-dir")
        .arg(folder.join("data"));
    for listener in ["edge-listen", "edge-ops-listen", "auth-listen", "chat-listen"] {
        command.args([&format!("--{listener}"), "127.0.0.1:0"]);
    }
    // The limits on what one client may send are not what is measured.
    command.args(["--edge-events-per-second", "1000000", "--edge-events-burst", "1000000"]);
    command.args(["--edge-bytes-per-second", "4000000000"]);
    let mut process = command
        .env("AUTH_HS256_SECRET", SECRET)
        .env("CHAT_OPEN_ROOMS", "true")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot start {}", sockeye.display()))?;
    let log = process.stderr.take().context("no log")?;
    let address = time::timeout(START_TIMEOUT, address(log)).await??;
    Ok((process, address))
}

/// Reads the log up to the address for clients, and has the rest of it read away.
async fn address(log: ChildStderr) -> anyhow::Result<String> {
    let mut lines = BufReader::new(log).lines();
    while let Some(line) = lines.next_line().await? {
        let Ok(entry) = serde_json::from_str::<Value>(&line) else { bail!("it says: {line}") };
        let is_for_clients = entry["service"] == "edge-gateway" && entry["listener"] == "clients";
        if let (true, Some(address)) = (is_for_clients, entry["address"].as_str()) {
            let address = address.to_owned();
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            return Ok(address);
        }
    }
    bail!("the process ended before it listened")
}
