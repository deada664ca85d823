//! Seam [`RoomLog`]: what was said in each room, in order.

mod by_durability;
#[cfg(test)]
pub(crate) mod contract;
mod disk;
mod history;
mod memory;
mod position;

use std::{borrow::Cow, num::NonZeroUsize, sync::Arc, time::Duration};

use bytes::Bytes;
use serde::Deserialize;
use thiserror::Error;

pub use self::disk::OpenStoreError;
pub(crate) use self::disk::fuzzing;
pub(crate) use self::{
    by_durability::{Bounds, ServiceRoomLog},
    disk::{
        DueRooms, KeptExclusions, KeptFollowing, KeptRoom, KeptStanding, KeptStretch, Standings,
        Threads,
    },
    memory::MemoryRoomLog,
    position::{ParsePositionError, Position},
};
use crate::{
    room_key::{Realm, RoomKey},
    user::User,
};

/// Keeps the logged events of rooms.
///
/// # Guarantees
///
/// - Entries of one room are totally ordered. Within an epoch their offsets are 1, 2, 3 … without holes, and the times
///   in [`Entry::at_ms`] never go back.
/// - An entry whose `append` returned is seen by every later `read`, until it is dropped. It is as durable as
///   [`RoomLog::durability`] says from the next [`RoomLog::commit`] on, which stands for all that was appended before.
///   Until then nobody may be shown it.
/// - After a failure nothing is appended any more, and nothing that was not committed is read again: what is on the disk is
///   known only up to the last commit. Committed entries are read as before.
/// - A room whose log is there and cannot be read is [`Unreadable`], and never taken for one without a log: no position is
///   told of it, and nothing is appended to it. Other rooms go on.
/// - Old entries may be dropped at any time, the oldest of a room first. A position whose successors are gone, in whole
///   or in part, is answered with [`ReadError::Gap`], never with what is left of them. So is a position of another life of the log:
///   after the log of a room was given up, its epoch is never used for this room again. And so is one up to which the
///   log has said something else, because it was set back.
/// - Of two publications with the same author and the same id, the second adds nothing and is answered with the first,
///   as long as the log keeps that one. Publications without an id are never taken for one another.
/// - One that may be a second adds nothing either where the first may have been dropped ([`Appended::Unknown`]).
///
/// Time is an argument: milliseconds since the Unix epoch.
pub(crate) trait RoomLog: Send + Sync + 'static {
    /// Adds an entry at the end of a room's log.
    fn append(
        &self,
        room: &RoomKey,
        publication: Publication,
        now_ms: u64,
    ) -> impl Future<Output = Result<Appended, AppendError>> + Send;

    /// Makes durable what was appended since the last time. Succeeds when nothing was, also after a failure.
    fn commit(&self) -> impl Future<Output = Result<(), LogFailed>> + Send;

    /// What a committed entry of this room survives.
    fn durability(&self, room: &RoomKey) -> Durability;

    /// Reads a part of a room's log, oldest entry first.
    fn read(
        &self,
        room: &RoomKey,
        range: Range,
        limit: Limit,
        now_ms: u64,
    ) -> impl Future<Output = Result<Page, ReadError>> + Send;

    /// Where a room's log ends: the position of its last entry, or that before its first. Reading after it yields what is
    /// appended from now on, if the log still has all of it.
    fn end(&self, room: &RoomKey) -> impl Future<Output = Result<Position, Unreadable>> + Send;

    /// The rooms of a tenant in a namespace that have a log, with its end: all of them, or none if one cannot be read. Inboxes are
    /// not among them, nor looked at, nor are rooms of other tenants.
    fn rooms(
        &self,
        realm: Realm<'_>,
    ) -> impl Future<Output = Result<Vec<(RoomKey, Position)>, Unreadable>> + Send;

    /// Where it is kept how far the logs have reached those who follow the rooms, if any logs are on disk.
    fn standings(&self) -> Option<&Standings> {
        None
    }

    /// Where it is kept who is kept out of rooms, if there is a directory. It is on disk and survives a power cut from the next
    /// [`RoomLog::commit`] on, which fails if it is not.
    fn exclusions(&self) -> Option<&KeptExclusions> {
        None
    }

    /// Drops what is too old, and gives up the logs that have become empty thereby, save those of rooms in use.
    fn expire(
        &self,
        now_ms: u64,
        in_use: impl Fn(&RoomKey) -> bool + Send + Sync,
    ) -> impl Future<Output = ()> + Send;
}

