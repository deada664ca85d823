//! A room log that is on disk.
//!
//! Rooms in which something happens are held in memory as the log in memory holds them, and are written through; a room
//! that is asked for and not held is read back whole. What is held is bounded: rooms that are quiet cost disk and no
//! memory. Reading and waiting for the disk happen on threads that may block, and a worker's thread waits for nothing
//! but their answers.

mod batch;
mod crash_points;
mod exclusions;
pub(crate) mod fuzzing;
mod health;
mod journal;
mod load;
mod record;
mod rooms;
mod standings;
mod store;
mod writer;

use std::{
    collections::HashMap,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::task;

pub use self::store::OpenStoreError;
use self::{
    batch::Batch,
    load::DuePage,
    record::StoredEpoch,
    rooms::{Changes, Rooms},
    store::{ReadStoreError, Store},
};
pub(crate) use self::{
    exclusions::KeptExclusions,
    standings::{DueRooms, KeptFollowing, KeptRoom, KeptStanding, KeptStretch, Standings},
    store::Threads,
};
use super::{
    AppendError, Appended, Durability, Limit, LogFailed, Page, Position, Publication, Range,
    ReadError, Retention, RoomLog, Unreadable, history::read_nothing,
};
use crate::{
    namespaces::Namespaces,
    room_key::{Realm, RoomKey},
    workers::worker_of,
};

/// See the module.
///
/// Each worker has one of its own, for the rooms that fall to it, and all share the store: what is said there of epochs in
/// memory holds for all of them together.
#[derive(Debug)]
pub(crate) struct DiskRoomLog {
    shared: Arc<Shared>,
    share: Share,
    state: Mutex<Rooms>,
    standings: Standings,
    exclusions: KeptExclusions,
}

/// What the logs of all workers have in common.
#[derive(Debug)]
struct Shared {
    store: Store,
    namespaces: Arc<Namespaces>,
    bounds: DiskBounds,
    /// The last that the store has. Positions may be of it: it is not used again after a crash.
    epoch: AtomicU64,
    /// The last that a batch was given. It may not be committed yet.
    epoch_reserved: AtomicU64,
    /// The highest number of a room.
    number: AtomicU64,
}

/// How much there may be of all rooms of one worker.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DiskBounds {
    /// In the store. At the bound, the logs whose entries get too old first are given up.
    pub(crate) stored_bytes_max: u64,
    /// In memory. At the bound, the rooms that were not used for longest are read back when they are used again.
    pub(crate) held_bytes_max: usize,
    pub(crate) threads: Threads,
}

/// Which rooms fall to a log.
#[derive(Debug, Clone, Copy)]
struct Share {
    worker: usize,
    workers: usize,
}

impl Share {
    fn has(self, room: &RoomKey) -> bool {
        worker_of(room, self.workers) == self.worker
    }
}

impl Shared {
    /// Asks the store, on a thread that may block.
    async fn ask<T: Send + 'static>(
        self: &Arc<Self>,
        question: impl FnOnce(&Store) -> Result<T, ReadStoreError> + Send + 'static,
    ) -> Result<T, Unreadable> {
        let shared = Arc::clone(self);
        let answered = on_a_thread(self.bounds.threads, move || question(&shared.store)).await;
        answered
            .map_err(|error| self.store.health().count_damaged(&error))
            .and_then(|answer| answer.map_err(|error| self.store.health().count_damaged(&error)))
            .map_err(|()| Unreadable)
    }
}

