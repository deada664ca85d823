//! The two threads that write the store.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
};

use lsm_tree::{AbstractTree, compaction::Leveled};
use tokio::sync::oneshot;

use super::{
    batch::{self, Batch},
    crash_points::{CrashPoints, Place},
    health::{FailOnPanic, Health},
    journal::{self, Journal},
    store::Tree,
};
use crate::room_log::LogFailed;

/// How large the journal gets before its changes are written to the tree's files: what is in memory until then, and
/// read at the next start. Less in tests, so that they come to it.
const JOURNAL_BYTES_MAX: u64 = if cfg!(test) { 4 * 1024 } else { 32 * 1024 * 1024 };

/// How many journals may wait for that. When it is full, commits wait.
pub(super) const SEALED_MAX: usize = 2;

/// A batch that somebody wants committed.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) batch: Batch,
    pub(super) reply: oneshot::Sender<Result<(), LogFailed>>,
}

/// Writes the journal. Batches that arrive while it waits for the disk share the next write.
#[derive(Debug)]
pub(super) struct Writer {
    directory: PathBuf,
    tree: Tree,
    journal: Journal,
    sealed: mpsc::SyncSender<u64>,
    health: Arc<Health>,
}

/// Writes the tree's files.
#[derive(Debug)]
pub(super) struct Flusher {
    directory: PathBuf,
    tree: Tree,
    health: Arc<Health>,
}

impl Writer {
    pub(super) fn new(
        directory: &Path,
        tree: Tree,
        journal: Journal,
        sealed: mpsc::SyncSender<u64>,
        health: Arc<Health>,
    ) -> Self {
        Self { directory: directory.to_owned(), tree, journal, sealed, health }
    }

    /// Ends when nobody can send requests any more, with nothing left in the journal.
    pub(super) fn run(mut self, requests: &mpsc::Receiver<Request>) {
        let _guard = FailOnPanic(Arc::clone(&self.health));
        let mut group = Vec::new();
        while let Ok(first) = requests.recv() {
            group.push(first);
            group.extend(requests.try_iter());
            let committed = self.commit(&mut group);
            for Request { batch: _, reply } in group.drain(..) {
                // Nobody is left to be told.
                reply.send(committed).ok();
            }
            if self.journal.bytes() > JOURNAL_BYTES_MAX {
                self.seal();
            }
        }
        if !self.health.has_failed() {
            self.seal();
        }
    }

    pub(super) fn commit(&mut self, group: &mut [Request]) -> Result<(), LogFailed> {
        #[cfg(test)]
        for request in &mut *group {
            if let Some(file) = request.batch.replacement.take() {
                self.journal.replace_file(file);
                return Ok(());
            }
        }
        if self.health.has_failed() {
            return Err(LogFailed);
        }
        let fsynced = self.journal.write(group.iter().map(|request| &request.batch));
        let fsynced = fsynced.map_err(|error| {
            self.health.fail(&error);
            LogFailed
        })?;
        self.health.commits.increment(1);
        self.health.fsyncs.increment(u64::from(fsynced));
        let seqno = self.tree.seqno.next();
        for request in group {
            if let Err(error) = batch::apply(request.batch.bytes(), &self.tree.tree, seqno) {
                self.health.fail(&error);
                return Err(LogFailed);
            }
        }
        CrashPoints::of(&self.directory).pass(Place::GroupInTree);
        Ok(())
    }

    /// Begins a new journal, and has the changes of this one written to the tree's files.
    fn seal(&mut self) {
        let number = self.journal.number();
        let created =
            self.journal.sync().and_then(|()| Journal::create(&self.directory, number + 1));
        match created {
            Ok(journal) => self.journal = journal,
            Err(error) => return self.health.fail(&error),
        }
        self.tree.note_done(number);
        self.tree.tree.rotate_memtable();
        CrashPoints::of(&self.directory).pass(Place::JournalSealed);
        // It has ended only where it failed.
        self.sealed.send(number).ok();
    }
}

impl Flusher {
    pub(super) fn new(directory: &Path, tree: Tree, health: Arc<Health>) -> Self {
        Self { directory: directory.to_owned(), tree, health }
    }

    pub(super) fn run(self, sealed: &mpsc::Receiver<u64>) {
        let _guard = FailOnPanic(Arc::clone(&self.health));
        while let Ok(number) = sealed.recv() {
            if let Err(error) = self.flush(number) {
                // The journals stay: nothing that was confirmed is only in memory.
                return self.health.fail(&error);
            }
        }
    }

    fn flush(&self, number: u64) -> lsm_tree::Result<()> {
        let tree = &self.tree.tree;
        let crash_points = CrashPoints::of(&self.directory);
        tree.flush(&tree.get_flush_lock(), self.tree.seqno.get())?;
        crash_points.pass(Place::TreeFilesWritten);
        for done in journal::numbers(&self.directory)? {
            if done <= number {
                journal::remove(&self.directory, done)?;
            }
        }
        tree.compact(Arc::new(Leveled::default()), self.tree.seqno.get())?;
        crash_points.pass(Place::TreeCompacted);
        Ok(())
    }
}
