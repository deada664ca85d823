//! What is kept beside the logs of how far they have reached their followers.

use crate::{
    namespaces::{NamespaceSettings, Namespaces},
    room_log::{
        contract::room,
        disk::{
            standings::{KeptFollowing, KeptRoom, KeptStanding, KeptStretch, Standings},
            tests::{
                faults::journal_in,
                restarts::{append, copy, texts},
                *,
            },
        },
    },
    user::User,
};

fn user(subject: &str) -> User {
    User::parse(subject, "test", b"{}").unwrap()
}

fn at(user: &User, end_offset: u64) -> KeptStanding {
    KeptStanding {
        subject: user.subject().to_owned(),
        issuer: user.issuer().to_owned(),
        epoch: u64::MAX,
        known_since: 2,
        earlier: Some(KeptStretch { after_offset: 2, end_offset: 3, ..Default::default() }),
        stretch: Some(KeptStretch { after_offset: 5, after_tag: 9, end_offset, end_tag: 8 }),
        delivered_at_ms: 1000,
        away_since_ms: Some(0),
    }
}

fn following(count: u64, due_at_ms: u64) -> Option<KeptFollowing> {
    Some(KeptFollowing { count, due_at_ms, ..KeptFollowing::default() })
}

/// Keeps Ann at 8 and Bob at 6, and commits it.
async fn keep_ann_and_bob(standings: &Standings, log: &DiskRoomLog) -> KeptRoom {
    let kept = [("ann", 8), ("bob", 6)].map(|(subject, end)| at(&user(subject), end));
    for standing in &kept {
        standings.keep(&room(), &user(&standing.subject), Some(standing));
    }
    standings.keep_following(&room(), (None, following(2, 50)));
    log.commit().await.unwrap();
    KeptRoom { following: following(2, 50), standings: kept.into(), is_damaged: false }
}

async fn due(log: &DiskRoomLog, now_ms: u64) -> Vec<RoomKey> {
    log.standings.due(None, now_ms).await.rooms
}

fn all_keys(store: &Store) -> Vec<Vec<u8>> {
    let items = store.scan(Vec::new()..vec![u8::MAX]);
    items.map(|item| item.unwrap().0.to_vec()).collect()
}

#[tokio::test]
async fn what_was_committed_is_read_after_the_process_was_killed() {
    let directory = new_directory();
    let log = open_in(directory.path()).await.unwrap();
    assert_eq!(log.standings.read(&room()).await, Ok(None));
    let kept = keep_ann_and_bob(&log.standings, &log).await;
    assert_eq!(log.standings.read(&room()).await, Ok(Some(kept)));
    log.standings.keep(&room(), &user("ann"), Some(&at(&user("ann"), 9)));

    let killed = new_directory();
    copy(directory.path(), killed.path());
    let log = open_in(killed.path()).await.unwrap();

    let ends = log.standings.read(&room()).await.unwrap().unwrap().standings;
    let ends = ends.iter().map(|one| one.stretch.unwrap().end_offset);
    assert_eq!(ends.collect::<Vec<_>>(), [8, 6], "what was not committed is behind the truth");
    assert_eq!(log.standings.count(), 2);
}

#[tokio::test]
async fn a_batch_says_of_each_user_the_last_and_waits_for_no_disk() {
    let directory = new_directory();
    let log = open_in(directory.path()).await.unwrap();
    keep_ann_and_bob(&log.standings, &log).await;
    let ann = user("ann");
    log.standings.keep(&room(), &ann, Some(&at(&ann, 9)));
    let once = log.take_changes().batch;
    for end in 9..1000 {
        log.standings.keep(&room(), &ann, Some(&at(&ann, end)));
    }
    let often = log.take_changes().batch;

    assert!(!once.fsync && !often.fsync);
    assert!(often.bytes().len() < 2 * once.bytes().len(), "{}", often.bytes().len());
    assert!(once.bytes().len() < 150, "a standing takes {} bytes", once.bytes().len());
    assert!(log.take_changes().batch.is_empty());
}

#[tokio::test]
async fn what_nobody_else_could_tell_is_held_as_fast_as_the_room_is() {
    for (durability, fsync) in [(Durability::DiskFsync, true), (Durability::Disk, false)] {
        let directory = new_directory();
        let retention = keeping(COUNT_MAX).get("/chat").retention;
        let settings = NamespaceSettings { retention, durability };
        let namespaces = Arc::new(Namespaces::alike(settings));
        let logs = DiskRoomLog::open(directory.path(), 7, namespaces, BOUNDS, 1).await.unwrap();
        logs[0].standings.keep(&room(), &user("ann"), None);
        logs[0].standings.hold_fast(&room());

        assert_eq!(logs[0].take_changes().batch.fsync, fsync, "{durability:?}");
    }
}

#[tokio::test]
async fn a_standing_that_is_damaged_is_not_served_and_that_is_not_hidden() {
    let directory = new_directory();
    let log = open_in(directory.path()).await.unwrap();
    let KeptRoom { standings, .. } = keep_ann_and_bob(&log.standings, &log).await;
    let mut batch = Batch::default();
    let ann_key = all_keys(&log.shared.store).into_iter().find(|key| key.ends_with(b"anntest"));
    batch.put(&ann_key.unwrap(), b"\xff");
    log.shared.store.commit(batch).await.unwrap();

    let read = log.standings.read(&room()).await.unwrap().unwrap();

    assert_eq!((&read.standings[..], read.is_damaged), (&standings[1..], true));
}

