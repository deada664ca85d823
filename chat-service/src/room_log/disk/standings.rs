//! Keeps how far the logs have reached those who follow the rooms, beside the logs.
//!
//! Each standing is a value of its own, so that what is written is what has changed. It goes with the worker's next commit
//! and waits for no disk by itself: what a crash takes of it is newer than what is left, which was true before. Whatever the
//! disk has of a room's entries, it has all that was kept before them.

use std::{
    collections::BTreeMap,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use prost::Message;
use xxhash_rust::xxh3::xxh3_128;

use super::{
    Share, Shared,
    batch::{Batch, Damaged, keys_with},
    load::undamaged,
    record,
    store::{ReadStoreError, Store},
};
use crate::{
    room_key::RoomKey,
    room_log::{Durability, Unreadable},
    user::User,
    workers::WORKERS_MAX,
};

/// Of the standings, by room and user.
const STANDING: u8 = b's';
/// Of the rooms that have followers, by name.
const FOLLOWING: u8 = b'f';
/// Of the same, by when they are to be looked at.
const FOLLOWING_DUE: u8 = b'w';
/// Of the rooms of a worker of which nothing is kept, by the worker's number.
const UNLISTED: u8 = b'u';

/// Longest name of a user in a key. What is longer is cut, with its hash in place of the rest.
const USER_BYTES_MAX: usize = 512;

/// How many rooms are looked at together when users who were away for too long are searched for.
const DUE_MAX: usize = 256;

/// See the module. One belongs to each worker's log.
#[derive(Debug)]
pub(crate) struct Standings {
    shared: Arc<Shared>,
    share: Share,
    /// How many there were at the start.
    count: usize,
    /// Who was missing then in rooms of which nothing is kept.
    unlisted: Option<KeptFollowing>,
    pending: Mutex<Pending>,
}

/// What goes with the next commit: of each key the last that was said of it.
#[derive(Debug, Default)]
struct Pending {
    changes: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    fsync: bool,
}

/// How far a log has reached a user, as it is kept.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct KeptStanding {
    #[prost(string, tag = "1")]
    pub(crate) subject: String,
    #[prost(string, tag = "2")]
    pub(crate) issuer: String,
    /// Of the log's life.
    #[prost(fixed64, tag = "3")]
    pub(crate) epoch: u64,
    #[prost(uint64, tag = "4")]
    pub(crate) known_since: u64,
    #[prost(message, optional, tag = "5")]
    pub(crate) earlier: Option<KeptStretch>,
    #[prost(message, optional, tag = "6")]
    pub(crate) stretch: Option<KeptStretch>,
    #[prost(uint64, tag = "7")]
    pub(crate) delivered_at_ms: u64,
    #[prost(uint64, optional, tag = "8")]
    pub(crate) away_since_ms: Option<u64>,
}

/// A part of a log.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct KeptStretch {
    #[prost(uint64, tag = "1")]
    pub(crate) after_offset: u64,
    #[prost(fixed32, tag = "2")]
    pub(crate) after_tag: u32,
    #[prost(uint64, tag = "3")]
    pub(crate) end_offset: u64,
    #[prost(fixed32, tag = "4")]
    pub(crate) end_tag: u32,
}

/// What is kept of a room that has followers, besides their standings.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct KeptFollowing {
    /// Of the standings.
    #[prost(uint64, tag = "1")]
    pub(crate) count: u64,
    /// When the room is to be looked at, as users may have been away for too long.
    #[prost(uint64, tag = "2")]
    pub(crate) due_at_ms: u64,
    /// Users who are not among them were in the room,
    #[prost(bool, tag = "3")]
    pub(crate) unlisted_are_here: bool,
    /// or were lost from it, the last of them then.
    #[prost(uint64, optional, tag = "4")]
    pub(crate) unlisted_gone_at_ms: Option<u64>,
}

/// All that is kept of a room's followers.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct KeptRoom {
    pub(crate) following: Option<KeptFollowing>,
    pub(crate) standings: Vec<KeptStanding>,
    /// Not all of it can be read.
    pub(crate) is_damaged: bool,
}

impl Standings {
    pub(super) fn new(
        shared: Arc<Shared>,
        share: Share,
        (count, unlisted): (usize, Option<KeptFollowing>),
    ) -> Self {
        Self { shared, share, count, unlisted, pending: Mutex::default() }
    }

