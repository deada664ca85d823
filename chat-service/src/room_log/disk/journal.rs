//! The file of the latest changes, which is all that a commit writes.
//!
//! A journal is a header and then groups of changes, each a length, a number, checksums and the changes. Behind a group,
//! once it was written and before anyone was told, follows a mark. What is invalid at the end was torn: it is cut, for
//! nobody was told of it. But where a mark says that a group had reached the disk, and the group is not valid, bits have
//! changed since, and the journal is damaged.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use bytes::Buf;
use thiserror::Error;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::{
    batch::Batch,
    crash_points::{CrashPoints, Place},
};

pub(super) mod fuzzing;

const MAGIC: &[u8; 8] = b"sockeye1";
const GROUP: [u8; 4] = *b"grp:";
const MARK: [u8; 4] = *b"ack:";

/// Magic, number of the journal, checksum.
const HEADER_BYTES: usize = 24;
/// Magic, length of the changes (of a mark: whether the disk has them), number of the group, checksum of the changes,
/// checksum of all this.
const HEAD_BYTES: usize = 32;

/// A journal that is written.
#[derive(Debug)]
pub(super) struct Journal {
    file: File,
    number: u64,
    groups: u64,
    bytes: u64,
    buffer: Vec<u8>,
    crash_points: CrashPoints,
}

/// What was found in a journal.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Replayed {
    pub(super) groups: u64,
    pub(super) bytes_whole: u64,
    /// At its end, of a group that had not been written whole.
    pub(super) bytes_torn: u64,
    /// Some of that had been confirmed, though not as being on the disk: the machine went down before it was.
    pub(super) has_lost: bool,
}

#[derive(Debug, Error)]
pub(crate) enum ReplayError {
    #[error("{1} cannot be read")]
    Read(#[source] io::Error, PathBuf),
    #[error("{0} is damaged at byte {1}: entries that were confirmed are not readable")]
    Damaged(PathBuf, u64),
}

impl Journal {
    pub(super) fn create(directory: &Path, number: u64) -> io::Result<Self> {
        let mut header = Vec::with_capacity(HEADER_BYTES);
        header.extend_from_slice(MAGIC);
        header.extend_from_slice(&number.to_be_bytes());
        header.extend_from_slice(&xxh3_64(&header).to_be_bytes());
        let mut file =
            OpenOptions::new().append(true).create_new(true).open(path(directory, number))?;
        file.write_all(&header)?;
        file.sync_all()?;
        sync_directory(directory)?;
        let crash_points = CrashPoints::of(directory);
        crash_points.pass(Place::JournalCreated);
        let (bytes, buffer) = (HEADER_BYTES as u64, Vec::new());
        Ok(Self { file, number, groups: 0, bytes, buffer, crash_points })
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Writes the batches as one group; tells whether that included waiting for the disk. An error is final: what the
    /// file holds is known only up to the group before.
    pub(super) fn write<'a>(
        &mut self,
        batches: impl Iterator<Item = &'a Batch>,
    ) -> io::Result<bool> {
        self.groups += 1;
        self.buffer.clear();
        self.buffer.resize(HEAD_BYTES, 0);
        let mut fsync = false;
        for batch in batches {
            fsync |= batch.fsync;
            self.buffer.extend_from_slice(batch.bytes());
        }
        let changes = &self.buffer[HEAD_BYTES..];
        let length = u32::try_from(changes.len()).map_err(io::Error::other)?;
        let head = Head { length, group: self.groups, checksum: xxh3_64(changes) };
        let bytes = head.encode(GROUP, self.number);
        self.buffer[..HEAD_BYTES].copy_from_slice(&bytes);

        self.file.write_all(&self.buffer)?;
        self.crash_points.pass(Place::GroupWritten);
        if fsync {
            self.file.sync_data()?;
            self.crash_points.pass(Place::GroupOnDisk);
        }
        let mark = Head { length: u32::from(fsync), group: self.groups, checksum: 0 };
        self.file.write_all(&mark.encode(MARK, self.number))?;
        self.crash_points.pass(Place::GroupMarked);
        self.bytes += (self.buffer.len() + HEAD_BYTES) as u64;
        Ok(fsync)
    }

