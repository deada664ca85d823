//! What is made of files that are cut, flipped or locked, and of a disk that takes no more.

use std::{
    fs::{self, File},
    path::PathBuf,
};

use super::restarts::{append, copy, texts};
use crate::{
    namespaces::NamespaceSettings,
    room_log::{
        contract::{AGE_MAX, TOO_LATE_MS, publication, room},
        disk::tests::*,
    },
};

const ALL: Limit = Limit { count: 1000, bytes: usize::MAX };

/// Entries that are committed one by one.
const COUNT: usize = 6;

/// Fills a directory, and leaves it as a process that is killed would.
async fn filled(settled: bool) -> TempDir {
    let directory = new_directory();
    let log = open_in(directory.path()).await.unwrap();
    for number in 0..COUNT {
        append(&log, &number.to_string()).await;
        log.commit().await.unwrap();
    }
    if settled {
        drop(log);
        return directory;
    }
    let killed = new_directory();
    copy(directory.path(), killed.path());
    killed
}

fn expected() -> Vec<String> {
    (0..COUNT).map(|number| number.to_string()).collect()
}

pub(super) fn files_under(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for file in fs::read_dir(directory).unwrap() {
        let path = file.unwrap().path();
        if path.is_dir() {
            files.extend(files_under(&path));
        } else {
            files.push(path);
        }
    }
    files
}

pub(super) fn journal_in(directory: &Path) -> PathBuf {
    let journals = journal::numbers(directory).unwrap();
    directory.join(format!("journal-{:020}", journals.last().unwrap()))
}

/// What a damaged store still says, if it says anything.
async fn said(directory: &Path) -> Option<Vec<String>> {
    let log = open_in(directory).await.ok()?;
    log.read(&room(), Range::Newest, ALL, 5).await.ok()?;
    Some(texts(&log).await)
}

#[tokio::test]
async fn a_journal_that_is_cut_at_any_byte_says_what_came_before() {
    let original = filled(false).await;
    let journal = journal_in(original.path());
    let bytes = fs::read(&journal).unwrap();
    let mut counts = Vec::new();

    for length in 0..=bytes.len() {
        fs::write(&journal, &bytes[..length]).unwrap();
        let cut = new_directory();
        copy(original.path(), cut.path());
        let texts = said(cut.path()).await.expect("it is torn, not damaged");
        assert_eq!(texts, expected()[..texts.len()]);
        counts.push(texts.len());
    }

    assert!(counts.is_sorted());
    assert_eq!((counts[0], counts.last().copied()), (0, Some(COUNT)));
}

/// Flips a bit of each byte of a file; returns how often all was said nevertheless. Nothing else may be said.
async fn flip(original: &Path, file: &Path) -> usize {
    let bytes = fs::read(file).unwrap();
    let mut unharmed = 0;
    for at in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (at % 8);
        fs::write(file, &flipped).unwrap();
        let damaged = new_directory();
        copy(original, damaged.path());
        if let Some(texts) = said(damaged.path()).await {
            assert_eq!(texts, expected(), "{} at {at}", file.display());
            unharmed += 1;
        }
    }
    fs::write(file, &bytes).unwrap();
    unharmed
}

#[tokio::test]
async fn a_flipped_bit_of_a_journal_is_found() {
    let original = filled(false).await;

    let unharmed = flip(original.path(), &journal_in(original.path())).await;

    // The mark behind the last group, without which that counts all the same.
    assert_eq!(unharmed, 32);
}

#[tokio::test]
async fn a_flipped_bit_of_any_other_file_is_found_or_does_no_harm() {
    let original = filled(true).await;
    let (mut bytes, mut unharmed) = (0, 0);

    for file in files_under(original.path()) {
        bytes += fs::metadata(&file).unwrap().len() as usize;
        unharmed += flip(original.path(), &file).await;
    }

    // Most of it holds entries.
    assert!(unharmed < bytes / 2, "{unharmed} of {bytes}");
}

#[tokio::test]
async fn a_journal_that_is_missing_is_found() {
    for settled in [false, true] {
        let original = filled(settled).await;
        fs::remove_file(journal_in(original.path())).unwrap();

        let opened = open_in(original.path()).await;

        assert!(matches!(opened, Err(OpenStoreError::Damaged(..))), "{opened:?}");
    }
}

#[tokio::test]
async fn two_processes_cannot_have_one_directory() {
    let directory = new_directory();
    let log = open_in(directory.path()).await.unwrap();

    let error = open_in(directory.path()).await.unwrap_err();

    assert_eq!(
        error.to_string(),
        format!("{} is in use by another process", directory.path().display())
    );
    drop(log);
    open_in(directory.path()).await.unwrap();
}

#[tokio::test]
async fn a_directory_of_something_else_is_left_alone() {
    let directory = new_directory();
    fs::write(directory.path().join("notes.txt"), "mine").unwrap();

    let opened = open_in(directory.path()).await;

    assert!(matches!(opened, Err(OpenStoreError::Foreign(_))), "{opened:?}");
    assert_eq!(fs::read(directory.path().join("notes.txt")).unwrap(), b"mine");
}

