//! How fast a store is, and what rooms cost that nobody uses.

use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use tempfile::tempdir_in;

use crate::store::{Entry, Store, check};

const ROOMS: u64 = 1_000;
const IDLE_ROOMS: u64 = 100_000;
const PAGE: usize = 1_000;

pub(crate) fn rates<S: Store>(directory: &Path) -> Result<()> {
    for fsync in [false, true] {
        for group in [1, 64, 512] {
            let directory = tempdir_in(directory)?;
            let mut store = S::open(directory.path())?;
            let mut writer = Writer::default();
            let (began, mut latencies) = (Instant::now(), Vec::new());
            while began.elapsed() < Duration::from_secs(4) && writer.count < 1_000_000 {
                let entries = writer.next(group, ROOMS);
                let before = Instant::now();
                store.append(&entries, fsync)?;
                latencies.push(before.elapsed());
            }
            let rate = writer.count as f64 / began.elapsed().as_secs_f64();
            latencies.sort_unstable();
            let (p50, p99) =
                (latencies[latencies.len() / 2], latencies[latencies.len() * 99 / 100]);
            say::<S>(&format!(
                "append, groups of {group}, fsync {fsync}: {rate:.0}/s, p50 {p50:?}, p99 {p99:?}"
            ));
        }
    }
    replay::<S>(directory)
}

fn replay<S: Store>(directory: &Path) -> Result<()> {
    let directory = tempdir_in(directory)?;
    let mut store = S::open(directory.path())?;
    let mut writer = Writer::default();
    for _ in 0..PAGE {
        store.append(&writer.next(200, 200), false)?;
    }
    store.settle()?;
    drop(store);

    forget_pages(directory.path())?;
    let before = Instant::now();
    let store = S::open(directory.path())?;
    let opened = before.elapsed();
    forget_pages(directory.path())?;
    let mut cold = Vec::new();
    for room in 0..20 {
        cold.push(time_of_page(&store, room)?);
    }
    let mut warm = Vec::new();
    for round in 0..400 {
        warm.push(time_of_page(&store, round % 20)?);
    }
    cold.sort_unstable();
    warm.sort_unstable();
    say::<S>(&format!(
        "1000 entries of one of 200 rooms: cold {:?}, warm {:?} (medians); opened in {opened:?}",
        cold[10], warm[200]
    ));
    Ok(())
}

fn time_of_page<S: Store>(store: &S, room: u64) -> Result<Duration> {
    let before = Instant::now();
    let page = store.read(room, 1, PAGE)?;
    let time = before.elapsed();
    ensure!(page.len() == PAGE, "{} entries", page.len());
    check(&page[PAGE - 1], room, PAGE as u64)?;
    Ok(time)
}

pub(crate) fn idle<S: Store>(directory: &Path, candidate: usize) -> Result<()> {
    let directory = tempdir_in(directory)?;
    let mut store = S::open(directory.path())?;
    let mut writer = Writer::default();
    while writer.count < 5 * IDLE_ROOMS {
        store.append(&writer.next(500, IDLE_ROOMS), false)?;
    }
    store.settle()?;
    drop(store);
    say::<S>(&format!(
        "100,000 rooms of 5 entries: {} MiB on disk",
        bytes_under(directory.path())? >> 20
    ));
    // In a process of its own, so that nothing of the writing is counted.
    let status = Command::new(std::env::current_exe()?)
        .arg("--directory")
        .arg(directory.path())
        .args(["reopen", &candidate.to_string()])
        .status()?;
    ensure!(status.success(), "the child");
    Ok(())
}

pub(crate) fn reopen<S: Store>(directory: &Path) -> Result<()> {
    let before = resident_bytes()?;
    let began = Instant::now();
    let store = S::open(directory)?;
    let opened = began.elapsed();
    let after_opening = resident_bytes()?;
    for room in (0..IDLE_ROOMS).step_by(100) {
        ensure!(store.end(room)? == Some(5), "the end of room {room}");
    }
    let after_use = resident_bytes()?;
    say::<S>(&format!(
        "opened in {opened:?}, {} KiB more memory, {} KiB after 1000 rooms were asked for",
        after_opening.saturating_sub(before) >> 10,
        after_use.saturating_sub(before) >> 10,
    ));
    Ok(())
}

/// Writes to rooms in turn.
#[derive(Default)]
pub(crate) struct Writer {
    pub(crate) count: u64,
}

impl Writer {
    pub(crate) fn next(&mut self, group: u64, rooms: u64) -> Vec<Entry> {
        let numbers = self.count..self.count + group;
        self.count += group;
        numbers.map(|number| Entry::new(number % rooms, number / rooms + 1)).collect()
    }
}

fn say<S: Store>(text: &str) {
    crate::damage::say(&format!("{}: {text}", S::NAME));
}

fn resident_bytes() -> Result<u64> {
    let status = fs::read_to_string("/proc/self/statm")?;
    let pages: u64 = status.split(' ').nth(1).context("statm")?.parse()?;
    Ok(pages * 4096)
}

fn bytes_under(directory: &Path) -> Result<u64> {
    let output =
        Command::new("du").args(["--summarize", "--block-size=1"]).arg(directory).output()?;
    let text = String::from_utf8(output.stdout)?;
    Ok(text.split_whitespace().next().context("du")?.parse()?)
}

/// Has the kernel forget the pages of the files, as after a restart of the machine.
fn forget_pages(directory: &Path) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            forget_pages(&path)?;
            continue;
        }
        fs::File::open(&path)?.sync_all()?;
        let input = format!("if={}", path.display());
        let status = Command::new("dd")
            .args([&input, "iflag=nocache", "count=0", "status=none"])
            .status()?;
        ensure!(status.success(), "dd");
    }
    Ok(())
}