    /// How many were kept when the log was opened.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Who was missing when the log was opened in rooms of which nothing is kept, of any worker.
    pub(crate) fn unlisted(&self) -> Option<KeptFollowing> {
        self.unlisted
    }

    /// Keeps who is missing in this worker's rooms of which nothing is kept otherwise. There may have been more workers before.
    pub(crate) fn keep_unlisted(&self, unlisted: Option<KeptFollowing>) {
        let Share { worker, workers } = self.share;
        let mut pending = self.pending();
        for number in (worker..WORKERS_MAX).step_by(workers) {
            let value = unlisted.filter(|_| number == worker).map(|one| one.encode_to_vec());
            pending.changes.insert(unlisted_key(number), value);
        }
    }

    /// What was committed of a room's followers, if anything is kept.
    pub(crate) async fn read(&self, room: &RoomKey) -> Result<Option<KeptRoom>, Unreadable> {
        let key = room.clone();
        self.shared.ask(move |store| read_room(store, &key)).await
    }

    /// Keeps a user's standing, or forgets it.
    pub(crate) fn keep(&self, room: &RoomKey, user: &User, standing: Option<&KeptStanding>) {
        let value = standing.map(Message::encode_to_vec);
        self.pending().changes.insert(standing_key(room, user), value);
    }

    /// Keeps what is known of a room besides the standings, in place of what was kept before.
    pub(crate) fn keep_following(
        &self,
        room: &RoomKey,
        (before, now): (Option<KeptFollowing>, Option<KeptFollowing>),
    ) {
        let changes = &mut self.pending().changes;
        let due = |following: Option<KeptFollowing>| following.map(|one| one.due_at_ms);
        if due(before) != due(now) {
            let keys = [due(before), due(now)].map(|at_ms| at_ms.map(|at_ms| due_key(at_ms, room)));
            let [gone, new] = keys;
            changes.extend(gone.map(|key| (key, None)));
            changes.extend(new.map(|key| (key, Some(Vec::new()))));
        }
        changes.insert(following_key(room), now.map(|following| following.encode_to_vec()));
    }

    /// Has the next commit survive what the entries of the room do. A user goes on behind what it has not got, and nobody
    /// else could tell.
    pub(crate) fn hold_fast(&self, room: &RoomKey) {
        let durability = self.shared.namespaces.get(room.namespace()).durability;
        self.pending().fsync |= durability == Durability::DiskFsync;
    }

    #[cfg(test)]
    pub(crate) fn is_held_fast(&self) -> bool {
        self.pending().fsync
    }

    /// Rooms that are to be looked at by now, from where the page before has ended.
    pub(crate) async fn due(&self, from: Option<Vec<u8>>, now_ms: u64) -> DueRooms {
        let share = self.share;
        // It was counted; what cannot be read stays.
        let found = self.shared.ask(move |store| due(store, share, from, now_ms)).await;
        let mut due = found.unwrap_or_default();
        self.pending().changes.extend(due.stale.drain(..).map(|key| (key, None)));
        due
    }

    /// Hands over what is to be committed.
    pub(super) fn take_changes(&self, batch: &mut Batch) {
        let Pending { changes, fsync } = mem::take(&mut *self.pending());
        batch.fsync |= fsync;
        for (key, value) in changes {
            match value {
                Some(value) => batch.put(&key, &value),
                None => batch.remove(&key),
            }
        }
    }

    /// A panic under the lock would end the worker, and the service with it: no one sees half a change.
    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many standings each room has, as far as that can be read.
pub(super) fn counts(
    store: &Store,
) -> impl Iterator<Item = Result<(RoomKey, u64), ReadStoreError>> + '_ {
    let found = store.scan(keys_with(&[FOLLOWING])).map(|item| {
        let (key, value) = item?;
        Ok(Some((record::room_of(&key)?, decode_following(value)?.count)))
    });
    found.filter_map(|found| undamaged(store, found).transpose())
}

/// Who was missing in rooms of which nothing is kept. What cannot be read may be anybody.
pub(super) fn unlisted(store: &Store) -> Result<Option<KeptFollowing>, ReadStoreError> {
    let mut all: Option<KeptFollowing> = None;
    for item in store.scan(keys_with(&[UNLISTED])) {
        let one = undamaged(store, item.and_then(|(_, value)| Ok(Some(decode_following(value)?))))?;
        let one =
            one.unwrap_or(KeptFollowing { unlisted_are_here: true, ..KeptFollowing::default() });
        let missing = all.get_or_insert_default();
        missing.unlisted_are_here |= one.unlisted_are_here;
        missing.unlisted_gone_at_ms = missing.unlisted_gone_at_ms.max(one.unlisted_gone_at_ms);
    }
    Ok(all)
}

