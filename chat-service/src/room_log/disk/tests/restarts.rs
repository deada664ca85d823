//! What holds from one life of the process to the next.

use std::fs;

use crate::{
    room_key::Realm,
    room_log::{
        Appended, Author, Entry, PublicationId,
        contract::{TOO_LATE_MS, publication, room},
        disk::tests::*,
    },
};

const ALL: Limit = Limit { count: 1000, bytes: usize::MAX };

pub(super) async fn append(log: &DiskRoomLog, text: &str) -> Arc<Entry> {
    match log.append(&room(), publication(text), 5).await.unwrap() {
        Appended::New(entry) => entry,
        other @ (Appended::Repeated(_) | Appended::Unknown) => panic!("{other:?}"),
    }
}

async fn with_id(log: &DiskRoomLog, id: PublicationId) -> Appended {
    let user = crate::user::User::parse("ann", "test", br#"{"id":"ann"}"#).unwrap();
    let said = publication("said");
    let said = Publication { author: Author::User(Arc::new(user)), id: Some(id), ..said };
    log.append(&room(), said, 5).await.unwrap()
}

pub(super) async fn texts(log: &DiskRoomLog) -> Vec<String> {
    let page = log.read(&room(), Range::Newest, ALL, 5).await.unwrap();
    let payloads = page.entries.iter().map(|entry| String::from_utf8(entry.payload.to_vec()));
    payloads
        .map(|payload| payload.unwrap().replace(r#"{"text":""#, "").replace(r#""}"#, ""))
        .collect()
}

/// Copies a directory as it is, as a process that is killed would leave it.
pub(super) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        let target = to.join(file.file_name());
        if file.file_type().unwrap().is_dir() {
            copy(&file.path(), &target);
        } else {
            fs::copy(file.path(), target).unwrap();
        }
    }
}

#[tokio::test]
async fn what_was_committed_is_there_after_the_process_was_killed() {
    let directory = new_directory();
    let log = open_in(directory.path()).await.unwrap();
    let first = append(&log, "first").await;
    log.commit().await.unwrap();
    append(&log, "not committed").await;

    let killed = new_directory();
    copy(directory.path(), killed.path());
    let log = open_in(killed.path()).await.unwrap();

    assert_eq!(texts(&log).await, ["first"]);
    assert_eq!(log.end(&room()).await.unwrap(), first.position);
}

#[tokio::test]
async fn a_retry_after_a_restart_gets_the_first_answer() {
    let directory = new_directory();
    let log = open_in(directory.path()).await.unwrap();
    let own = |id: &str| PublicationId::Own(id.into());
    let event = |name: u8| PublicationId::Event([name; 16]);
    let Appended::New(first) = with_id(&log, own("one")).await else { panic!("repeated") };
    let Appended::New(second) = with_id(&log, event(b'1')).await else { panic!("repeated") };
    log.commit().await.unwrap();
    drop(log);

    let log = open_in(directory.path()).await.unwrap();

    assert_eq!(with_id(&log, own("one")).await, Appended::Repeated(first));
    assert_eq!(with_id(&log, event(b'1')).await, Appended::Repeated(second));
    for other in [own("two"), own(&"1".repeat(16)), event(b'2')] {
        assert!(matches!(with_id(&log, other).await, Appended::New(_)));
    }
}

#[tokio::test]
async fn a_store_that_was_set_back_answers_a_gap_to_positions_of_before() {
    let directory = new_directory();
    let log = open_in(directory.path()).await.unwrap();
    let common = append(&log, "common").await;
    log.commit().await.unwrap();
    let backup = new_directory();
    copy(directory.path(), backup.path());
    let lost = append(&log, "lost").await;
    log.commit().await.unwrap();

    let log = open_in(backup.path()).await.unwrap();
    assert_eq!(log.read(&room(), Range::After(lost.position), ALL, 5).await, Err(ReadError::Gap));
    let other = append(&log, "other").await;
    append(&log, "another").await;

    assert_eq!(other.position.offset, lost.position.offset);
    assert_eq!(log.read(&room(), Range::After(lost.position), ALL, 5).await, Err(ReadError::Gap));
    let page = log.read(&room(), Range::After(common.position), ALL, 5).await.unwrap();
    assert_eq!(page.entries.len(), 2);
}

#[tokio::test]
async fn a_store_that_was_wiped_answers_a_gap_to_positions_of_before() {
    let directory = new_directory();
    let log = open_in(directory.path()).await.unwrap();
    let entry = append(&log, "said").await;
    log.commit().await.unwrap();

    let empty = new_directory();
    let logs = DiskRoomLog::open(empty.path(), 8, keeping(COUNT_MAX), BOUNDS, 1).await.unwrap();
    append(&logs[0], "something else").await;

    assert_eq!(
        logs[0].read(&room(), Range::After(entry.position), ALL, 5).await,
        Err(ReadError::Gap)
    );
}

#[tokio::test]
async fn another_number_of_workers_finds_every_room_once() {
    let directory = new_directory();
    let rooms: Vec<RoomKey> =
        (0..20).map(|n| RoomKey::parse("/chat", &format!("room-{n}")).unwrap()).collect();
    for workers in [3, 1, 4] {
        let opened = DiskRoomLog::open(directory.path(), 7, keeping(COUNT_MAX), BOUNDS, workers);
        let logs = opened.await.unwrap();
        for room in &rooms {
            let log = &logs[worker_of(room, workers)];
            log.append(room, publication("x"), 5).await.unwrap();
        }
        let mut found = Vec::new();
        for log in &logs {
            log.commit().await.unwrap();
            // Nothing is too old, and the rooms of others are not this one's to give up.
            log.expire(6, |_| false).await;
            found.extend(
                log.rooms(Realm::of_default("/chat"))
                    .await
                    .unwrap()
                    .into_iter()
                    .map(|(room, _)| room),
            );
        }
        found.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        let mut expected = rooms.clone();
        expected.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        assert_eq!(found, expected);
    }
}

#[tokio::test]
async fn the_rooms_that_get_too_old_first_are_given_up_when_the_store_has_too_many_bytes() {
    let directory = new_directory();
    let bounds = DiskBounds { stored_bytes_max: 16 * 1024, ..BOUNDS };
    let logs = DiskRoomLog::open(directory.path(), 7, keeping(COUNT_MAX), bounds, 1).await.unwrap();
    let rooms: Vec<RoomKey> =
        (0..9).map(|n| RoomKey::parse("/chat", &format!("room-{n}")).unwrap()).collect();

    for (room, at_ms) in rooms.iter().zip((0..).step_by(100_000)) {
        let large = Publication { payload: vec![b' '; 2048].into(), ..publication("large") };
        logs[0].append(room, large, at_ms).await.unwrap();
        logs[0].commit().await.unwrap();
    }

    let mut left: Vec<RoomKey> = logs[0]
        .rooms(Realm::of_default("/chat"))
        .await
        .unwrap()
        .into_iter()
        .map(|(room, _)| room)
        .collect();
    left.sort_by(|a, b| a.as_str().cmp(b.as_str()));
    assert_eq!(left, rooms[4..]);
    drop(logs);
    let log = open_in(directory.path()).await.unwrap();
    assert_eq!(log.rooms(Realm::of_default("/chat")).await.unwrap().len(), left.len());
    assert_eq!(log.read(&rooms[0], Range::Newest, ALL, 0).await.unwrap().entries.len(), 0);
}

#[tokio::test]
async fn a_room_that_was_given_up_leaves_nothing_behind() {
    let directory = new_directory();
    let log = open_in(directory.path()).await.unwrap();
    append(&log, "old").await;
    log.commit().await.unwrap();
    log.expire(5 + TOO_LATE_MS, |_| false).await;
    drop(log);

    let store = Store::open(directory.path(), Threads::Own).unwrap();
    let keys: Vec<u8> = store
        .scan(Vec::new()..vec![u8::MAX])
        .map(|item| item.unwrap().0.first().copied().unwrap())
        .collect();

    // The epochs, and the number of the journal.
    assert_eq!(keys, *b"jxx");
}

#[tokio::test]
async fn what_many_changes_leave_in_the_files_is_what_there_is() {
    let directory = new_directory();
    let mut expected = Vec::new();
    for life in 0..5 {
        let log = open_in(directory.path()).await.unwrap();
        assert_eq!(texts(&log).await, expected);
        for number in 0..7 {
            let text = format!("{life}-{number}");
            append(&log, &text).await;
            log.commit().await.unwrap();
            expected.push(text);
        }
        expected.drain(..expected.len().saturating_sub(COUNT_MAX.get()));
    }
}
