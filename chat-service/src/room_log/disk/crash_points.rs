//! The places at which it matters when a process dies: between what it does to files.

use std::path::Path;

/// A place, by what was done last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    Replayed,
    TreeFilesWritten,
    JournalCreated,
    JournalRemoved,
    GroupWritten,
    GroupOnDisk,
    GroupMarked,
    GroupInTree,
    /// From here on the other thread does something.
    JournalSealed,
    /// It has done it.
    TreeCompacted,
}

/// Whoever does something to the files of a directory says so. It is listened to by the test that dies at each place.
#[derive(Debug, Clone)]
pub(super) struct CrashPoints {
    #[cfg(test)]
    directory: std::path::PathBuf,
}

impl CrashPoints {
    #[cfg_attr(not(test), expect(unused_variables, reason = "nobody listens"))]
    pub(super) fn of(directory: &Path) -> Self {
        Self {
            #[cfg(test)]
            directory: directory.to_owned(),
        }
    }

    #[cfg_attr(not(test), expect(unused_variables, clippy::unused_self, reason = "nobody listens"))]
    pub(super) fn pass(&self, place: Place) {
        #[cfg(test)]
        super::tests::crashes::pass(&self.directory, place);
    }
}
