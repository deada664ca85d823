//! Reads rooms back from the store. Blocks.

use super::{
    Share,
    batch::{Damaged, keys_with},
    exclusions::{self, KeptExclusion},
    record::{self, StoredRoom},
    rooms::HeldRoom,
    standings::{self, KeptFollowing},
    store::{ReadStoreError, Store},
};
use crate::{
    room_key::{Realm, RoomKey},
    room_log::{Position, history::History},
    workers::worker_of,
};

/// How many rooms are looked at together when old ones are searched for.
pub(super) const DUE_PAGE: usize = 256;

/// What a store holds, in sum.
#[derive(Debug, Default)]
pub(super) struct Census {
    /// The highest there is.
    pub(super) epoch: Option<u64>,
    /// The latest there is.
    pub(super) given_up_to_ms: Option<u64>,
    /// The highest there is.
    pub(super) number: u64,
    /// Of the rooms of each worker.
    pub(super) bytes: Vec<u64>,
    /// How many there are of the rooms of each worker.
    pub(super) standings: Vec<usize>,
    /// Who is kept out of the rooms of each worker.
    pub(super) exclusions: Vec<Vec<KeptExclusion>>,
    /// Who was missing in rooms of which nothing is kept.
    pub(super) unlisted: Option<KeptFollowing>,
}

/// Rooms whose last entry may be too old.
#[derive(Debug, Default)]
pub(super) struct DuePage {
    pub(super) rooms: Vec<(RoomKey, StoredRoom)>,
    /// Where the next page begins, if there is one.
    pub(super) next: Option<Vec<u8>>,
}

/// Looks at every room, and so finds out whether any is damaged.
pub(super) fn census(store: &Store, workers: usize) -> Result<Census, ReadStoreError> {
    let mut census = Census {
        bytes: vec![0; workers],
        standings: vec![0; workers],
        exclusions: vec![Vec::new(); workers],
        ..Census::default()
    };
    for item in store.scan(keys_with(&record::epochs_prefix())) {
        let stored = record::decode_epoch(&item?.1)?;
        census.epoch = census.epoch.max(Some(stored.epoch));
        census.given_up_to_ms = census.given_up_to_ms.max(stored.given_up_to_ms);
    }
    for item in store.scan(keys_with(&record::rooms_prefix())) {
        let (key, value) = item?;
        let (room, stored) = (record::room_of(&key)?, StoredRoom::decode_from(value)?);
        census.epoch = census.epoch.max(Some(stored.epoch));
        census.number = census.number.max(stored.number);
        census.bytes[worker_of(&room, workers)] += stored.bytes;
    }
    for item in standings::counts(store) {
        let (room, count) = item?;
        let count = usize::try_from(count).unwrap_or(usize::MAX).max(1);
        census.standings[worker_of(&room, workers)] += count;
    }
    for item in exclusions::all(store) {
        let one = item?;
        census.exclusions[worker_of(&one.0, workers)].push(one);
    }
    census.unlisted = standings::unlisted(store)?;
    Ok(census)
}

/// Reads a room with all its entries, if it has a log. What is missing from it, or is not what was said, is damage.
pub(super) fn room(store: &Store, room: &RoomKey) -> Result<Option<HeldRoom>, ReadStoreError> {
    let Some(stored) = stored_room(store, room)? else { return Ok(None) };
    let mut history = History::new(stored.before(), stored.last_at_ms, stored.given_up_to_ms);
    let first = record::entry_key(stored.number, stored.before_offset + 1);
    let end = record::entry_key(stored.number, stored.end_offset + 1);
    for item in store.scan(first..end) {
        let (key, value) = item?;
        let (position, publication, at_ms) = record::decode_entry(value, history.end(), room)?;
        if *key != *record::entry_key(stored.number, position.offset) {
            return Err(Damaged.into());
        }
        history.push(position, publication, at_ms);
    }
    if history.end() != stored.end() {
        return Err(Damaged.into());
    }
    Ok(Some(HeldRoom::stored(stored, history)))
}

/// Where a room's log ends, if it has one.
pub(super) fn end(store: &Store, key: &RoomKey) -> Result<Option<Position>, ReadStoreError> {
    Ok(stored_room(store, key)?.map(|stored| stored.end()))
}

/// The rooms of a tenant in a namespace, as far as they fall to a worker, without inboxes.
pub(super) fn rooms(
    store: &Store,
    realm: Realm<'_>,
    share: Share,
) -> Result<Vec<(RoomKey, Position)>, ReadStoreError> {
    let items = record::rooms_of(realm).into_iter().flat_map(|keys| store.scan(keys));
    let found = items.map(|item| {
        let (key, value) = item?;
        let room = record::room_of(&key)?;
        if !share.has(&room) {
            return Ok(None);
        }
        let end = StoredRoom::decode_from(value)?.end();
        Ok(Some((room, end)))
    });
    found.filter_map(Result::transpose).collect()
}

/// A worker's rooms whose last entry gets too old before a time, as far as is known, in that order. What is damaged is
/// passed over, so that it does not stand in the way of what comes behind it.
pub(super) fn due(
    store: &Store,
    share: Share,
    from: Option<Vec<u8>>,
    before_ms: u64,
) -> Result<DuePage, ReadStoreError> {
    let mut page = DuePage::default();
    let from = from.unwrap_or_else(record::due_prefix);
    for item in store.scan(from..record::due_key(before_ms, 0)) {
        let Some((key, value)) = undamaged(store, item.map(Some))? else { continue };
        if page.rooms.len() == DUE_PAGE {
            page.next = Some(key.to_vec());
            break;
        }
        page.rooms.extend(undamaged(store, due_room(store, share, &value))?);
    }
    Ok(page)
}

/// The room that a text names, if it falls to a worker.
fn due_room(
    store: &Store,
    share: Share,
    name: &[u8],
) -> Result<Option<(RoomKey, StoredRoom)>, ReadStoreError> {
    let room = record::named(name)?;
    if !share.has(&room) {
        return Ok(None);
    }
    let stored = stored_room(store, &room)?.ok_or(Damaged)?;
    Ok(Some((room, stored)))
}

/// Counts what is damaged, and takes it for nothing.
pub(super) fn undamaged<T>(
    store: &Store,
    found: Result<Option<T>, ReadStoreError>,
) -> Result<Option<T>, ReadStoreError> {
    match found {
        Err(ReadStoreError::Damaged(damaged)) => {
            store.health().count_damaged(&damaged);
            Ok(None)
        }
        Ok(_) | Err(ReadStoreError::Read(_)) => found,
    }
}

fn stored_room(store: &Store, key: &RoomKey) -> Result<Option<StoredRoom>, ReadStoreError> {
    let value = store.get(&record::room_key(key))?;
    Ok(value.map(StoredRoom::decode_from).transpose()?)
}
