//! The keys and values of the store.

pub(super) mod fuzzing;

use std::{ops::Range, sync::Arc};

use bytes::{Buf, Bytes};
use prost::Message;

use super::batch::{Batch, Damaged, keys_with};
use crate::{
    room_key::{INBOX_MARK, Realm, RoomKey, TENANT_MARK, name_prefix},
    room_log::{Author, Entry, Position, Publication, PublicationId},
    user::User,
};

/// Of the entries, by room and offset.
const ENTRY: u8 = b'e';
/// Of the rooms, by name.
const ROOM: u8 = b'r';
/// Of the rooms again, by when their last entry gets too old.
const DUE: u8 = b'd';
/// Of the epochs that the workers have come to.
const EPOCH: u8 = b'x';

/// What is kept of a room that has a log.
#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredRoom {
    /// Stands for its name in the keys of its entries.
    #[prost(uint64, tag = "1")]
    pub(super) number: u64,
    #[prost(uint64, tag = "2")]
    pub(super) epoch: u64,
    /// Of the entry before the oldest.
    #[prost(uint64, tag = "3")]
    pub(super) before_offset: u64,
    #[prost(fixed32, tag = "4")]
    pub(super) before_tag: u32,
    /// Of the newest entry.
    #[prost(uint64, tag = "5")]
    pub(super) end_offset: u64,
    #[prost(fixed32, tag = "6")]
    pub(super) end_tag: u32,
    #[prost(uint64, tag = "7")]
    pub(super) last_at_ms: u64,
    #[prost(uint64, tag = "8")]
    pub(super) bytes: u64,
    /// The time in its key among those that get too old.
    #[prost(uint64, tag = "9")]
    pub(super) due_at_ms: u64,
    /// When the last entry was appended that may have gone with an earlier log of the room.
    #[prost(uint64, optional, tag = "10")]
    pub(super) given_up_to_ms: Option<u64>,
}

/// What is known of the rooms that have no log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StoredEpoch {
    pub(super) epoch: u64,
    /// When the last entry was appended that went with its room's log.
    pub(super) given_up_to_ms: Option<u64>,
}

#[derive(Clone, PartialEq, Message)]
struct StoredEntry {
    #[prost(fixed32, tag = "1")]
    tag: u32,
    #[prost(uint64, tag = "2")]
    at_ms: u64,
    /// Of the author, if that is a user.
    #[prost(string, optional, tag = "3")]
    subject: Option<String>,
    #[prost(string, tag = "4")]
    issuer: String,
    #[prost(string, optional, tag = "5")]
    id: Option<String>,
    #[prost(string, tag = "6")]
    event: String,
    #[prost(bytes = "bytes", tag = "7")]
    payload: Bytes,
    #[prost(string, repeated, tag = "8")]
    except_users: Vec<String>,
    /// Of the client's event that brought it, where it has no id.
    #[prost(bytes = "bytes", tag = "9")]
    event_name: Bytes,
}

impl StoredRoom {
    pub(super) fn before(&self) -> Position {
        Position { epoch: self.epoch, offset: self.before_offset, tag: self.before_tag }
    }

    pub(super) fn end(&self) -> Position {
        Position { epoch: self.epoch, offset: self.end_offset, tag: self.end_tag }
    }

    pub(super) fn decode_from(value: Bytes) -> Result<Self, Damaged> {
        Self::decode(value).map_err(|_| Damaged)
    }
}

pub(super) fn put_room(batch: &mut Batch, key: &RoomKey, room: &StoredRoom) {
    batch.put(&room_key(key), &room.encode_to_vec());
}

pub(super) fn put_entry(batch: &mut Batch, number: u64, entry: &Entry, author: &Author) {
    let stored = stored_entry(entry, author);
    batch.put(&entry_key(number, entry.position.offset), &stored.encode_to_vec());
}

fn stored_entry(entry: &Entry, author: &Author) -> StoredEntry {
    let (subject, issuer) = match author {
        Author::User(user) => (Some(user.subject().to_owned()), user.issuer().to_owned()),
        Author::Service => (None, String::new()),
    };
    let (own_id, event_name) = match &entry.publication_id {
        Some(PublicationId::Own(id)) => (Some(id.as_ref().to_owned()), Bytes::new()),
        Some(PublicationId::Event(name)) => (None, Bytes::copy_from_slice(name)),
        None => (None, Bytes::new()),
    };
    StoredEntry {
        tag: entry.position.tag,
        at_ms: entry.at_ms,
        subject,
        issuer,
        id: own_id,
        event_name,
        event: entry.event.as_ref().to_owned(),
        payload: entry.payload.clone(),
        except_users: entry.except_users.iter().map(|user| user.as_ref().to_owned()).collect(),
    }
}

