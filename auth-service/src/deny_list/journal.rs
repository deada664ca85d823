//! Keeps revocations in a file: a line of JSON for each, after a first line that says what the file is.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufRead, BufReader, BufWriter, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Revocation;

const FORMAT: &str = "sockeye-revocations-1";

/// Who may read the file: it names users.
const FILE_MODE: u32 = 0o600;

/// Lines of what is no longer kept that are no reason to write the file anew.
const OLD_LINES_MIN: usize = 1024;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    format: String,
    /// The last position that the file had when it was written anew, so that none is given out twice.
    last_position: u64,
}

/// What a file held when it was opened.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) last_position: u64,
    pub(super) revocations: Vec<Revocation>,
}

/// The open file. Nobody else has it open.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    /// Absent before the first [`rewrite`](Self::rewrite), and once a write failed: what is on disk is not known then, and
    /// another attempt could succeed without being kept.
    file: Option<File>,
    line_count: usize,
    _lock: File,
}

impl Journal {
    /// Reads what the file holds. It is written only by [`rewrite`](Self::rewrite), with which the caller goes on.
    pub(super) fn open(path: PathBuf) -> Result<(Self, Content), OpenDenyListError> {
        let lock = match lock(&path) {
            Ok(lock) => lock,
            Err(TryLockError::WouldBlock) => return Err(OpenDenyListError::InUse { path }),
            Err(TryLockError::Error(source)) => {
                return Err(OpenDenyListError::Io { path, source });
            }
        };
        let content = match read(&path) {
            Ok(content) => content,
            Err(ReadError::Io(source)) => return Err(OpenDenyListError::Io { path, source }),
            Err(ReadError::Line(line)) => return Err(OpenDenyListError::Damaged { path, line }),
        };
        let journal = Self { path, file: None, line_count: 0, _lock: lock };
        Ok((journal, content))
    }

    #[cfg(all(test, target_os = "linux"))]
    pub(super) fn replace_file(&mut self, file: File) {
        self.file = Some(file);
    }

    pub(super) fn unusable(&self, source: io::Error) -> OpenDenyListError {
        OpenDenyListError::Io { path: self.path.clone(), source }
    }

    /// Adds a line, and waits until it is on disk.
    pub(super) fn append(&mut self, revocation: &Revocation) -> io::Result<()> {
        let mut line = serde_json::to_vec(revocation)?;
        line.push(b'\n');
        let mut file =
            self.file.take().ok_or_else(|| io::Error::other("an earlier write failed"))?;
        file.write_all(&line)?;
        file.sync_data()?;
        self.line_count += 1;
        self.file = Some(file);
        Ok(())
    }

    pub(super) fn is_mostly_old(&self, kept_count: usize) -> bool {
        self.line_count > 2 * kept_count + OLD_LINES_MIN
    }

    /// Puts a file with just these in the place of the present one, which stays as it is when that fails.
    pub(super) fn rewrite<'a>(
        &mut self,
        last_position: u64,
        revocations: impl Iterator<Item = &'a Revocation>,
    ) -> io::Result<()> {
        let new_path = with_suffix(&self.path, ".new");
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(FILE_MODE)
            .open(&new_path)?;
        let mut writer = BufWriter::new(file);
        let line_count = write(&mut writer, last_position, revocations)?;
        let file = writer.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        fs::rename(&new_path, &self.path)?;
        // From here on the present file has no name. Without the new one in hand, nothing more is kept.
        self.file = None;
        sync_directory(&self.path)?;
        self.file = Some(file);
        self.line_count = line_count;
        Ok(())
    }
}

enum ReadError {
    Io(io::Error),
    Line(usize),
}

fn read(path: &Path) -> Result<Content, ReadError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Content::default()),
        Err(error) => return Err(ReadError::Io(error)),
    };
    parse(BufReader::new(file))
}

/// Writes all lines, and returns how many revocations they hold.
fn write<'a>(
    writer: &mut impl io::Write,
    last_position: u64,
    revocations: impl Iterator<Item = &'a Revocation>,
) -> io::Result<usize> {
    serde_json::to_writer(&mut *writer, &Header { format: FORMAT.to_owned(), last_position })?;
    writer.write_all(b"\n")?;
    let mut line_count = 0;
    for revocation in revocations {
        serde_json::to_writer(&mut *writer, revocation)?;
        writer.write_all(b"\n")?;
        line_count += 1;
    }
    Ok(line_count)
}

/// Checks for the fuzzer that a file is refused, or means the same once it is written anew.
pub(crate) fn check_file(bytes: &[u8]) {
    let Ok(content) = parse(bytes) else { return };
    let mut written = Vec::new();
    let count = write(&mut written, content.last_position, content.revocations.iter());
    assert_eq!(count.ok(), Some(content.revocations.len()));
    assert_eq!(parse(&*written).ok(), Some(content));
}

/// Reads the lines of a file.
fn parse(mut reader: impl BufRead) -> Result<Content, ReadError> {
    let mut line = Vec::new();
    reader.read_until(b'\n', &mut line).map_err(ReadError::Io)?;
    let header: Header = serde_json::from_slice(&line).map_err(|_| ReadError::Line(1))?;
    if header.format != FORMAT {
        return Err(ReadError::Line(1));
    }
    let mut content = Content { last_position: header.last_position, revocations: Vec::new() };
    for number in 2.. {
        line.clear();
        reader.read_until(b'\n', &mut line).map_err(ReadError::Io)?;
        // A last line without its end was being written when the process or the machine went down: it was never confirmed.
        if line.last() != Some(&b'\n') {
            break;
        }
        let revocation: Revocation =
            serde_json::from_slice(&line).map_err(|_| ReadError::Line(number))?;
        content.last_position = content.last_position.max(revocation.position);
        content.revocations.push(revocation);
    }
    Ok(content)
}

/// Locks a file beside it: the file itself is replaced now and then, and its lock would go with it.
fn lock(path: &Path) -> Result<File, TryLockError> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(FILE_MODE)
        .open(with_suffix(path, ".lock"))
        .map_err(TryLockError::Error)?;
    file.try_lock()?;
    Ok(file)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

fn sync_directory(path: &Path) -> io::Result<()> {
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}

/// Why the file of revocations cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenDenyListError {
    #[error("another process uses {}", path.display())]
    InUse { path: PathBuf },
    #[error("{} cannot be read or written", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("line {line} of {} is no revocation", path.display())]
    Damaged { path: PathBuf, line: usize },
}