impl DiskRoomLog {
    /// Opens the store in a directory, and returns the log of each worker. `epoch` is where a new store begins to count.
    pub(crate) async fn open(
        directory: &Path,
        epoch: u64,
        namespaces: Arc<Namespaces>,
        bounds: DiskBounds,
        workers: usize,
    ) -> Result<Vec<Self>, OpenStoreError> {
        let path = directory.to_owned();
        let opened = on_a_thread(bounds.threads, move || {
            let store = Store::open(&path, bounds.threads)?;
            let census = load::census(&store, workers)
                .map_err(|error| OpenStoreError::Damaged(error.into(), path.clone()))?;
            Ok((store, census))
        });
        let (store, census) = opened.await.unwrap_or_else(|error| {
            Err(OpenStoreError::Damaged(error.into(), directory.to_owned()))
        })?;
        if census.epoch.is_none() {
            let mut batch = Batch::default();
            batch.fsync = true;
            let stored = StoredEpoch { epoch, given_up_to_ms: None };
            record::put_epoch(&mut batch, usize::MAX, stored);
            store.commit(batch).await.map_err(|error| {
                OpenStoreError::Directory(std::io::Error::other(error), directory.to_owned())
            })?;
        }
        let shared = Arc::new(Shared {
            store,
            namespaces,
            bounds,
            epoch: AtomicU64::new(census.epoch.unwrap_or(epoch)),
            epoch_reserved: AtomicU64::new(census.epoch.unwrap_or(epoch)),
            number: AtomicU64::new(census.number),
        });
        let log = |(worker, (bytes, (standings, exclusions)))| {
            let share = Share { worker, workers };
            Self {
                shared: Arc::clone(&shared),
                share,
                state: Mutex::new(Rooms::new(worker, bytes, census.given_up_to_ms)),
                standings: Standings::new(Arc::clone(&shared), share, (standings, census.unlisted)),
                exclusions: KeptExclusions::new(Arc::clone(&shared), exclusions),
            }
        };
        let kept = census.standings.into_iter().zip(census.exclusions);
        Ok(census.bytes.into_iter().zip(kept).enumerate().map(log).collect())
    }

    fn retention(&self, room: &RoomKey) -> &Retention {
        &self.shared.namespaces.get(room.namespace()).retention
    }

    /// A panic under the lock would end the worker, and the service with it: no one sees half a change.
    fn state(&self) -> MutexGuard<'_, Rooms> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_failed(&self) -> bool {
        self.shared.store.health().has_failed()
    }

    fn start(&self) -> Position {
        Position::start(self.shared.epoch.load(Ordering::Acquire))
    }

    /// Asks the store, on a thread that may block.
    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Store) -> Result<T, ReadStoreError> + Send + 'static,
    ) -> Result<T, Unreadable> {
        self.shared.ask(question).await
    }

    /// Has the room held if it has a log, in the place of others that were not used for longer.
    async fn hold(&self, room: &RoomKey) -> Result<(), Unreadable> {
        if self.state().holds(room) {
            return Ok(());
        }
        let key = room.clone();
        if let Some(held) = self.ask(move |store| load::room(store, &key)).await? {
            let mut rooms = self.state();
            rooms.hold(room, held);
            rooms.release(self.shared.bounds.held_bytes_max);
        }
        Ok(())
    }

    fn take_changes(&self) -> Changes {
        let due = |room: &RoomKey, last_at_ms| due_at_ms(last_at_ms, self.retention(room));
        let fsync = |room: &RoomKey| self.durability(room) == Durability::DiskFsync;
        let reserve = || self.shared.epoch_reserved.fetch_add(1, Ordering::AcqRel).wrapping_add(1);
        let mut changes = self.state().take_changes(due, fsync, reserve);
        self.standings.take_changes(&mut changes.batch);
        // Who asked for it is told whether it was kept.
        changes.has_appended |= self.exclusions.take_changes(&mut changes.batch);
        changes
    }

    /// Tells whether everything was committed that had to be.
    async fn write(
        &self,
        Changes { batch, rooms, has_appended, epoch }: Changes,
    ) -> Result<(), LogFailed> {
        let committed = match batch.is_empty() {
            true => Ok(()),
            false => self.shared.store.commit(batch).await,
        };
        if let (Ok(()), Some(epoch)) = (committed, epoch) {
            self.shared.epoch.fetch_max(epoch, Ordering::AcqRel);
        }
        let mut state = self.state();
        state.settle(&rooms, committed);
        state.release(self.shared.bounds.held_bytes_max);
        if has_appended { committed } else { Ok(()) }
    }

    async fn due(&self, from: Option<Vec<u8>>, before_ms: u64) -> DuePage {
        let share = self.share;
        let page = self.ask(move |store| load::due(store, share, from, before_ms)).await;
        // It was counted; what cannot be read stays.
        page.unwrap_or_default()
    }

    /// Gives up logs until an eighth of the bound is free, so that this is seldom done.
    async fn give_up_quiet_rooms(&self) -> Result<(), LogFailed> {
        let bytes_max = self.shared.bounds.stored_bytes_max;
        let mut from = None;
        while !self.has_failed() {
            let DuePage { rooms, next } = self.due(from, u64::MAX).await;
            for (room, stored) in rooms {
                if self.state().stored_bytes <= bytes_max - bytes_max / 8 {
                    break;
                }
                self.state().give_up(&room, &stored);
            }
            self.write(self.take_changes()).await?;
            if next.is_none() || self.state().stored_bytes <= bytes_max - bytes_max / 8 {
                break;
            }
            from = next;
        }
        Ok(())
    }
}

