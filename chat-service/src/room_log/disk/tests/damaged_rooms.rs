//! What is made of rooms that are damaged while the store is in use, or whose damage no start has looked for.

use std::fs;

use super::{faults::files_under, restarts::append};
use crate::{
    room_key::Realm,
    room_log::{
        contract::{TOO_LATE_MS, publication, room},
        disk::tests::*,
    },
};

const ALL: Limit = Limit { count: 1000, bytes: usize::MAX };

/// More than a block of the tree, so that no two entries share one.
const ENTRY_BYTES: usize = 64 * 1024;

fn other() -> RoomKey {
    RoomKey::parse("/chat", "other").unwrap()
}

/// An entry of a byte again and again.
fn large(byte: u8) -> Publication {
    let payload = format!(r#"{{"text":"{}"}}"#, char::from(byte).to_string().repeat(ENTRY_BYTES));
    Publication { payload: payload.into(), ..publication("") }
}

async fn append_large(log: &DiskRoomLog, room: &RoomKey, byte: u8) -> Position {
    match log.append(room, large(byte), 5).await.unwrap() {
        Appended::New(entry) => entry.position,
        other @ (Appended::Repeated(_) | Appended::Unknown) => panic!("{other:?}"),
    }
}

/// Flips a bit in the middle of what the files of the tree say of an entry of this byte.
fn flip(directory: &Path, byte: u8) {
    let run = vec![byte; ENTRY_BYTES];
    for file in files_under(directory) {
        let mut bytes = fs::read(&file).unwrap();
        if let Some(at) = bytes.windows(run.len()).position(|window| window == run) {
            bytes[at + ENTRY_BYTES / 2] ^= 1;
            return fs::write(&file, &bytes).unwrap();
        }
    }
    panic!("no file has it");
}

/// Nothing is said of its entries, and nothing is added.
async fn is_closed(log: &DiskRoomLog, room: &RoomKey, position: Position) {
    for range in [Range::Newest, Range::After(position), Range::Before(position)] {
        assert_eq!(log.read(room, range, ALL, 5).await, Err(Unreadable.into()));
    }
    let appended = log.append(room, publication("x"), 5).await;
    assert_eq!(appended, Err(Unreadable.into()));
    assert_eq!(log.commit().await, Ok(()));
}

async fn goes_on(log: &DiskRoomLog, room: &RoomKey, end: Position) {
    assert_eq!(log.end(room).await, Ok(end));
    assert!(!log.read(room, Range::Newest, ALL, 5).await.unwrap().entries.is_empty());
    let next = append_large(log, room, b'n').await;
    assert_eq!((next.epoch, next.offset, log.commit().await), (end.epoch, end.offset + 1, Ok(())));
}

#[tokio::test]
async fn a_flipped_bit_of_an_entry_closes_its_room_and_no_other() {
    let directory = new_directory();
    let log = open_in(directory.path()).await.unwrap();
    let first = append_large(&log, &room(), b'a').await;
    let end = append_large(&log, &room(), b'b').await;
    let end_of_other = append_large(&log, &other(), b'c').await;
    log.commit().await.unwrap();
    drop(log);
    flip(directory.path(), b'a');

    let log = open_in(directory.path()).await.unwrap();

    is_closed(&log, &room(), first).await;
    goes_on(&log, &other(), end_of_other).await;
    // That is said in another place, which is as it was.
    assert_eq!(log.end(&room()).await, Ok(end));
    assert_eq!(log.rooms(Realm::of_default("/chat")).await.unwrap().len(), 2);
    drop(log);
    let log = open_in(directory.path()).await.unwrap();
    is_closed(&log, &room(), first).await;
}

#[tokio::test]
async fn a_room_that_cannot_be_found_is_not_taken_for_one_that_nothing_was_said_in() {
    let directory = new_directory();
    let log = open_in(directory.path()).await.unwrap();
    let position = append(&log, "said").await.position;
    let end_of_other = append_large(&log, &other(), b'c').await;
    log.commit().await.unwrap();
    log.state().forget_all();
    let mut damage = Batch::default();
    damage.put(&record::room_key(&room()), b"\xff");
    log.shared.store.commit(damage).await.unwrap();

    is_closed(&log, &room(), position).await;
    assert_eq!(log.end(&room()).await, Err(Unreadable));
    assert_eq!(log.rooms(Realm::of_default("/chat")).await, Err(Unreadable));
    assert_eq!(log.rooms(Realm::of_default("/other")).await, Ok(Vec::new()));
    goes_on(&log, &other(), end_of_other).await;
}

#[tokio::test]
async fn a_damaged_inbox_does_not_keep_the_rooms_from_being_listed() {
    let directory = new_directory();
    let log = open_in(directory.path()).await.unwrap();
    for name in ["?", "@ann", "A"] {
        let room = RoomKey::parse("/chat", name).unwrap();
        log.append(&room, publication("x"), 5).await.unwrap();
    }
    log.commit().await.unwrap();
    log.state().forget_all();
    let inbox = RoomKey::inbox(Realm::of_default("/chat"), "ann").unwrap();
    let mut damage = Batch::default();
    damage.put(&record::room_key(&inbox), b"\xff");
    log.shared.store.commit(damage).await.unwrap();

    let rooms = log.rooms(Realm::of_default("/chat")).await.unwrap();

    assert_eq!(log.end(&inbox).await, Err(Unreadable));
    let mut names: Vec<_> = rooms.iter().map(|(room, _)| room.name_for_clients()).collect();
    names.sort_unstable();
    assert_eq!(names, ["?", "A"]);
}

#[tokio::test]
async fn a_damaged_room_does_not_keep_others_from_being_given_up() {
    let directory = new_directory();
    let log = open_in(directory.path()).await.unwrap();
    let rooms: Vec<RoomKey> =
        (0..9).map(|n| RoomKey::parse("/chat", &format!("room-{n}")).unwrap()).collect();
    for (room, at_ms) in rooms.iter().zip(0..) {
        log.append(room, publication("x"), at_ms).await.unwrap();
    }
    log.commit().await.unwrap();
    log.state().forget_all();
    let start = log.start();
    let mut damage = Batch::default();
    damage.put(&record::room_key(&rooms[0]), b"\xff");
    damage.put(&record::due_key(0, u64::MAX), b"no room");
    log.shared.store.commit(damage).await.unwrap();

    log.expire(2 * TOO_LATE_MS, |_| false).await;

    assert_eq!(log.end(&rooms[0]).await, Err(Unreadable));
    assert_ne!(log.start(), start);
    for room in &rooms[1..] {
        assert_eq!(log.end(room).await, Ok(log.start()));
        assert_eq!(log.read(room, Range::Newest, ALL, 0).await.unwrap().entries.len(), 0);
    }
}