fn read_room(store: &Store, room: &RoomKey) -> Result<Option<KeptRoom>, ReadStoreError> {
    let mut kept = KeptRoom::default();
    let following = store.get(&following_key(room));
    let following = following.and_then(|value| Ok(value.map(decode_following).transpose()?));
    match following {
        Ok(None) => return Ok(None),
        Ok(following) => kept.following = following,
        Err(ReadStoreError::Damaged(damaged)) => {
            store.health().count_damaged(&damaged);
            kept.is_damaged = true;
        }
        Err(error) => return Err(error),
    }
    for item in store.scan(keys_with(&standings_prefix(room))) {
        let standing =
            item.and_then(|(_, value)| Ok(Some(KeptStanding::decode(value).map_err(|_| Damaged)?)));
        match undamaged(store, standing)? {
            Some(standing) => kept.standings.push(standing),
            None => kept.is_damaged = true,
        }
    }
    Ok(Some(kept))
}

/// What was found in the order of its time.
#[derive(Debug, Default)]
pub(crate) struct DueRooms {
    pub(crate) rooms: Vec<RoomKey>,
    /// Where the next page begins, if there is one.
    pub(crate) next: Option<Vec<u8>>,
    /// Keys that mean nothing any more: another stands for the room.
    stale: Vec<Vec<u8>>,
}

fn due(
    store: &Store,
    share: Share,
    from: Option<Vec<u8>>,
    now_ms: u64,
) -> Result<DueRooms, ReadStoreError> {
    let mut due = DueRooms::default();
    let from = from.unwrap_or_else(|| vec![FOLLOWING_DUE]);
    let end = [&[FOLLOWING_DUE][..], &now_ms.saturating_add(1).to_be_bytes()].concat();
    for item in store.scan(from..end) {
        let Some((key, _)) = undamaged(store, item.map(Some))? else { continue };
        if due.rooms.len() + due.stale.len() == DUE_MAX {
            due.next = Some(key.to_vec());
            break;
        }
        let name = key.get(1 + size_of::<u64>()..).ok_or(Damaged);
        let Some(room) =
            undamaged(store, name.and_then(record::named).map(Some).map_err(Into::into))?
        else {
            continue;
        };
        if !share.has(&room) {
            continue;
        }
        let following = store.get(&following_key(&room));
        let following = following.and_then(|value| Ok(value.map(decode_following).transpose()?));
        match following {
            Ok(Some(one)) if due_key(one.due_at_ms, &room) == *key => due.rooms.push(room),
            Ok(_) => due.stale.push(key.to_vec()),
            // Whoever looks at the room finds the damage, and keeps it anew.
            Err(ReadStoreError::Damaged(damaged)) => {
                store.health().count_damaged(&damaged);
                due.rooms.push(room);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(due)
}

fn decode_following(value: Bytes) -> Result<KeptFollowing, Damaged> {
    KeptFollowing::decode(value).map_err(|_| Damaged)
}

fn following_key(room: &RoomKey) -> Vec<u8> {
    [&[FOLLOWING], room.as_str().as_bytes()].concat()
}

fn unlisted_key(worker: usize) -> Vec<u8> {
    [&[UNLISTED][..], &(worker as u64).to_be_bytes()].concat()
}

fn due_key(due_at_ms: u64, room: &RoomKey) -> Vec<u8> {
    [&[FOLLOWING_DUE][..], &due_at_ms.to_be_bytes(), room.as_str().as_bytes()].concat()
}

/// What the keys of a room's standings begin with. No name of a room contains what ends it.
fn standings_prefix(room: &RoomKey) -> Vec<u8> {
    [&[STANDING], room.as_str().as_bytes(), b"\0"].concat()
}

fn standing_key(room: &RoomKey, user: &User) -> Vec<u8> {
    let subject_bytes = (user.subject().len() as u64).to_be_bytes();
    let mut name = [&subject_bytes, user.subject().as_bytes(), user.issuer().as_bytes()].concat();
    if name.len() > USER_BYTES_MAX {
        let hash = xxh3_128(&name).to_be_bytes();
        name.truncate(USER_BYTES_MAX);
        name.extend_from_slice(&hash);
    }
    [standings_prefix(room), name].concat()
}
