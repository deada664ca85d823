//! Keeps who is kept out of rooms, beside the logs.
//!
//! There is one value for each room and user, or socket. They go with the worker's next commit, which waits for the disk
//! whatever the room's own durability, and are all read when the store is opened.

use std::{
    collections::BTreeMap,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use prost::Message;

use super::{
    Shared,
    batch::{Batch, Damaged, keys_with},
    record,
    store::{ReadStoreError, Store},
};
use crate::{
    exclusions::{Ban, Exclusion, Kick, Who},
    room_key::RoomKey,
    room_log::LogFailed,
};

/// Of exclusions, by room and who.
const EXCLUSION: u8 = b'k';

/// Somebody who is kept out of a room.
pub(crate) type KeptExclusion = (RoomKey, Who, Exclusion);

/// See the module. One belongs to each worker's log.
#[derive(Debug)]
pub(crate) struct KeptExclusions {
    shared: Arc<Shared>,
    /// What was kept when the log was opened, until somebody takes it.
    loaded: Mutex<Vec<KeptExclusion>>,
    /// What goes with the next commit: of each key the last that was said of it.
    pending: Mutex<BTreeMap<Vec<u8>, Option<Vec<u8>>>>,
}

#[derive(Clone, PartialEq, Message)]
struct Stored {
    #[prost(bytes = "bytes", tag = "1")]
    room: Bytes,
    /// One of the two.
    #[prost(message, optional, tag = "2")]
    user: Option<StoredUser>,
    #[prost(string, optional, tag = "3")]
    socket_id: Option<String>,
    #[prost(message, optional, tag = "4")]
    kick: Option<StoredKick>,
    #[prost(message, optional, tag = "5")]
    ban: Option<StoredBan>,
}

#[derive(Clone, PartialEq, Message)]
struct StoredUser {
    #[prost(string, tag = "1")]
    subject: String,
    #[prost(string, tag = "2")]
    issuer: String,
}

#[derive(Clone, PartialEq, Message)]
struct StoredKick {
    #[prost(uint64, tag = "1")]
    at_ms: u64,
    #[prost(string, tag = "2")]
    reason: String,
    #[prost(string, repeated, tag = "3")]
    returned: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
struct StoredBan {
    #[prost(uint64, tag = "1")]
    since_ms: u64,
    #[prost(uint64, optional, tag = "2")]
    until_ms: Option<u64>,
    #[prost(string, tag = "3")]
    reason: String,
}

impl KeptExclusions {
    pub(super) fn new(shared: Arc<Shared>, loaded: Vec<KeptExclusion>) -> Self {
        Self { shared, loaded: Mutex::new(loaded), pending: Mutex::default() }
    }

    /// What was kept when the log was opened. Later there is nothing.
    pub(crate) fn take_loaded(&self) -> Vec<KeptExclusion> {
        mem::take(&mut *self.loaded.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether anything can be kept.
    pub(crate) fn check(&self) -> Result<(), LogFailed> {
        if self.shared.store.health().has_failed() { Err(LogFailed) } else { Ok(()) }
    }

    /// Keeps what keeps somebody out from the next commit on, or forgets it. Where nothing can be kept any more, nothing is: who
    /// joins again, or whose time is up, must not have a commit fail that others wait for.
    pub(crate) fn keep(&self, room: &RoomKey, who: &Who, exclusion: Option<&Exclusion>) {
        if self.check().is_err() {
            return;
        }
        let value = exclusion.map(|exclusion| stored(room, who, exclusion).encode_to_vec());
        self.pending().insert(key(room, who), value);
    }

    /// Hands over what is to be committed; tells whether there is anything.
    pub(super) fn take_changes(&self, batch: &mut Batch) -> bool {
        let changes = mem::take(&mut *self.pending());
        let has_changes = !changes.is_empty();
        batch.fsync |= has_changes;
        for (key, value) in changes {
            match value {
                Some(value) => batch.put(&key, &value),
                None => batch.remove(&key),
            }
        }
        has_changes
    }

    /// A panic under the lock would end the worker, and the service with it: no one sees half a change.
    fn pending(&self) -> MutexGuard<'_, BTreeMap<Vec<u8>, Option<Vec<u8>>>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All of them. What is damaged is not passed over: it may be a ban.
pub(super) fn all(
    store: &Store,
) -> impl Iterator<Item = Result<KeptExclusion, ReadStoreError>> + '_ {
    store.scan(keys_with(&[EXCLUSION])).map(|item| Ok(decode(item?.1)?))
}

fn stored(room: &RoomKey, who: &Who, exclusion: &Exclusion) -> Stored {
    let (user, socket_id) = match who {
        Who::User { subject, issuer } => {
            let (subject, issuer) = (subject.to_string(), issuer.to_string());
            (Some(StoredUser { subject, issuer }), None)
        }
        Who::Socket(id) => (None, Some(id.to_string())),
    };
    let kick = exclusion.kick.as_ref().map(|kick| StoredKick {
        at_ms: kick.at_ms,
        reason: kick.reason.to_string(),
        returned: kick.returned.iter().map(ToString::to_string).collect(),
    });
    let ban = exclusion.ban.as_ref().map(|ban| StoredBan {
        since_ms: ban.since_ms,
        until_ms: ban.until_ms,
        reason: ban.reason.to_string(),
    });
    let room = Bytes::copy_from_slice(room.as_str().as_bytes());
    Stored { room, user, socket_id, kick, ban }
}

fn decode(value: Bytes) -> Result<KeptExclusion, Damaged> {
    let Stored { room, user, socket_id, kick, ban } = Stored::decode(value).map_err(|_| Damaged)?;
    let room = record::named(&room)?;
    let who = match (user, socket_id) {
        (Some(StoredUser { subject, issuer }), None) => {
            Who::User { subject: subject.into(), issuer: issuer.into() }
        }
        (None, Some(id)) => Who::Socket(id.into()),
        (Some(_), Some(_)) | (None, None) => return Err(Damaged),
    };
    let kick = kick.map(|kick| Kick {
        at_ms: kick.at_ms,
        reason: kick.reason.into(),
        returned: kick.returned.into_iter().map(String::into_boxed_str).collect(),
    });
    let ban = ban.map(|ban| Ban {
        since_ms: ban.since_ms,
        until_ms: ban.until_ms,
        reason: ban.reason.into(),
    });
    Ok((room, who, Exclusion { kick, ban }))
}

/// No name of a room contains what ends it here. Subjects and issuers are bounded where they are taken in.
fn key(room: &RoomKey, who: &Who) -> Vec<u8> {
    let mut key = [&[EXCLUSION], room.as_str().as_bytes(), b"\0"].concat();
    match who {
        Who::User { subject, issuer } => {
            key.push(b'u');
            key.extend_from_slice(&(subject.len() as u64).to_be_bytes());
            key.extend_from_slice(subject.as_bytes());
            key.extend_from_slice(issuer.as_bytes());
        }
        Who::Socket(id) => {
            key.push(b's');
            key.extend_from_slice(id.as_bytes());
        }
    }
    key
}