#[tokio::test]
async fn rooms_are_found_when_they_are_due_and_leave_nothing_when_nobody_follows() {
    let directory = new_directory();
    let log = open_in(directory.path()).await.unwrap();
    keep_ann_and_bob(&log.standings, &log).await;
    assert_eq!(due(&log, 49).await, []);
    assert_eq!(due(&log, 50).await, [room()]);
    log.standings.keep_following(&room(), (following(2, 50), following(2, 70)));
    log.commit().await.unwrap();
    assert_eq!(due(&log, 69).await, []);
    assert_eq!(due(&log, u64::MAX).await, [room()]);

    for subject in ["ann", "bob"] {
        log.standings.keep(&room(), &user(subject), None);
    }
    log.standings.keep_following(&room(), (following(2, 70), None));
    log.commit().await.unwrap();

    assert_eq!(due(&log, u64::MAX).await, []);
    assert_eq!(log.standings.read(&room()).await, Ok(None));
    let kinds = all_keys(&log.shared.store).into_iter().filter_map(|key| key.first().copied());
    assert_eq!(kinds.collect::<Vec<_>>(), *b"jx", "the epoch, and the number of the journal");
}

#[tokio::test]
async fn a_time_that_another_stands_for_is_forgotten() {
    let directory = new_directory();
    let log = open_in(directory.path()).await.unwrap();
    keep_ann_and_bob(&log.standings, &log).await;
    // As where what was kept could not be read, and was kept anew.
    log.standings.keep_following(&room(), (None, following(2, 70)));
    log.commit().await.unwrap();
    let before = all_keys(&log.shared.store).len();

    assert_eq!(due(&log, 60).await, []);
    log.commit().await.unwrap();

    assert_eq!(all_keys(&log.shared.store).len(), before - 1);
    assert_eq!(due(&log, 70).await, [room()]);
}

#[tokio::test]
async fn a_room_of_which_too_little_can_be_read_is_looked_at_and_kept_anew() {
    let directory = new_directory();
    let log = open_in(directory.path()).await.unwrap();
    keep_ann_and_bob(&log.standings, &log).await;
    let mut batch = Batch::default();
    let key = all_keys(&log.shared.store).into_iter().find(|key| key.starts_with(b"f"));
    batch.put(&key.unwrap(), b"\xff");
    log.shared.store.commit(batch).await.unwrap();

    for _ in 0..2 {
        assert_eq!(due(&log, 50).await, [room()]);
        log.commit().await.unwrap();
    }
    log.standings.keep_following(&room(), (None, following(2, 70)));
    log.commit().await.unwrap();
    assert_eq!(due(&log, 60).await, []);
    assert_eq!(due(&log, 70).await, [room()]);
}

#[tokio::test]
async fn each_worker_counts_and_finds_its_own() {
    let directory = new_directory();
    let rooms: Vec<RoomKey> =
        (0..20).map(|n| RoomKey::parse("/chat", &format!("room-{n}")).unwrap()).collect();
    let log = open_in(directory.path()).await.unwrap();
    for room in &rooms {
        log.standings.keep(room, &user("ann"), Some(&at(&user("ann"), 9)));
        log.standings.keep_following(room, (None, following(1, 5)));
    }
    log.commit().await.unwrap();
    drop(log);

    let logs = DiskRoomLog::open(directory.path(), 7, keeping(COUNT_MAX), BOUNDS, 3).await.unwrap();

    for (worker, log) in logs.iter().enumerate() {
        let due = due(log, 5).await;
        assert!(due.iter().all(|room| worker_of(room, 3) == worker));
        assert_eq!(log.standings.count(), due.len());
    }
    assert_eq!(logs.iter().map(|log| log.standings.count()).sum::<usize>(), 20);
}

#[tokio::test]
async fn users_with_long_names_are_kept_apart() {
    let directory = new_directory();
    let log = open_in(directory.path()).await.unwrap();
    let long = "x".repeat(100_000);
    let users = ["a", "ab"].map(|end| user(&format!("{long}{end}")));
    for user in &users {
        log.standings.keep(&room(), user, Some(&at(user, 9)));
    }
    log.standings.keep_following(&room(), (None, following(2, 5)));
    log.commit().await.unwrap();

    let read = log.standings.read(&room()).await.unwrap().unwrap().standings;
    let mut subjects: Vec<_> = read.iter().map(|one| one.subject.as_str()).collect();
    subjects.sort_unstable();
    assert_eq!(subjects, users.each_ref().map(User::subject));
}

#[tokio::test]
async fn who_came_before_an_entry_is_there_wherever_the_entry_is() {
    let directory = new_directory();
    let log = open_in(directory.path()).await.unwrap();
    log.standings.keep(&room(), &user("ann"), Some(&at(&user("ann"), 0)));
    log.standings.keep_following(&room(), (None, following(1, 5)));
    log.commit().await.unwrap();
    append(&log, "said").await;
    log.commit().await.unwrap();
    let journal = journal_in(directory.path());
    let bytes = std::fs::read(&journal).unwrap();
    let (mut with_ann, mut with_entry) = (0, 0);

    for length in 0..=bytes.len() {
        std::fs::write(&journal, &bytes[..length]).unwrap();
        let cut = new_directory();
        copy(directory.path(), cut.path());
        let log = open_in(cut.path()).await.unwrap();
        let has_entry = !texts(&log).await.is_empty();
        let has_ann = log.standings.read(&room()).await.unwrap().is_some();
        assert!(has_ann || !has_entry, "cut at byte {length}");
        with_entry += usize::from(has_entry);
        with_ann += usize::from(has_ann);
    }
    assert!(with_entry > 0 && with_ann > with_entry && with_ann < bytes.len());
}