    /// Has the disk take all of it.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Puts another file in the place of its own, to have it fail.
    #[cfg(test)]
    pub(super) fn replace_file(&mut self, file: File) {
        self.file = file;
    }
}

/// The numbers of the journals in a directory, in order.
pub(super) fn numbers(directory: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for file in fs::read_dir(directory)? {
        let name = file?.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix("journal-"));
        numbers.extend(number.and_then(|number| number.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

pub(super) fn remove(directory: &Path, number: u64) -> io::Result<()> {
    fs::remove_file(path(directory, number))?;
    CrashPoints::of(directory).pass(Place::JournalRemoved);
    Ok(())
}

/// Cuts off what is torn; tells whether anything is left. Its number is free if not.
pub(super) fn cut(directory: &Path, number: u64, replayed: &Replayed) -> io::Result<bool> {
    if replayed.bytes_whole == 0 {
        remove(directory, number)?;
        return Ok(false);
    }
    if replayed.bytes_torn > 0 {
        let file = OpenOptions::new().write(true).open(path(directory, number))?;
        file.set_len(replayed.bytes_whole)?;
        file.sync_all()?;
    }
    Ok(true)
}

/// Hands all changes of a journal to `apply`, which fails where it cannot make sense of them. Only the last journal may
/// be torn.
pub(super) fn replay(
    directory: &Path,
    number: u64,
    is_last: bool,
    apply: impl FnMut(&[u8]) -> bool,
) -> Result<Replayed, ReplayError> {
    let path = path(directory, number);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) => return Err(ReplayError::Read(error, path)),
    };
    replay_bytes(&bytes, number, is_last, apply).map_err(|at| ReplayError::Damaged(path, at))
}

/// Does the same with the bytes of a journal. Returns where they are damaged, if they are.
fn replay_bytes(
    bytes: &[u8],
    number: u64,
    is_last: bool,
    mut apply: impl FnMut(&[u8]) -> bool,
) -> Result<Replayed, u64> {
    let damaged = |at: usize| at as u64;
    let mut replayed = Replayed::default();

    let header = bytes.get(..HEADER_BYTES).filter(|header| is_header(header, number));
    let mut at = if header.is_some() { HEADER_BYTES } else { 0 };
    while let Some(record) = record(&bytes[at..], number).filter(|_| header.is_some()) {
        if let Record::Group { group, changes } = record {
            if group != replayed.groups + 1 || !apply(changes) {
                return Err(damaged(at));
            }
            replayed.groups = group;
            at += changes.len();
        }
        at += HEAD_BYTES;
    }

    replayed.bytes_whole = at as u64;
    if at < bytes.len() {
        if !is_last {
            return Err(damaged(at));
        }
        let marks = (at..bytes.len()).filter_map(|at| match record(&bytes[at..], number) {
            Some(Record::Mark { group, on_disk }) if group > replayed.groups => Some(on_disk),
            _ => None,
        });
        for on_disk in marks {
            replayed.has_lost = true;
            if on_disk {
                return Err(damaged(at));
            }
        }
        replayed.bytes_torn = (bytes.len() - at) as u64;
    } else if header.is_none() && !is_last {
        return Err(damaged(0));
    }
    Ok(replayed)
}

#[derive(Debug)]
struct Head {
    length: u32,
    group: u64,
    checksum: u64,
}

enum Record<'a> {
    Group { group: u64, changes: &'a [u8] },
    Mark { group: u64, on_disk: bool },
}

impl Head {
    fn encode(&self, magic: [u8; 4], journal: u64) -> [u8; HEAD_BYTES] {
        let mut bytes = [0; HEAD_BYTES];
        bytes[..4].copy_from_slice(&magic);
        bytes[4..8].copy_from_slice(&self.length.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.group.to_be_bytes());
        bytes[16..24].copy_from_slice(&self.checksum.to_be_bytes());
        let checksum = xxh3_64_with_seed(&bytes[..24], journal);
        bytes[24..].copy_from_slice(&checksum.to_be_bytes());
        bytes
    }
}

/// The record at the beginning of some bytes, if there is a valid one.
fn record(bytes: &[u8], journal: u64) -> Option<Record<'_>> {
    let (head, rest) = bytes.split_at_checked(HEAD_BYTES)?;
    let (magic, mut fields) = head.split_first_chunk()?;
    if !matches!(*magic, GROUP | MARK) {
        return None;
    }
    let head_of =
        Head { length: fields.get_u32(), group: fields.get_u64(), checksum: fields.get_u64() };
    if head_of.encode(*magic, journal) != *head {
        return None;
    }
    let Head { length, group, checksum } = head_of;
    if *magic == MARK {
        return Some(Record::Mark { group, on_disk: length != 0 });
    }
    let changes = rest.get(..length as usize)?;
    (xxh3_64(changes) == checksum).then_some(Record::Group { group, changes })
}

fn is_header(header: &[u8], number: u64) -> bool {
    header[..8] == *MAGIC
        && header[8..16] == number.to_be_bytes()
        && header[16..] == xxh3_64(&header[..16]).to_be_bytes()
}

fn path(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("journal-{number:020}"))
}

/// Has the disk take the names of the files.
pub(super) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}
