//! How much of a store is held in memory.

use super::*;
use crate::room_log::contract::publication;

const HELD_BYTES_MAX: usize = 64 * 1024;
const ALL: Limit = Limit { count: 1000, bytes: usize::MAX };

/// So large that many of them are too much, and that they are more than the bound together.
const COUNT: usize = 40;
const PAYLOAD_BYTES: usize = 4 * 1024;

fn rooms() -> Vec<RoomKey> {
    (0..COUNT).map(|n| RoomKey::parse("/chat", &format!("room-{n}")).unwrap()).collect()
}

fn large() -> Publication {
    Publication { payload: vec![b' '; PAYLOAD_BYTES].into(), ..publication("large") }
}

async fn open_bounded(directory: &Path) -> DiskRoomLog {
    let bounds = DiskBounds { held_bytes_max: HELD_BYTES_MAX, ..BOUNDS };
    let logs = DiskRoomLog::open(directory, 7, keeping(COUNT_MAX), bounds, 1).await.unwrap();
    logs.into_iter().next().unwrap()
}

/// Opens a store of many rooms, none of them held.
async fn filled() -> (TempDir, DiskRoomLog) {
    let directory = new_directory();
    let log = open_bounded(directory.path()).await;
    for room in rooms() {
        log.append(&room, large(), 0).await.unwrap();
    }
    log.commit().await.unwrap();
    drop(log);
    let log = open_bounded(directory.path()).await;
    assert_eq!(log.state().held_count(), 0);
    (directory, log)
}

async fn read(log: &DiskRoomLog, room: &RoomKey) -> usize {
    log.read(room, Range::Newest, ALL, 0).await.unwrap().entries.len()
}

#[tokio::test]
async fn reading_many_rooms_holds_no_more_than_the_bound() {
    let (_directory, log) = filled().await;

    for room in rooms() {
        assert_eq!(read(&log, &room).await, 1);
        assert!(log.state().held_bytes() <= HELD_BYTES_MAX);
    }

    assert!(log.state().held_bytes() > HELD_BYTES_MAX / 2);
    let held = log.state().held_count();
    for room in &rooms()[COUNT - held..] {
        assert!(log.state().holds(room), "those that were used last are held");
    }
}

#[tokio::test]
async fn a_room_that_is_larger_than_the_bound_is_held_while_it_is_used() {
    let (_directory, log) = filled().await;
    let room = &rooms()[0];
    for _ in 0..COUNT_MAX.get() {
        let payload = vec![b' '; HELD_BYTES_MAX].into();
        log.append(room, Publication { payload, ..publication("x") }, 0).await.unwrap();
    }
    log.commit().await.unwrap();
    log.state().forget_all();

    assert_eq!(read(&log, room).await, COUNT_MAX.get());
    assert_eq!(read(&log, &rooms()[1]).await, 1);

    assert_eq!(log.state().held_count(), 1);
}

#[tokio::test]
async fn a_room_that_waits_to_be_committed_is_not_released() {
    let (_directory, log) = filled().await;
    let room = &rooms()[0];
    log.append(room, large(), 0).await.unwrap();

    for other in &rooms()[1..] {
        read(&log, other).await;
    }

    assert!(log.state().holds(room));
    log.commit().await.unwrap();
    log.state().forget_all();
    assert_eq!(read(&log, room).await, 2);
}

#[tokio::test]
async fn a_search_for_what_is_too_old_is_no_use() {
    let (_directory, log) = filled().await;
    let rooms = rooms();
    for room in &rooms {
        read(&log, room).await;
    }
    let held: Vec<&RoomKey> = rooms.iter().filter(|room| log.state().holds(room)).collect();

    log.expire(0, |_| true).await;
    read(&log, &rooms[0]).await;
    read(&log, &rooms[1]).await;

    assert!(!log.state().holds(held[0]), "the one that was read first goes first");
    assert!(log.state().holds(held[held.len() - 1]));
}

#[tokio::test]
async fn what_is_held_is_bounded_after_a_failure() {
    let (_directory, log) = filled().await;
    let device = std::fs::File::options().append(true).open("/dev/full").unwrap();
    log.shared.store.replace_journal_file(device).await;
    for room in rooms() {
        log.append(&room, large(), 0).await.unwrap();
    }

    assert_eq!(log.commit().await, Err(LogFailed));

    assert_eq!(log.state().held_count(), 0);
    assert_eq!(log.state().held_bytes(), 0);
    for room in rooms() {
        assert_eq!(read(&log, &room).await, 1);
        assert!(log.state().held_bytes() <= HELD_BYTES_MAX);
    }
}
