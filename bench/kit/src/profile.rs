//! Where a server's time goes: samples of `perf`, sorted by what the processors were at.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use tempfile::TempDir;

/// Samples per second of each processor.
const FREQUENCY: u32 = 2000;

/// How long `perf` may take to begin.
const START_TIMEOUT: Duration = Duration::from_secs(30);
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// What a processor is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum At {
    /// The program itself.
    User,
    /// `send`: to clients.
    Send,
    /// `writev`, `write` and `sendmsg`: between services, and where several buffers go to a client at once.
    Write,
    /// `recv`, `read` and the like.
    Receive,
    /// `epoll_wait` and `futex`: to wait, to wake, and to be woken.
    Wait,
    /// The kernel, for something else.
    Other,
}

impl At {
    pub(crate) const ALL: [Self; 6] =
        [Self::User, Self::Send, Self::Write, Self::Receive, Self::Wait, Self::Other];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Send => "send",
            Self::Write => "write",
            Self::Receive => "receive",
            Self::Wait => "wait",
            Self::Other => "other",
        }
    }

    /// By the functions on the stack, innermost first.
    fn of(stack: &[String]) -> Self {
        let enters_kernel =
            |name: &String| name.starts_with("entry_SYSCALL") || name.starts_with("asm_");
        if !stack.iter().any(enters_kernel) {
            return Self::User;
        }
        stack.iter().find_map(|name| Self::of_call(name)).unwrap_or(Self::Other)
    }

    /// By a function of the kernel that carries out a call, in whichever form the compiler has left it on the stack.
    fn of_call(name: &str) -> Option<Self> {
        let prefixes = ["__x64_sys_", "__arm64_sys_", "__sys_", "ksys_", "do_"];
        let call = prefixes.iter().find_map(|prefix| name.strip_prefix(prefix))?;
        Some(match call {
            "sendto" => Self::Send,
            "writev" | "write" | "sendmsg" => Self::Write,
            "recvfrom" | "recvmsg" | "read" | "readv" => Self::Receive,
            "epoll_wait" | "epoll_pwait" | "epoll_pwait2" | "futex" | "sched_yield" => Self::Wait,
            _ => return None,
        })
    }
}

/// Samples of some processes, since [`Profiler::start`].
#[derive(Debug)]
pub(crate) struct Profiler {
    perf: Child,
    folder: TempDir,
    names: BTreeMap<u32, &'static str>,
}

/// How many samples of each process were taken at what.
pub(crate) type Samples = BTreeMap<(&'static str, At), usize>;

impl Profiler {
    /// Begins to look at processes, by their ids.
    pub(crate) fn start(names: BTreeMap<u32, &'static str>) -> anyhow::Result<Self> {
        let folder = TempDir::new()?;
        let data = folder.path().join("perf.data");
        let ids: Vec<_> = names.keys().map(u32::to_string).collect();
        let mut command = Command::new("perf");
        command
            .args(["record", "--quiet", "--call-graph=fp", "--event=cpu-clock"])
            .arg(format!("--freq={FREQUENCY}"))
            .arg(format!("--pid={}", ids.join(",")))
            .arg("--output")
            .arg(&data);
        let perf = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit());
        let perf = perf.spawn().context("perf cannot be started")?;
        let mut profiler = Self { perf, folder, names };
        let started_at = Instant::now();
        while !fs::metadata(&data).is_ok_and(|data| data.len() > 0) {
            ensure!(started_at.elapsed() < START_TIMEOUT, "perf does not begin");
            if let Some(status) = profiler.perf.try_wait()? {
                bail!("perf has ended: {status}");
            }
            thread::sleep(LOOK_INTERVAL);
        }
        Ok(profiler)
    }

    /// Ends, and tells what was seen.
    pub(crate) fn stop(mut self) -> anyhow::Result<Samples> {
        let asked = Command::new("kill").arg("-INT").arg(self.perf.id().to_string()).status()?;
        ensure!(asked.success(), "perf cannot be asked to end");
        self.perf.wait()?;
        let mut script = Command::new("perf")
            .args(["script", "--no-inline", "--fields=pid,ip,sym", "--input"])
            .arg(self.folder.path().join("perf.data"))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let output = BufReader::new(script.stdout.take().context("no output")?);
        let samples = read(output, &self.names);
        ensure!(script.wait()?.success(), "perf script has failed");
        samples
    }
}

impl Drop for Profiler {
    fn drop(&mut self) {
        // It has ended already where all is well.
        if self.perf.kill().is_ok() {
            let _ended = self.perf.wait();
        }
    }
}

/// Reads what `perf script` writes: for each sample the process and below it its stack, innermost first, and an empty line.
fn read(script: impl BufRead, names: &BTreeMap<u32, &'static str>) -> anyhow::Result<Samples> {
    let mut samples = Samples::new();
    let mut process = None;
    let mut stack = Vec::new();
    for line in script.lines().chain([Ok(String::new())]) {
        let line = line?;
        let line = line.trim();
        if line.is_empty() {
            if let Some(name) = process.take() {
                *samples.entry((name, At::of(&stack))).or_default() += 1;
            }
            stack.clear();
        } else if process.is_none() {
            let id = line.trim_end_matches(':').parse().context("the process of a sample")?;
            process = names.get(&id).copied();
            ensure!(process.is_some(), "a sample of another process");
        } else {
            stack.push(line.split_once(' ').map_or("", |(_, name)| name).to_owned());
        }
    }
    Ok(samples)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRIPT: &str = "   71 \n\
        \t    5578 core::hash::BuildHasher::hash_one\n\
        \t    5579 main\n\
        \n\
        \u{20}  72 \n\
        \tffff81 tcp_sendmsg\n\
        \tffff82 __x64_sys_sendto\n\
        \tffff83 entry_SYSCALL_64_after_hwframe\n\
        \t    5580 __send\n\
        \n\
        \u{20}  71 \n\
        \tffff84 irqentry_exit\n\
        \tffff85 asm_sysvec_apic_timer_interrupt\n\
        \n\
        \u{20}  71 \n\
        \tffff86 do_epoll_wait\n\
        \tffff87 do_syscall_64\n\
        \tffff83 entry_SYSCALL_64_after_hwframe\n";

    #[test]
    fn samples_are_told_apart_by_process_and_call() {
        let names = BTreeMap::from([(71, "edge"), (72, "chat")]);

        let samples = read(SCRIPT.as_bytes(), &names).unwrap();

        let expected = [
            (("chat", At::Send), 1),
            (("edge", At::User), 1),
            (("edge", At::Wait), 1),
            (("edge", At::Other), 1),
        ];
        assert_eq!(samples, BTreeMap::from(expected));
        assert!(read(SCRIPT.as_bytes(), &BTreeMap::from([(71, "edge")])).is_err());
    }
}
