//! Checks for the fuzzer what is read back from the store.

use bytes::Bytes;
use prost::Message;

use super::{
    StoredEntry, StoredRoom, decode_entry, decode_epoch, named, placed, put_epoch, room_key,
    room_of, stored_entry,
};
use crate::{
    room_key::{Realm, RoomKey},
    room_log::{
        Entry, Position,
        disk::batch::{Batch, verified},
    },
};

/// An entry is damaged, or is the same once it is stored again. The keys and the other values are damaged, or make sense.
pub(in crate::room_log::disk) fn check(data: &[u8]) {
    drop(StoredRoom::decode_from(Bytes::copy_from_slice(data)));
    drop(verified(b"key", data));
    if let Ok(room) = room_of(data) {
        assert_eq!(room_key(&room)[1..], data[1..]);
        assert!(named(room.as_str().as_bytes()).is_ok_and(|again| again == room));
    }
    if let Ok(epoch) = decode_epoch(data) {
        put_epoch(&mut Batch::default(), 0, epoch);
    }

    let before = Position::start(3);
    let realm = Realm { tenant: "acme", namespace: "/chat" };
    let Ok(room) = RoomKey::parse_room(realm, "lobby") else { return };
    drop(decode_entry(Bytes::copy_from_slice(data), before, &room));
    let Ok(stored) = StoredEntry::decode(data) else { return };
    // The tag is what a fuzzer does not hit.
    let Ok((position, publication, at_ms)) = placed(stored, before, &room) else { return };
    let entry = Entry {
        position,
        at_ms,
        publication_id: publication.id,
        event: publication.event,
        payload: publication.payload,
        except_users: publication.except_users,
    };
    let again = stored_entry(&entry, &publication.author).encode_to_vec();
    let again = decode_entry(again.into(), before, &room);
    assert!(again.is_ok_and(|(again, _, at_ms)| again == position && at_ms == entry.at_ms));
}