/// Returns the entry of a room that stands after a position, and when it was appended.
pub(super) fn decode_entry(
    value: Bytes,
    before: Position,
    room: &RoomKey,
) -> Result<(Position, Publication, u64), Damaged> {
    let stored = StoredEntry::decode(value).map_err(|_| Damaged)?;
    let tag = stored.tag;
    let (position, publication, at_ms) = placed(stored, before, room)?;
    if position.tag != tag {
        return Err(Damaged);
    }
    Ok((position, publication, at_ms))
}

/// Says where an entry stands, without comparing the tag that is stored with it.
fn placed(
    stored: StoredEntry,
    before: Position,
    room: &RoomKey,
) -> Result<(Position, Publication, u64), Damaged> {
    let author = match stored.subject {
        Some(subject) => {
            // Who writes into a room is of its tenant.
            let name = (&*subject, &*stored.issuer);
            let user = User::parse_of(room.tenant(), name, b"{}").map_err(|_| Damaged)?;
            Author::User(Arc::new(user))
        }
        None => Author::Service,
    };
    let id = match stored.id {
        Some(id) => Some(PublicationId::Own(id.into())),
        None if stored.event_name.is_empty() => None,
        None => {
            let name = stored.event_name.as_ref().try_into().map_err(|_| Damaged)?;
            Some(PublicationId::Event(name))
        }
    };
    let publication = Publication {
        author,
        id,
        repeated_since_ms: None,
        event: stored.event.into(),
        payload: stored.payload,
        except_users: stored.except_users.into_iter().map(String::into_boxed_str).collect(),
    };
    let position = before.next(&publication, stored.at_ms);
    Ok((position, publication, stored.at_ms))
}

pub(super) fn entry_key(number: u64, offset: u64) -> Vec<u8> {
    key(ENTRY, &[&number.to_be_bytes(), &offset.to_be_bytes()])
}

pub(super) fn room_key(room: &RoomKey) -> Vec<u8> {
    key(ROOM, &[room.as_str().as_bytes()])
}

/// What the keys of all rooms begin with.
pub(super) fn rooms_prefix() -> Vec<u8> {
    key(ROOM, &[])
}

/// The keys of a tenant's rooms in a namespace, without inboxes: there may be many more of them.
pub(super) fn rooms_of(realm: Realm<'_>) -> [Range<Vec<u8>>; 2] {
    let Realm { tenant, namespace } = realm;
    let with =
        |begin: &str| keys_with(&key(ROOM, &[namespace.as_bytes(), b"\0", begin.as_bytes()]));
    let prefix = name_prefix(tenant);
    let (all, inboxes) = (with(&prefix), with(&format!("{prefix}{INBOX_MARK}")));
    // Within the default tenant's are those of all others.
    let begin =
        if tenant.is_empty() { with(TENANT_MARK.encode_utf8(&mut [0; 4])).end } else { all.start };
    [begin..inboxes.start, inboxes.end..all.end]
}

/// The room that a key of a room names.
pub(super) fn room_of(key: &[u8]) -> Result<RoomKey, Damaged> {
    named(key.get(1..).ok_or(Damaged)?)
}

pub(super) fn due_key(due_at_ms: u64, number: u64) -> Vec<u8> {
    key(DUE, &[&due_at_ms.to_be_bytes(), &number.to_be_bytes()])
}

/// What the keys of rooms by their time begin with.
pub(super) fn due_prefix() -> Vec<u8> {
    key(DUE, &[])
}

/// The room that a text names.
pub(super) fn named(text: &[u8]) -> Result<RoomKey, Damaged> {
    let text = str::from_utf8(text).map_err(|_| Damaged)?;
    let (namespace, name) = text.split_once('\0').ok_or(Damaged)?;
    RoomKey::parse(namespace, name).map_err(|_| Damaged)
}

fn epoch_key(worker: usize) -> Vec<u8> {
    key(EPOCH, &[&(worker as u64).to_be_bytes()])
}

/// What the keys of epochs begin with.
pub(super) fn epochs_prefix() -> Vec<u8> {
    key(EPOCH, &[])
}

pub(super) fn put_epoch(batch: &mut Batch, worker: usize, stored: StoredEpoch) {
    let mut value = stored.epoch.to_be_bytes().to_vec();
    value.extend(stored.given_up_to_ms.iter().flat_map(|at_ms| at_ms.to_be_bytes()));
    batch.put(&epoch_key(worker), &value);
}

pub(super) fn decode_epoch(value: &[u8]) -> Result<StoredEpoch, Damaged> {
    let mut value = value;
    let epoch = value.try_get_u64().map_err(|_| Damaged)?;
    let given_up_to_ms = match value {
        [] => None,
        mut rest => Some(rest.try_get_u64().map_err(|_| Damaged)?),
    };
    Ok(StoredEpoch { epoch, given_up_to_ms })
}

fn key(kind: u8, parts: &[&[u8]]) -> Vec<u8> {
    let mut key = vec![kind];
    for part in parts {
        key.extend_from_slice(part);
    }
    key
}
