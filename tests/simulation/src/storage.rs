//! Where the chat service keeps its rooms, and what is left of it after a power cut.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use crate::random::Random;

/// A file system in memory, where there is one: a power cut is simulated, too.
const MEMORY: &str = "/dev/shm";

/// Length of a journal's header, which is on the disk before anything follows.
const HEADER_BYTES: u64 = 24;

/// Length of what is written behind a group of changes, and not waited for.
const MARK_BYTES: u64 = 32;

/// Most bytes that a write under way has left behind, and most that were never on the disk.
const TORN_BYTES_MAX: u64 = 400;
const LOST_BYTES_MAX: u64 = 3000;

/// What the rooms' logs survive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// Nothing.
    Memory,
    /// The end of the process. A power cut takes the last of it.
    Disk,
    /// A power cut, too.
    DiskFsync,
}

/// The directory of the chat service, and what it is worth.
#[derive(Debug)]
pub(crate) struct Storage {
    pub(crate) durability: Durability,
    directory: TempDir,
    lies: bool,
}

impl Storage {
    /// Makes the directory of a seed, which is gone with the process. A disk that lies loses what it was asked to keep.
    pub(crate) fn new(seed: u64, lies: bool) -> io::Result<Self> {
        let durability = match seed % 4 {
            0 => Durability::Memory,
            1 => Durability::Disk,
            _ => Durability::DiskFsync,
        };
        let directory = if Path::new(MEMORY).is_dir() {
            tempfile::tempdir_in(MEMORY)?
        } else {
            tempfile::tempdir()?
        };
        Ok(Self { durability, directory, lies })
    }

    /// The arguments that tell the chat service of it.
    pub(crate) fn args(&self) -> Vec<String> {
        let durability = match self.durability {
            Durability::Memory => return Vec::new(),
            Durability::Disk => "disk",
            Durability::DiskFsync => "disk+fsync",
        };
        let directory = self.directory.path().display();
        vec![format!("--chat-data-dir={directory}"), format!("--chat-durability={durability}")]
    }

    /// Does to the newest journal what a power cut does: what was under way is there in part, and of what was not waited
    /// for, the end is not there.
    pub(crate) fn cut_power(&self, random: &mut Random) -> io::Result<()> {
        let Some(journal) = self.newest_journal()? else { return Ok(()) };
        let file = OpenOptions::new().write(true).open(&journal)?;
        let bytes = file.metadata()?.len();
        let lost = match self.durability {
            Durability::Memory => 0,
            Durability::Disk => random.below(LOST_BYTES_MAX),
            Durability::DiskFsync if self.lies => random.below(LOST_BYTES_MAX),
            Durability::DiskFsync => random.below(MARK_BYTES + 1),
        };
        file.set_len(bytes.saturating_sub(lost).max(HEADER_BYTES.min(bytes)))?;
        let mut torn = b"grp:".to_vec();
        torn.extend((0..random.below(TORN_BYTES_MAX)).map(|_| random.below(256) as u8));
        torn.truncate(usize::try_from(random.below(torn.len() as u64 + 1)).unwrap_or(0));
        OpenOptions::new().append(true).open(&journal)?.write_all(&torn)
    }

    fn newest_journal(&self) -> io::Result<Option<PathBuf>> {
        let mut newest = None;
        for file in fs::read_dir(self.directory.path())? {
            let path = file?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let number =
                name.strip_prefix("journal-").and_then(|number| number.parse::<u64>().ok());
            if let Some(number) = number {
                newest = newest.max(Some((number, path)));
            }
        }
        Ok(newest.map(|(_, path)| path))
    }
}