/// Does what may block where it may.
async fn on_a_thread<T: Send + 'static>(
    threads: Threads,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, task::JoinError> {
    match threads {
        Threads::Own => task::spawn_blocking(work).await,
        Threads::None => Ok(work()),
    }
}

impl RoomLog for DiskRoomLog {
    async fn append(
        &self,
        room: &RoomKey,
        publication: Publication,
        now_ms: u64,
    ) -> Result<Appended, AppendError> {
        if self.has_failed() {
            return Err(LogFailed.into());
        }
        self.hold(room).await?;
        let new = || {
            let number = self.shared.number.fetch_add(1, Ordering::AcqRel) + 1;
            (number, self.start())
        };
        let retention = self.retention(room);
        let appended = self.state().append((room, retention), publication, now_ms, new);
        Ok(appended.ok_or(LogFailed)?)
    }

    async fn commit(&self) -> Result<(), LogFailed> {
        self.write(self.take_changes()).await?;
        if self.state().stored_bytes > self.shared.bounds.stored_bytes_max {
            self.give_up_quiet_rooms().await?;
        }
        Ok(())
    }

    fn durability(&self, room: &RoomKey) -> Durability {
        self.shared.namespaces.get(room.namespace()).durability
    }

    async fn read(
        &self,
        room: &RoomKey,
        range: Range,
        limit: Limit,
        now_ms: u64,
    ) -> Result<Page, ReadError> {
        self.hold(room).await?;
        match self.state().trimmed(room, now_ms, self.retention(room)) {
            Some(history) => history.read(range, limit),
            None => read_nothing(range, self.start()),
        }
    }

    async fn end(&self, room: &RoomKey) -> Result<Position, Unreadable> {
        let held = self.state().end(room);
        if let Some(end) = held {
            return Ok(end);
        }
        let key = room.clone();
        let end = self.ask(move |store| load::end(store, &key)).await?;
        Ok(end.unwrap_or_else(|| self.start()))
    }

    async fn rooms(&self, realm: Realm<'_>) -> Result<Vec<(RoomKey, Position)>, Unreadable> {
        let (tenant, namespace) = (realm.tenant.to_owned(), realm.namespace.to_owned());
        let share = self.share;
        let stored = self.ask(move |store| {
            load::rooms(store, Realm { tenant: &tenant, namespace: &namespace }, share)
        });
        let stored = stored.await?;
        let mut ends: HashMap<RoomKey, Position> = stored.into_iter().collect();
        ends.extend(self.state().ends(realm));
        Ok(ends.into_iter().collect())
    }

    fn standings(&self) -> Option<&Standings> {
        Some(&self.standings)
    }

    fn exclusions(&self) -> Option<&KeptExclusions> {
        Some(&self.exclusions)
    }

    async fn expire(&self, now_ms: u64, in_use: impl Fn(&RoomKey) -> bool + Send + Sync) {
        if self.has_failed() {
            return;
        }
        self.state().trim_all(now_ms, |room| self.retention(room));
        // A failure is told to whoever appends.
        self.write(self.take_changes()).await.ok();
        let mut from = None;
        while !self.has_failed() {
            let DuePage { rooms, next } = self.due(from, now_ms).await;
            for (room, stored) in rooms {
                if in_use(&room) {
                    continue;
                }
                let due_at_ms = due_at_ms(stored.last_at_ms, self.retention(&room));
                let is_empty = self.state().is_empty(&room).unwrap_or(due_at_ms < now_ms);
                if is_empty {
                    self.state().give_up(&room, &stored);
                } else if self.state().holds(&room) {
                    self.state().touch(&room);
                } else {
                    self.state().postpone(&room, &stored, due_at_ms);
                }
            }
            self.write(self.take_changes()).await.ok();
            if next.is_none() {
                return;
            }
            from = next;
        }
    }
}

/// When an entry gets too old.
fn due_at_ms(at_ms: u64, retention: &Retention) -> u64 {
    let age_ms = u64::try_from(retention.age_max.as_millis()).unwrap_or(u64::MAX);
    at_ms.saturating_add(age_ms)
}

#[cfg(test)]
mod tests;
