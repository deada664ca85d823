//! A directory of keys and values that takes changes in groups, and knows when it is damaged.
//!
//! Changes go into the journal first, then into a tree (`lsm-tree`) whose latest changes are in memory. When the journal
//! has grown, the tree writes them into files of its own, and the journal begins anew. One thread writes the journal, for
//! all workers, another the tree's files; whoever reads does so where it may block.

use std::{
    fs::{self, File, TryLockError},
    io,
    ops::Range,
    panic::{self, AssertUnwindSafe},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread::{self, JoinHandle},
    time::Duration,
};

use bytes::Bytes;
use lsm_tree::{
    AbstractTree, AnyTree, Config, Guard, SeqNo, SequenceNumberCounter, UserKey, UserValue,
};
use thiserror::Error;
use tokio::{sync::oneshot, time};
use xxhash_rust::xxh3::xxh3_128;

use super::{
    batch::{self, Batch, Damaged, verified},
    crash_points::{CrashPoints, Place},
    health::Health,
    journal::{self, Journal, ReplayError},
    writer::{self, Request, Writer},
};
use crate::{room_log::LogFailed, workers::WORKERS_MAX};

/// Where the tree notes the last journal that it needs no more.
pub(super) const JOURNAL_KEY: &[u8] = b"j";

const SIMULATED_DELAY_MS_MAX: u32 = 30;

const LOCK: &str = "lock";
const FORMAT: &str = "format";
const FORMAT_TEXT: &str = "sockeye room log 1\n";
const TREE: &str = "tree";

/// See the module.
#[derive(Debug)]
pub(crate) struct Store {
    tree: Tree,
    health: Arc<Health>,
    /// Closed when the store is dropped: then the threads end.
    requests: Option<mpsc::SyncSender<Request>>,
    threads: Vec<JoinHandle<()>>,
    /// Without threads: whoever commits writes, too.
    writer: Option<Mutex<Writer>>,
    /// No other process opens the directory as long as this one has it locked.
    _lock: File,
}

/// The tree, shared with the threads.
#[derive(Clone)]
pub(super) struct Tree {
    pub(super) tree: AnyTree,
    pub(super) seqno: SequenceNumberCounter,
}

/// Who waits for the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Threads {
    /// Threads of the store's own.
    Own,
    /// Whoever asks, as in a simulation that is to go the same way each time. It ends like a process that is killed, and
    /// leaves what it has to the journal.
    None,
}

/// Why a store cannot be opened.
#[derive(Debug, Error)]
pub enum OpenStoreError {
    /// The directory cannot be made or written to.
    #[error("{1} cannot be written to")]
    Directory(#[source] io::Error, PathBuf),
    /// Another process has it.
    #[error("{0} is in use by another process")]
    InUse(PathBuf),
    /// There are files in it, and they are not those of a store.
    #[error("{0} is not a data directory of the chat service: name another or an empty one")]
    Foreign(PathBuf),
    /// What was confirmed cannot be read.
    #[error(
        "{1} is damaged: restore it from a copy, or move it away to begin without history; a damaged part is never served"
    )]
    Damaged(#[source] Box<dyn std::error::Error + Send + Sync>, PathBuf),
}