#[tokio::test]
async fn a_directory_that_cannot_be_made_is_named() {
    let directory = new_directory();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();

    let error = open_in(&file.join("below")).await.unwrap_err();

    assert!(matches!(error, OpenStoreError::Directory(..)));
    assert!(error.to_string().contains("below"), "{error}");
}

/// The device takes every write and cannot sync, or takes no write: errors of the kernel, not of ours.
async fn fails_with_journal_on(device: &str) {
    let directory = new_directory();
    let log = open_in(directory.path()).await.unwrap();
    let kept = append(&log, "kept").await;
    log.commit().await.unwrap();
    let file = File::options().append(true).open(device).unwrap();
    log.shared.store.replace_journal_file(file).await;

    append(&log, "lost").await;
    assert_eq!(log.commit().await, Err(LogFailed));

    // It does not come back, reading goes on, and nobody sees what was not committed.
    let again = log.append(&room(), publication("x"), 5).await;
    assert_eq!((again, log.commit().await), (Err(LogFailed.into()), Ok(())));
    assert_eq!(texts(&log).await, ["kept"]);
    assert_eq!(log.end(&room()).await.unwrap(), kept.position);
    drop(log);
    takes_more(directory.path()).await;
}

/// Has the store fail with the next write.
async fn fill_disk(log: &DiskRoomLog) {
    let full = File::options().append(true).open("/dev/full").unwrap();
    log.shared.store.replace_journal_file(full).await;
}

#[tokio::test]
async fn what_cannot_be_written_is_not_counted() {
    let directory = new_directory();
    let log = open_in(directory.path()).await.unwrap();
    let other = RoomKey::parse("/chat", "other").unwrap();
    for at_ms in 0..4 {
        log.append(&room(), publication("x"), at_ms).await.unwrap();
    }
    log.append(&other, publication("y"), TOO_LATE_MS).await.unwrap();
    log.commit().await.unwrap();
    let (stored_bytes, start) = (log.state().stored_bytes, log.start());
    fill_disk(&log).await;
    append(&log, "lost").await;
    assert_eq!(log.commit().await, Err(LogFailed));

    for _ in 0..10 {
        log.expire(TOO_LATE_MS + 2, |_| false).await;
        let page = log.read(&room(), Range::Newest, ALL, TOO_LATE_MS + 2).await.unwrap();
        assert_eq!(page.entries.len(), 1, "reading drops what is too old");
        assert_eq!(log.commit().await, Ok(()));
        assert_eq!(log.state().stored_bytes, stored_bytes);
    }

    assert_eq!(log.start(), start, "nothing was given up");
}

#[tokio::test]
async fn an_epoch_that_the_store_does_not_have_is_not_given_out() {
    // The one takes nothing, the other everything but the order to have it on the disk.
    for device in ["/dev/full", "/dev/null"] {
        let directory = new_directory();
        let settings = NamespaceSettings {
            retention: Retention { count_max: COUNT_MAX, age_max: AGE_MAX },
            durability: Durability::Disk,
        };
        let namespaces = Arc::new(Namespaces::alike(settings));
        let logs = DiskRoomLog::open(directory.path(), 7, namespaces, BOUNDS, 1).await.unwrap();
        append(&logs[0], "old").await;
        logs[0].commit().await.unwrap();
        let file = File::options().append(true).open(device).unwrap();
        logs[0].shared.store.replace_journal_file(file).await;
        let start = logs[0].start();

        logs[0].expire(2 * TOO_LATE_MS, |_| false).await;

        assert!(logs[0].has_failed(), "{device}");
        assert_eq!(logs[0].start(), start, "{device}");
    }
}

#[tokio::test]
async fn rooms_are_not_given_up_for_others_where_nothing_can_be_written() {
    let directory = new_directory();
    let bounds = DiskBounds { stored_bytes_max: 1024, ..BOUNDS };
    let logs = DiskRoomLog::open(directory.path(), 7, keeping(COUNT_MAX), bounds, 1).await.unwrap();
    let log = &logs[0];
    let kept = append(log, "kept").await;
    log.commit().await.unwrap();
    fill_disk(log).await;
    let large = Publication { payload: vec![b' '; 2048].into(), ..publication("large") };
    log.append(&room(), large, 5).await.unwrap();
    assert_eq!(log.commit().await, Err(LogFailed));

    log.state().stored_bytes = 2048;
    assert_eq!(log.commit().await, Ok(()));

    assert_eq!(log.start().epoch, kept.position.epoch);
    assert_eq!(texts(log).await, ["kept"]);
}

async fn takes_more(directory: &Path) {
    let log = open_in(directory).await.unwrap();
    assert_eq!(texts(&log).await, ["kept"]);

    append(&log, "next").await;

    log.commit().await.unwrap();
}

#[tokio::test]
async fn a_disk_that_is_full_ends_publishing_until_a_restart() {
    fails_with_journal_on("/dev/full").await;
}

#[tokio::test]
async fn a_disk_that_cannot_sync_ends_publishing_until_a_restart() {
    fails_with_journal_on("/dev/null").await;
}
