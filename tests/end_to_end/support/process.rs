//! One real process of the system: its settings, its log and its end.

use std::{
    env, fs,
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
};

use serde_json::Value;

use super::eventually::eventually;

/// The binaries that can be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Program {
    Sockeye,
    EdgeGateway,
    ChatService,
    AuthService,
}

impl Program {
    pub(crate) const ALL: [Self; 4] =
        [Self::Sockeye, Self::EdgeGateway, Self::ChatService, Self::AuthService];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sockeye => "sockeye",
            Self::EdgeGateway => "edge-gateway",
            Self::ChatService => "chat-service",
            Self::AuthService => "auth-service",
        }
    }

    /// Returns a command with nothing of this test run's environment that is a setting.
    pub(crate) fn command(self) -> Command {
        let path = self.path();
        assert!(path.exists(), "{} is not built: run `cargo build --workspace`", path.display());
        let mut command = Command::new(path);
        command.env_clear();
        for kept in ["PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH", "LLVM_PROFILE_FILE"] {
            if let Some(value) = env::var_os(kept) {
                command.env(kept, value);
            }
        }
        command
    }

    fn path(self) -> PathBuf {
        let sockeye = Path::new(env!("CARGO_BIN_EXE_sockeye"));
        sockeye.with_file_name(format!("{}{}", self.name(), env::consts::EXE_SUFFIX))
    }
}

/// A running process. It is killed when dropped, and shows its log if the test has failed.
#[derive(Debug)]
pub(crate) struct Process {
    program: Program,
    child: Child,
    lines: Lines,
}

type Lines = Arc<Mutex<Vec<String>>>;

impl Process {
    pub(crate) fn start(
        program: Program,
        settings: &[String],
        environment: &[(&str, String)],
    ) -> Self {
        let mut child = program
            .command()
            .args(["--log-format", "json"])
            .args(settings)
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let lines = Lines::default();
        collect_lines(child.stdout.take().unwrap(), Arc::clone(&lines));
        collect_lines(child.stderr.take().unwrap(), Arc::clone(&lines));
        Self { program, child, lines }
    }

    /// Returns the address that a listener of `service` is bound to, once the log tells it.
    pub(crate) async fn address(&mut self, service: &str, listener: &str) -> SocketAddr {
        let what = format!("the {listener} listener of {service} is bound");
        eventually(&what, async || {
            let found =
                self.log().iter().find_map(|line| listening_address(line, service, listener));
            let ended = self.child.try_wait().unwrap();
            assert!(found.is_some() || ended.is_none(), "{:?} ended: {ended:?}", self.program);
            found
        })
        .await
    }

    /// Returns everything that the process has written so far, to its standard output and its log.
    pub(crate) fn log(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    /// Ends the process with SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks the process to end, with SIGTERM.
    pub(crate) fn terminate(&self) {
        self.signal("TERM");
    }

    /// Has the process stand still, with SIGSTOP. The kernel keeps its connections up.
    pub(crate) fn pause(&self) {
        self.signal("STOP");
    }

    /// Has a paused process go on.
    pub(crate) fn go_on(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        let command = format!("kill -{name} {}", self.child.id());
        let sent = Command::new("sh").args(["-c", &command]).status().unwrap();
        assert!(sent.success(), "{:?} is gone already", self.program);
    }

    /// Returns the exit code, once the process has ended by itself.
    pub(crate) async fn exit_code(&mut self) -> Option<i32> {
        let status = eventually("the process ends", async || self.child.try_wait().unwrap()).await;
        status.code()
    }

    /// Returns the exit code, if the process has ended.
    pub(crate) fn ended(&mut self) -> Option<i32> {
        self.child.try_wait().unwrap().map(|status| status.code().unwrap_or(-1))
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Returns how many files and sockets the process has open.
    pub(crate) fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }

    /// Has the system give the process no more than so many.
    pub(crate) fn limit_descriptors(&self, count: usize) {
        let (id, count) = (self.child.id(), format!("--nofile={count}:{count}"));
        let set = Command::new("prlimit").arg(format!("--pid={id}")).arg(count).status().unwrap();
        assert!(set.success(), "{:?} is gone already", self.program);
    }

    /// Returns how much memory the process holds.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }
}

impl Drop for Process {
    #[expect(clippy::print_stderr, reason = "the test runner shows it only for a test that failed")]
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            self.kill();
        }
        if thread::panicking() {
            let log = self.log();
            for line in log.iter().skip(log.len().saturating_sub(100)) {
                eprintln!("{}: {line}", self.program.name());
            }
        }
    }
}

fn collect_lines(stream: impl Read + Send + 'static, lines: Lines) {
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            lines.lock().unwrap().push(line);
        }
    });
}

fn listening_address(line: &str, service: &str, listener: &str) -> Option<SocketAddr> {
    let entry: Value = serde_json::from_str(line).ok()?;
    let is_it = entry["message"] == "listening"
        && entry["service"] == service
        && entry["listener"] == listener;
    if is_it { entry["address"].as_str()?.parse().ok() } else { None }
}
