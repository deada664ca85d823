//! Describes the machine that was measured on, and what was.

use std::{fs, process::Command};

use anyhow::Context;
use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) processor: String,
    pub(crate) cores: usize,
    pub(crate) memory_gib: f64,
    pub(crate) kernel: String,
    pub(crate) rustc: String,
    pub(crate) node: String,
    pub(crate) commit: String,
    /// Processes that wanted to run, on average, in the minute before.
    pub(crate) load: String,
    pub(crate) began_at: String,
}

impl Machine {
    pub(crate) fn describe() -> anyhow::Result<Self> {
        let cpus = fs::read_to_string("/proc/cpuinfo")?;
        let memory = fs::read_to_string("/proc/meminfo")?;
        let kib = field(&memory, "MemTotal").and_then(|text| text.strip_suffix(" kB"));
        let load = fs::read_to_string("/proc/loadavg")?;
        Ok(Self {
            processor: field(&cpus, "model name").unwrap_or("unknown").to_owned(),
            cores: std::thread::available_parallelism()?.get(),
            memory_gib: kib.context("memory")?.parse::<f64>()? / f64::from(1 << 20),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            rustc: said(Command::new("rustc").arg("--version")),
            node: said(Command::new("node").arg("--version")),
            commit: said(Command::new("git").args(["describe", "--always", "--dirty"])),
            load: load.split_whitespace().next().unwrap_or_default().to_owned(),
            began_at: said(Command::new("date").args(["--utc", "+%Y-%m-%d %H:%M UTC"])),
        })
    }
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim_start().strip_prefix(':')?.trim())
}

/// What a program says of itself, where it is there.
fn said(command: &mut Command) -> String {
    let output = command.output().ok().filter(|output| output.status.success());
    output.map_or_else(
        || "unknown".to_owned(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_can_be_described() {
        let machine = Machine::describe().unwrap();

        assert!(machine.memory_gib > 0.1 && machine.cores > 0, "{machine:?}");
        assert!(machine.rustc.starts_with("rustc "), "{machine:?}");
    }
}
