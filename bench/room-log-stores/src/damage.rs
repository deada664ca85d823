//! What a store makes of files with a flipped bit, or left behind by a process that was killed.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, BufRead, BufReader, Write},
    panic::{self, AssertUnwindSafe},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result};
use tempfile::tempdir_in;

use crate::{
    measure::Writer,
    store::{Store, check},
};

const ROOMS: u64 = 3;
const GROUPS: u64 = 20;
const ENTRIES_OF_ROOM: u64 = GROUPS;

/// At most so many places, spread evenly.
const TRIES_MAX: usize = 3_000;

/// What became of a damaged store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    /// Every entry was served.
    Harmless,
    /// Opening it failed.
    Refused,
    /// It was opened, and a read failed.
    FailedRead,
    /// It was opened and read without an error, and entries at the end were missing.
    LostSilently,
    /// It was opened and read without an error, and an entry was missing before others.
    Hole,
    ServedWrong,
    Panicked,
}

pub(crate) fn flip_bits<S: Store>(directory: &Path) -> Result<()> {
    // Once as it is while it runs, and once when all is in files that stay.
    for settled in [false, true] {
        let original = tempdir_in(directory)?;
        let mut store = S::open(original.path())?;
        let mut writer = Writer::default();
        for _ in 0..GROUPS {
            store.append(&writer.next(ROOMS, ROOMS), true)?;
        }
        if settled {
            store.settle()?;
        }
        let files = files_under(original.path())?;
        let copy = |from: &Path| -> Result<tempfile::TempDir> {
            let to = tempdir_in(directory)?;
            for file in files_under(from)? {
                let target = to.path().join(file.strip_prefix(from)?);
                fs::create_dir_all(target.parent().context("parent")?)?;
                Command::new("cp").arg("--sparse=always").arg(&file).arg(&target).status()?;
            }
            Ok(to)
        };
        let frozen = copy(original.path())?;
        drop(store);

        let mut flips = BTreeMap::<Outcome, usize>::new();
        let mut places = Vec::new();
        for file in files.iter().map(|file| file.strip_prefix(original.path())) {
            let file = file?;
            let bytes = fs::read(frozen.path().join(file))?;
            let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            places.extend((0..used).map(|at| (file.to_owned(), at)));
        }
        for (file, at) in places.iter().step_by(places.len().div_ceil(TRIES_MAX)) {
            let damaged = copy(frozen.path())?;
            flip(&damaged.path().join(file), *at)?;
            *flips.entry(outcome::<S>(damaged.path())).or_default() += 1;
        }
        say(&format!("{}: one bit flipped, settled {settled}: {flips:?}", S::NAME));
    }
    Ok(())
}

/// Opens and reads a damaged store, in a thread that may panic.
fn outcome<S: Store>(directory: &Path) -> Outcome {
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let read = panic::catch_unwind(AssertUnwindSafe(|| {
        let Ok(store) = S::open(directory) else { return Outcome::Refused };
        (0..ROOMS).map(|room| of_room(&store, room)).max().unwrap_or(Outcome::Harmless)
    }));
    panic::set_hook(hook);
    read.unwrap_or(Outcome::Panicked)
}

fn of_room<S: Store>(store: &S, room: u64) -> Outcome {
    let (Ok(_), Ok(page)) = (store.end(room), store.read(room, 1, 1_000)) else {
        return Outcome::FailedRead;
    };
    let mut outcome = Outcome::Harmless;
    let is_at = |value: &[u8], offset| check(value, room, offset).is_ok();
    for (value, offset) in page.iter().zip(1..) {
        if !is_at(value, offset) {
            let comes_later = (offset + 1..=ENTRIES_OF_ROOM).any(|later| is_at(value, later));
            outcome = if comes_later { Outcome::Hole } else { Outcome::ServedWrong };
            return outcome;
        }
    }
    if page.len() as u64 != ENTRIES_OF_ROOM {
        outcome = Outcome::LostSilently;
    }
    outcome
}

fn flip(path: &Path, at: usize) -> Result<()> {
    use std::os::unix::fs::FileExt;

    let file = fs::OpenOptions::new().read(true).write(true).open(path)?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at as u64)?;
    byte[0] ^= 0x10;
    Ok(file.write_all_at(&byte, at as u64)?)
}

fn files_under(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(files_under(&path)?);
        } else {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Has a child append without fsync and say so, kills it, and looks for what it said.
pub(crate) fn kill<S: Store>(directory: &Path, candidate: usize) -> Result<()> {
    let (mut confirmed, mut missing) = (0, 0);
    for round in 0..20 {
        let directory = tempdir_in(directory)?;
        let mut child = Command::new(std::env::current_exe()?)
            .arg("--directory")
            .arg(directory.path())
            .args(["victim", &candidate.to_string()])
            .stdout(Stdio::piped())
            .spawn()?;
        let mut lines = BufReader::new(child.stdout.take().context("stdout")?).lines();
        lines.next();
        std::thread::sleep(Duration::from_millis(50 + 10 * round));
        child.kill()?;
        child.wait()?;
        let last = lines.map_while(Result::ok).filter_map(|line| line.parse::<u64>().ok()).last();
        let last = last.unwrap_or_default();
        let store = S::open(directory.path())?;
        let found = store.end(0)?.unwrap_or_default();
        confirmed += last;
        missing += last.saturating_sub(found);
    }
    say(&format!(
        "{}: killed 20 times, {missing} of {confirmed} confirmed entries missing",
        S::NAME
    ));
    Ok(())
}

pub(crate) fn be_killed<S: Store>(directory: &Path) -> Result<()> {
    let mut store = S::open(directory)?;
    let mut writer = Writer::default();
    loop {
        let entries = writer.next(1, 1);
        store.append(&entries, false)?;
        say(&entries[0].offset.to_string());
    }
}

/// To stdout, at once.
pub(crate) fn say(line: &str) {
    let mut stdout = io::stdout().lock();
    // Nobody is left to be told.
    writeln!(stdout, "{line}").and_then(|()| stdout.flush()).ok();
}
