//! Lets the process die wherever it does something to a file, and looks at what is left.

use std::{
    collections::{BTreeSet, HashMap},
    mem,
    sync::{Condvar, LazyLock},
};

use super::restarts::{append, copy, texts};
use crate::room_log::{
    contract::{publication, room},
    disk::{
        crash_points::Place,
        tests::{new_directory, *},
    },
};

/// Enough for several journals.
const COUNT: usize = 40;

static LISTENERS: LazyLock<Mutex<HashMap<std::path::PathBuf, Arc<Listener>>>> =
    LazyLock::new(Mutex::default);

/// Copies a directory whenever something was done to it.
#[derive(Debug, Default)]
struct Listener {
    seen: Mutex<Seen>,
    /// The thread that writes the tree's files has finished.
    is_quiet: Condvar,
    /// Whoever comes here panics, and nothing is copied.
    panics_at: Option<Place>,
}

#[derive(Debug, Default)]
struct Seen {
    attempted: usize,
    confirmed: usize,
    is_flushing: bool,
    crashes: Vec<Crash>,
}

/// What a process that died at a place has left behind.
#[derive(Debug)]
struct Crash {
    place: Place,
    attempted: usize,
    confirmed: usize,
    directory: TempDir,
}

/// Is called on the threads of the store. While one of them writes the tree's files, the other waits before it goes on: a
/// copy is of one moment.
pub(in crate::room_log::disk) fn pass(directory: &Path, place: Place) {
    let listener = LISTENERS.lock().unwrap().get(directory).cloned();
    let Some(listener) = listener else { return };
    if let Some(panics_at) = listener.panics_at {
        assert_ne!(place, panics_at, "asked for");
        return;
    }
    let mut seen = listener.seen.lock().unwrap();
    let is_flusher = std::thread::current().name() == Some("room-log-tree");
    while seen.is_flushing && !is_flusher {
        seen = listener.is_quiet.wait(seen).unwrap();
    }
    let copied = new_directory();
    copy(directory, copied.path());
    let Seen { attempted, confirmed, .. } = *seen;
    seen.crashes.push(Crash { place, attempted, confirmed, directory: copied });
    match place {
        Place::JournalSealed => seen.is_flushing = true,
        Place::TreeCompacted => {
            seen.is_flushing = false;
            listener.is_quiet.notify_all();
        }
        Place::Replayed
        | Place::TreeFilesWritten
        | Place::JournalCreated
        | Place::JournalRemoved
        | Place::GroupWritten
        | Place::GroupOnDisk
        | Place::GroupMarked
        | Place::GroupInTree => {}
    }
}

impl Listener {
    fn to(directory: &Path) -> Arc<Self> {
        Self::default().listen_to(directory)
    }

    fn listen_to(self, directory: &Path) -> Arc<Self> {
        let listener = Arc::new(self);
        LISTENERS.lock().unwrap().insert(directory.to_owned(), Arc::clone(&listener));
        listener
    }

    fn crashes(&self) -> Vec<Crash> {
        mem::take(&mut self.seen.lock().unwrap().crashes)
    }
}

/// The store must say a whole number of entries, at least those that were confirmed, and go on from there.
async fn survives(crash: &Crash) {
    let log = open_in(crash.directory.path()).await.unwrap();
    let texts_left = texts(&log).await;
    let possible = (crash.confirmed..=crash.attempted).any(|count| texts_left == newest(count));
    assert!(possible, "{crash:?}: {texts_left:?}");

    append(&log, "next").await;
    log.commit().await.unwrap();
    drop(log);
    let log = open_in(crash.directory.path()).await.unwrap();
    assert_eq!(texts(&log).await.last().unwrap(), "next", "{crash:?}");
}

/// What a room keeps of so many entries.
fn newest(count: usize) -> Vec<String> {
    (count.saturating_sub(COUNT_MAX.get())..count).map(|number| number.to_string()).collect()
}

#[tokio::test]
async fn wherever_the_process_dies_what_was_confirmed_is_there() {
    let original = new_directory();
    let listener = Listener::to(original.path());
    let log = open_in(original.path()).await.unwrap();
    for number in 0..COUNT {
        listener.seen.lock().unwrap().attempted = number + 1;
        append(&log, &number.to_string()).await;
        log.commit().await.unwrap();
        listener.seen.lock().unwrap().confirmed = number + 1;
    }
    drop(log);

    let crashes = listener.crashes();
    let places: BTreeSet<Place> = crashes.iter().map(|crash| crash.place).collect();
    assert_eq!(places.len(), 10, "{places:?}");
    for crash in &crashes {
        survives(crash).await;
    }
}

#[tokio::test]
async fn a_process_that_dies_while_it_recovers_from_a_crash_recovers_the_next_time() {
    let original = new_directory();
    let log = open_in(original.path()).await.unwrap();
    for number in 0..COUNT {
        append(&log, &number.to_string()).await;
        log.commit().await.unwrap();
    }
    let killed = new_directory();
    drop(log);
    // Closing leaves nothing to recover, so the journal of a life that did not close is put there.
    let log = open_in(original.path()).await.unwrap();
    append(&log, &COUNT.to_string()).await;
    log.commit().await.unwrap();
    copy(original.path(), killed.path());

    let listener = Listener::to(killed.path());
    {
        let mut seen = listener.seen.lock().unwrap();
        (seen.attempted, seen.confirmed) = (COUNT + 1, COUNT + 1);
    }
    drop(open_in(killed.path()).await.unwrap());

    let crashes = listener.crashes();
    assert!(crashes.iter().any(|crash| crash.place == Place::Replayed));
    for crash in &crashes {
        survives(crash).await;
    }
}

#[tokio::test]
async fn a_thread_that_panics_ends_publishing_as_a_full_disk_does() {
    for place in [Place::GroupWritten, Place::JournalSealed, Place::TreeFilesWritten] {
        let directory = new_directory();
        let log = open_in(directory.path()).await.unwrap();
        append(&log, "kept").await;
        log.commit().await.unwrap();
        Listener { panics_at: Some(place), ..Listener::default() }.listen_to(directory.path());

        let mut attempts = 0;
        while !log.shared.store.health().has_failed() {
            attempts += 1;
            assert!(attempts < 10_000, "{place:?}: it goes on");
            if log.append(&room(), publication("x"), 5).await.is_ok() {
                log.commit().await.ok();
            }
        }

        let refused = log.append(&room(), publication("x"), 5).await;
        assert_eq!(refused, Err(LogFailed.into()), "{place:?}");
        assert!(!texts(&log).await.is_empty(), "{place:?}");
    }
}