/// What a logged event survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// Nothing: it is gone with the process.
    Memory,
    /// The end of the process, not that of the machine.
    Disk,
    /// That of the machine, too.
    #[serde(rename = "disk+fsync")]
    DiskFsync,
}

impl Durability {
    /// Its name in answers.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Disk => "disk",
            Self::DiskFsync => "disk+fsync",
        }
    }
}

/// How much of a room's log is kept. A log may bound the bytes, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Retention {
    /// So many entries,
    pub(crate) count_max: NonZeroUsize,
    /// each for so long.
    pub(crate) age_max: Duration,
}

/// What is to be logged.
#[derive(Debug, Clone)]
pub(crate) struct Publication {
    pub(crate) author: Author,
    pub(crate) id: Option<PublicationId>,
    /// Present if it may be a second one: since when the first may have been appended.
    pub(crate) repeated_since_ms: Option<u64>,
    pub(crate) event: Arc<str>,
    /// What the event carries, besides what the log knows: JSON text of an object.
    pub(crate) payload: Bytes,
    /// Subjects that are never shown it.
    pub(crate) except_users: Box<[Box<str>]>,
}

/// What makes a second publication of the same author harmless.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum PublicationId {
    /// The author's own name for it, by which everyone knows it.
    Own(Box<str>),
    /// The name of the client's event that brought it. Nobody is shown it.
    Event(EventName),
}

/// The name that an edge has given to a client's event.
pub(crate) type EventName = [u8; 16];

/// Who published.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Author {
    User(Arc<User>),
    /// Another service, over gRPC.
    Service,
}

/// A logged event.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) position: Position,
    pub(crate) at_ms: u64,
    pub(crate) publication_id: Option<PublicationId>,
    pub(crate) event: Arc<str>,
    pub(crate) payload: Bytes,
    /// Subjects that are never shown it.
    pub(crate) except_users: Box<[Box<str>]>,
}

impl PublicationId {
    /// How many bytes it takes up by itself.
    fn len(&self) -> usize {
        match self {
            Self::Own(id) => id.len(),
            Self::Event(_) => 0,
        }
    }
}

impl Entry {
    pub(crate) fn is_for(&self, user: &User) -> bool {
        !self.except_users.iter().any(|subject| **subject == *user.subject())
    }

    /// Its name for everyone: the author's own, or else its position.
    pub(crate) fn id(&self) -> Cow<'_, str> {
        match &self.publication_id {
            Some(PublicationId::Own(id)) => Cow::Borrowed(id),
            Some(PublicationId::Event(_)) | None => Cow::Owned(self.position.to_string()),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Appended {
    /// It is in the log now.
    New(Arc<Entry>),
    /// It was in the log already: this is the entry of the first time.
    Repeated(Arc<Entry>),
    /// It may have been in the log, and is not added.
    Unknown,
}

/// Which entries to read.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Range {
    /// Those after a position, the oldest of them.
    After(Position),
    /// Those before a position, the newest of them.
    Before(Position),
    /// The newest.
    Newest,
}

/// How much to read at once. One entry is always read, however large.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limit {
    pub(crate) count: usize,
    /// Of payload.
    pub(crate) bytes: usize,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) entries: Vec<Arc<Entry>>,
    /// The limit cut it short.
    pub(crate) more: bool,
}

/// Why a part of a room's log is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum ReadError {
    /// The position belongs to another life of the log, or entries after it are gone.
    #[error("entries after the position are gone")]
    Gap,
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
}

/// Why nothing is added to a room's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum AppendError {
    #[error(transparent)]
    Failed(#[from] LogFailed),
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
}

/// What is on the disk is damaged, or the disk does not give it out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the room's history cannot be read at present")]
pub(crate) struct Unreadable;

/// The log cannot keep anything any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the log has failed")]
pub(crate) struct LogFailed;
