//! Whether the store still takes changes.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};

use metrics::{Counter, Gauge, counter, gauge};

/// See the module.
#[derive(Debug)]
pub(super) struct Health {
    has_failed: AtomicBool,
    failed: Gauge,
    damaged: Counter,
    damaged_reads: AtomicU64,
    pub(super) commits: Counter,
    pub(super) fsyncs: Counter,
}

impl Health {
    pub(super) fn new() -> Self {
        let failed = gauge!("sockeye_chat_store_failed");
        failed.set(0);
        Self {
            has_failed: AtomicBool::new(false),
            failed,
            damaged: counter!("sockeye_chat_store_damaged_reads_total"),
            damaged_reads: AtomicU64::new(0),
            commits: counter!("sockeye_chat_store_commits_total"),
            fsyncs: counter!("sockeye_chat_store_fsyncs_total"),
        }
    }

    pub(super) fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::Acquire)
    }

    /// From now on nothing is written. What a disk has after it refused a write, or could not say that it has taken one,
    /// cannot be known by trying again.
    pub(super) fn fail(&self, error: &(dyn std::error::Error + 'static)) {
        if !self.has_failed.swap(true, Ordering::AcqRel) {
            self.failed.set(1);
            tracing::error!(
                error,
                disk.is_full = is_full(error),
                "the data directory takes nothing any more: publishing is refused until a restart, reading goes on"
            );
        }
    }

    /// Clients ask for it again and again: fewer and fewer of those reads are logged.
    pub(super) fn count_damaged(&self, error: &(dyn std::error::Error + 'static)) {
        self.damaged.increment(1);
        let reads = self.damaged_reads.fetch_add(1, Ordering::Relaxed) + 1;
        if reads.is_power_of_two() {
            tracing::error!(
                error,
                reads,
                "a part of the data directory is damaged and is not served"
            );
        }
    }
}

/// Is held by a thread that writes: without it nothing is written either.
#[derive(Debug)]
pub(super) struct FailOnPanic(pub(super) Arc<Health>);

impl Drop for FailOnPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.fail(&io::Error::other("a thread that writes it has panicked"));
        }
    }
}

fn is_full(error: &(dyn std::error::Error + 'static)) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};

    let error_kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
    matches!(error_kind, Some(StorageFull | QuotaExceeded | FileTooLarge))
        || error.source().is_some_and(is_full)
}
