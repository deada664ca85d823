//! What a process has used of the processors, and what it holds of the memory.

use std::{
    collections::BTreeMap,
    fs, io,
    ops::{AddAssign, Sub},
};

use anyhow::Context;

/// Time on the processors since a process started.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Cpu {
    /// All of it, to the nanosecond.
    pub seconds: f64,
    /// As the clock's ticks have found it: good for the share, and for little else.
    pub user_ticks: f64,
    pub system_ticks: f64,
}

impl Cpu {
    pub fn of(process: u32) -> anyhow::Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
        let (user_ticks, system_ticks) = ticks(&stat).context("stat of a process")?;
        Ok(Self { seconds: run_seconds(process)?, user_ticks, system_ticks })
    }

    /// The part of the seconds that was not spent in the kernel.
    pub fn user_seconds(&self) -> f64 {
        let ticks = self.user_ticks + self.system_ticks;
        if ticks > 0.0 { self.seconds * self.user_ticks / ticks } else { 0.0 }
    }
}

impl AddAssign for Cpu {
    fn add_assign(&mut self, other: Self) {
        self.seconds += other.seconds;
        self.user_ticks += other.user_ticks;
        self.system_ticks += other.system_ticks;
    }
}

impl Sub for Cpu {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            seconds: self.seconds - earlier.seconds,
            user_ticks: self.user_ticks - earlier.user_ticks,
            system_ticks: self.system_ticks - earlier.system_ticks,
        }
    }
}

fn ticks(stat: &str) -> Option<(f64, f64)> {
    // The name before it may hold anything.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

/// Adds the threads that there are. One that ends between two looks takes its time along; the servers keep theirs.
fn run_seconds(process: u32) -> anyhow::Result<f64> {
    let mut nanoseconds = 0_u64;
    for thread in fs::read_dir(format!("/proc/{process}/task"))? {
        match fs::read_to_string(thread?.path().join("schedstat")) {
            Ok(text) => nanoseconds += ran(&text).context("schedstat of a thread")?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(nanoseconds as f64 / 1e9)
}

fn ran(schedstat: &str) -> Option<u64> {
    schedstat.split_whitespace().next()?.parse().ok()
}

/// Memory of a process, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Memory {
    pub resident: f64,
    /// Pages shared with others count by the share.
    pub proportional: f64,
}

impl AddAssign for Memory {
    fn add_assign(&mut self, other: Self) {
        self.resident += other.resident;
        self.proportional += other.proportional;
    }
}

impl Memory {
    pub fn of(process: u32) -> anyhow::Result<Self> {
        let rollup = fs::read_to_string(format!("/proc/{process}/smaps_rollup"))?;
        Self::read(&rollup).context("smaps_rollup of a process")
    }

    fn read(rollup: &str) -> Option<Self> {
        let lines: BTreeMap<_, _> =
            rollup.lines().filter_map(|line| line.split_once(':')).collect();
        let bytes = |name: &str| {
            let kib = lines.get(name)?.trim().strip_suffix(" kB")?;
            Some(kib.parse::<f64>().ok()? * 1024.0)
        };
        Some(Self { resident: bytes("Rss")?, proportional: bytes("Pss")? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_files_are_understood() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194560 100 0 0 0 12 34 0 0 20 0 3 0 99 1000 50";
        let rollup =
            "5578-7fff ---p 00000000 00:00 0   [rollup]\nRss:    1640 kB\nPss:     328 kB\n";

        assert_eq!(ticks(stat), Some((12.0, 34.0)));
        assert_eq!(ran("1234567 89 3\n"), Some(1_234_567));
        assert_eq!(
            Memory::read(rollup),
            Some(Memory { resident: 1640.0 * 1024.0, proportional: 328.0 * 1024.0 })
        );
    }

    #[test]
    fn what_this_process_does_is_counted() {
        let before = Cpu::of(std::process::id()).unwrap();

        let mut spent = before;
        while spent.seconds - before.seconds < 0.001 {
            spent = Cpu::of(std::process::id()).unwrap();
        }

        assert!(spent.seconds > before.seconds);
        assert!(Memory::of(std::process::id()).unwrap().resident > 100_000.0);
    }

    #[test]
    fn the_users_part_follows_the_ticks() {
        let cpu = Cpu { seconds: 2.0, user_ticks: 30.0, system_ticks: 90.0 };

        assert!((cpu.user_seconds() - 0.5).abs() < 1e-9);
    }
}