#[derive(Debug, Error)]
pub(super) enum ReadStoreError {
    #[error("a file cannot be read")]
    Read(#[source] lsm_tree::Error),
    #[error(transparent)]
    Damaged(#[from] Damaged),
}

impl Store {
    /// Opens the store in a directory, which is made if there is none. This takes as long as reading the journal does.
    pub(crate) fn open(directory: &Path, threads: Threads) -> Result<Self, OpenStoreError> {
        let failed = |error| OpenStoreError::Directory(error, directory.to_owned());
        fs::create_dir_all(directory).map_err(failed)?;
        let lock = lock(directory)?;
        check_format(directory)?;
        // The tree panics on some kinds of damage.
        let opened = panic::catch_unwind(AssertUnwindSafe(|| Tree::open(directory)));
        let opened = opened.unwrap_or_else(|_| Err(RecoverError::Panic));
        let (tree, journal) = opened.map_err(|error| error.of(directory))?;

        let health = Arc::new(Health::new());
        let (sealed, seals) = mpsc::sync_channel(writer::SEALED_MAX);
        // Each worker has one batch under way.
        let (requests, taken) = mpsc::sync_channel(WORKERS_MAX);
        let writer = Writer::new(directory, tree.clone(), journal, sealed, Arc::clone(&health));
        if threads == Threads::None {
            let (requests, threads, writer) = (None, Vec::new(), Some(Mutex::new(writer)));
            return Ok(Self { tree, health, requests, threads, writer, _lock: lock });
        }
        let flusher = writer::Flusher::new(directory, tree.clone(), Arc::clone(&health));
        let threads = vec![
            spawn("room-log", move || writer.run(&taken)).map_err(failed)?,
            spawn("room-log-tree", move || flusher.run(&seals)).map_err(failed)?,
        ];
        let (requests, writer) = (Some(requests), None);
        Ok(Self { tree, health, requests, threads, writer, _lock: lock })
    }

    /// Makes the changes, all or none of them.
    pub(super) async fn commit(&self, batch: Batch) -> Result<(), LogFailed> {
        let (reply, committed) = oneshot::channel();
        if let Some(writer) = &self.writer {
            time::sleep(draw_delay()).await;
            let group = &mut [Request { batch, reply }];
            let written = writer.lock().unwrap_or_else(PoisonError::into_inner).commit(group);
            time::sleep(draw_delay()).await;
            return written;
        }
        let requests = self.requests.as_ref().ok_or(LogFailed)?;
        requests.try_send(Request { batch, reply }).map_err(|_| LogFailed)?;
        committed.await.unwrap_or(Err(LogFailed))
    }

    pub(super) fn health(&self) -> &Health {
        &self.health
    }

    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Bytes>, ReadStoreError> {
        let found = self.tree.tree.get(key, SeqNo::MAX).map_err(ReadStoreError::Read)?;
        Ok(found.map(|stored| verified(key, &stored)).transpose()?)
    }

    /// Keys in order, with their values.
    pub(super) fn scan(
        &self,
        keys: Range<Vec<u8>>,
    ) -> impl Iterator<Item = Result<(UserKey, Bytes), ReadStoreError>> + use<> {
        self.tree.tree.range(keys, SeqNo::MAX, None).map(|item| {
            let (key, stored): (UserKey, UserValue) =
                item.into_inner().map_err(ReadStoreError::Read)?;
            let value = verified(&key, &stored)?;
            Ok((key, value))
        })
    }

    /// Has the next write to the journal go to another file.
    #[cfg(test)]
    pub(super) async fn replace_journal_file(&self, file: File) {
        let (reply, replaced) = oneshot::channel();
        let mut batch = Batch::default();
        batch.replacement = Some(file);
        self.requests.as_ref().unwrap().send(Request { batch, reply }).unwrap();
        replaced.await.unwrap().unwrap();
    }
}

/// How long a disk in a simulation takes, before it has the changes or after: a process can end at either.
fn draw_delay() -> Duration {
    let random = getrandom::u32().unwrap_or(0);
    Duration::from_millis(u64::from(random % SIMULATED_DELAY_MS_MAX))
}

impl Drop for Store {
    /// Waits until all is in the tree's files, so that the next life has nothing to catch up on.
    fn drop(&mut self) {
        self.requests = None;
        for thread in self.threads.drain(..) {
            // It has panicked; what was confirmed is in the journal.
            thread.join().ok();
        }
    }
}

#[derive(Debug, Error)]
enum RecoverError {
    #[error("the tree cannot be read")]
    Tree(#[from] lsm_tree::Error),
    #[error("the tree cannot be read")]
    Panic,
    #[error(transparent)]
    Journal(#[from] ReplayError),
    #[error("a journal is missing")]
    JournalMissing,
    #[error(transparent)]
    Value(#[from] Damaged),
    #[error("a file cannot be written")]
    Write(#[source] io::Error),
}

impl RecoverError {
    fn of(self, directory: &Path) -> OpenStoreError {
        let directory = directory.to_owned();
        match self {
            Self::Write(error) => OpenStoreError::Directory(error, directory),
            Self::Tree(lsm_tree::Error::Io(error)) if !is_damage(error.kind()) => {
                OpenStoreError::Directory(error, directory)
            }
            Self::Tree(_)
            | Self::Panic
            | Self::Journal(_)
            | Self::JournalMissing
            | Self::Value(_) => OpenStoreError::Damaged(self.into(), directory),
        }
    }
}

/// Whether an error says that files are not as they were left.
fn is_damage(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::{InvalidData, NotFound, Other, UnexpectedEof};

    matches!(kind, InvalidData | NotFound | Other | UnexpectedEof)
}

impl Tree {
    fn open(directory: &Path) -> Result<(Self, Journal), RecoverError> {
        let (seqno, visible) = (SequenceNumberCounter::default(), SequenceNumberCounter::default());
        check_version(&directory.join(TREE))?;
        let tree = Config::new(directory.join(TREE), seqno.clone(), visible).open()?;
        seqno.set(tree.get_highest_seqno().map_or(0, |highest| highest + 1));
        let tree = Self { tree, seqno };
        let last = tree.replay_journals(directory)?;
        let crash_points = CrashPoints::of(directory);
        crash_points.pass(Place::Replayed);
        // There is always a journal: where none is, it was taken away.
        let journal = Journal::create(directory, last + 1).map_err(RecoverError::Write)?;
        tree.note_done(last);
        tree.tree.flush_active_memtable(tree.seqno.get())?;
        crash_points.pass(Place::TreeFilesWritten);
        for number in journal::numbers(directory).map_err(RecoverError::Write)? {
            if number <= last {
                journal::remove(directory, number).map_err(RecoverError::Write)?;
            }
        }
        Ok((tree, journal))
    }

    /// Takes over what only the journals have, and cuts what is torn; returns the number of the last of them.
    fn replay_journals(&self, directory: &Path) -> Result<u64, RecoverError> {
        let done = match self.tree.get(JOURNAL_KEY, SeqNo::MAX)? {
            Some(stored) => Some(decode_number(&verified(JOURNAL_KEY, &stored)?)?),
            None => None,
        };
        let numbers = journal::numbers(directory).map_err(RecoverError::Write)?;
        let last = numbers.last().copied();
        if last.is_none() && done.is_some() {
            return Err(RecoverError::JournalMissing);
        }
        let first = done.map_or(1, |done| done + 1);
        let mut replayed_to = first - 1;
        for number in numbers.into_iter().filter(|number| *number >= first) {
            if number != replayed_to + 1 {
                return Err(RecoverError::JournalMissing);
            }
            let is_last = Some(number) == last;
            let replayed = journal::replay(directory, number, is_last, |changes| {
                batch::apply(changes, &self.tree, self.seqno.next()).is_ok()
            })?;
            log_torn(&replayed, directory);
            if journal::cut(directory, number, &replayed).map_err(RecoverError::Write)? {
                replayed_to = number;
            }
        }
        Ok(replayed_to)
    }

    /// Has the changes that were made so far say that they are all of these journals.
    pub(super) fn note_done(&self, journal: u64) {
        let mut batch = Batch::default();
        batch.put(JOURNAL_KEY, &journal.to_be_bytes());
        // It was just encoded.
        batch::apply(batch.bytes(), &self.tree, self.seqno.next()).ok();
    }
}

impl std::fmt::Debug for Tree {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Tree").field("seqno", &self.seqno).finish_non_exhaustive()
    }
}

fn lock(directory: &Path) -> Result<File, OpenStoreError> {
    let failed = |error| OpenStoreError::Directory(error, directory.to_owned());
    let path = directory.join(LOCK);
    let file =
        File::options().create(true).truncate(false).write(true).open(path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenStoreError::InUse(directory.to_owned())),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

/// Fails where a directory holds something else, or files of a store of another version.
fn check_format(directory: &Path) -> Result<(), OpenStoreError> {
    let failed = |error| OpenStoreError::Directory(error, directory.to_owned());
    let path = directory.join(FORMAT);
    match fs::read(&path) {
        Ok(text) if text == FORMAT_TEXT.as_bytes() => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut others = fs::read_dir(directory).map_err(failed)?.flatten();
            if others.any(|file| !matches!(file.file_name().to_str(), Some(LOCK | FORMAT_NEW))) {
                return Err(OpenStoreError::Foreign(directory.to_owned()));
            }
            write_format(directory).map_err(failed)
        }
        Ok(_) => Err(OpenStoreError::Foreign(directory.to_owned())),
        Err(error) => Err(failed(error)),
    }
}

const FORMAT_NEW: &str = "format.new";

fn write_format(directory: &Path) -> io::Result<()> {
    let new = directory.join(FORMAT_NEW);
    fs::write(&new, FORMAT_TEXT)?;
    File::open(&new)?.sync_all()?;
    fs::rename(&new, directory.join(FORMAT))?;
    journal::sync_directory(directory)
}

fn decode_number(value: &[u8]) -> Result<u64, Damaged> {
    value.try_into().map(u64::from_be_bytes).map_err(|_| Damaged)
}

/// Checks the tree's list of its files, which it takes as it is.
fn check_version(tree: &Path) -> Result<(), RecoverError> {
    let current = match fs::read(tree.join("current")) {
        Ok(current) => current,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(lsm_tree::Error::from(error).into()),
    };
    let (number, rest) = current.split_first_chunk().ok_or(Damaged)?;
    let (checksum, _) = rest.split_first_chunk().ok_or(Damaged)?;
    let list = fs::read(tree.join(format!("v{}", u64::from_le_bytes(*number))));
    if xxh3_128(&list.map_err(lsm_tree::Error::from)?) != u128::from_le_bytes(*checksum) {
        return Err(Damaged.into());
    }
    Ok(())
}

fn log_torn(replayed: &journal::Replayed, directory: &Path) {
    let (directory, bytes) = (directory.display(), replayed.bytes_torn);
    if replayed.has_lost {
        tracing::error!(%directory, bytes, "the machine went down before the disk had the latest entries");
    } else if bytes > 0 {
        tracing::warn!(%directory, bytes, "cut a write that was not finished and not confirmed");
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name(name.to_owned()).spawn(run)
}
