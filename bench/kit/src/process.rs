//! A server's process: started, found by its address, measured, ended.

use std::{
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use bench_kit::usage::{Cpu, Memory};

use crate::cores::Cores;

const START_TIMEOUT: Duration = Duration::from_secs(30);
/// Lines of output that may wait to be read for an address.
const LINES: usize = 1024;

/// Finds the address in a line that a process writes.
pub(crate) type FindAddress = fn(&str) -> Option<SocketAddr>;

/// What there is to start.
#[derive(Debug)]
pub(crate) struct Program {
    /// What the process is called in the results.
    pub(crate) name: &'static str,
    pub(crate) command: Command,
    /// The variable that takes the address to listen on.
    pub(crate) listen: &'static str,
    pub(crate) find_address: FindAddress,
}

#[derive(Debug)]
pub(crate) struct Process {
    program: Program,
    /// Those that it has, if not all.
    cores: Option<Cores>,
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Process {
    /// Starts a process on any port, and waits until it listens.
    pub(crate) fn start(program: Program, cores: Option<Cores>) -> anyhow::Result<Self> {
        Self::start_at((program, cores), SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    fn start_at(
        (mut program, cores): (Program, Option<Cores>),
        address: SocketAddr,
    ) -> anyhow::Result<Self> {
        let name = program.name;
        program
            .command
            .env(program.listen, address.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let started = match cores {
            Some(cores) => cores.start(|| program.command.spawn()),
            None => program.command.spawn(),
        };
        let mut child = started.with_context(|| {
            format!("{} cannot be started", program.command.get_program().display())
        })?;
        let (sender, lines) = mpsc::sync_channel(LINES);
        read_lines(child.stdout.take().context("no output")?, sender.clone());
        read_lines(child.stderr.take().context("no log")?, sender);
        // From here on it ends with its owner.
        let mut process = Self { program, cores, child, address };
        let mut log = String::new();
        loop {
            let Ok(line) = lines.recv_timeout(START_TIMEOUT) else {
                bail!("{name} does not tell where it listens: {log}");
            };
            if let Some(address) = (process.program.find_address)(&line) {
                process.address = address;
                return Ok(process);
            }
            log.push_str(&line);
        }
    }

    /// Kills the process, and starts it again where it listened.
    pub(crate) fn restart(&mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        let Program { name, listen, find_address, .. } = self.program;
        let command = std::mem::replace(&mut self.program.command, Command::new("true"));
        let program = Program { name, command, listen, find_address };
        let again = Self::start_at((program, self.cores), self.address)?;
        ensure!(again.address == self.address, "it listens elsewhere than before");
        *self = again;
        Ok(())
    }

    pub(crate) const fn name(&self) -> &'static str {
        self.program.name
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn cpu(&self) -> anyhow::Result<Cpu> {
        Cpu::of(self.id()).with_context(|| format!("{} has ended", self.name()))
    }

    pub(crate) fn memory(&self) -> anyhow::Result<Memory> {
        Memory::of(self.id()).with_context(|| format!("{} has ended", self.name()))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to do.
        if self.child.kill().is_ok() {
            let _ended = self.child.wait();
        }
    }
}

/// Reads to the end, so that the process can always write; the lines are for who still listens.
fn read_lines(stream: impl Read + Send + 'static, sender: mpsc::SyncSender<String>) {
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            let _nobody_listens = sender.try_send(line);
        }
    });
}
