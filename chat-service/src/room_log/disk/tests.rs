//! Tests of the log on disk: the contract, restarts, faults.

pub(super) mod crashes;
mod damaged_rooms;
mod faults;
mod memory;
mod restarts;
mod standings;

use tempfile::TempDir;

use super::*;
use crate::room_log::contract::{COUNT_MAX, keeping, room_log_contract};

pub(super) const BOUNDS: DiskBounds =
    DiskBounds { stored_bytes_max: 1 << 40, held_bytes_max: 1 << 30, threads: Threads::Own };

pub(super) async fn open_in(directory: &Path) -> Result<DiskRoomLog, OpenStoreError> {
    let namespaces = keeping(COUNT_MAX);
    let logs = DiskRoomLog::open(directory, 7, namespaces, BOUNDS, 1).await?;
    Ok(logs.into_iter().next().unwrap())
}

/// In memory, where there is such a place: what survives a power cut is not to be found out here.
pub(super) fn new_directory() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// A log in a directory of its own.
#[derive(Debug)]
struct TestLog {
    log: tokio::sync::Mutex<Option<DiskRoomLog>>,
    directory: TempDir,
    between_calls: BetweenCalls,
}

/// What happens to the log between two calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BetweenCalls {
    Nothing,
    /// What was appended is committed, and no room is held in memory.
    ForgetRooms,
    /// What was appended is committed, and the store is closed and opened.
    Restart,
}

impl TestLog {
    async fn new(between_calls: BetweenCalls) -> Self {
        let directory = new_directory();
        let log = tokio::sync::Mutex::new(Some(open_in(directory.path()).await.unwrap()));
        Self { log, directory, between_calls }
    }

    async fn call<T>(&self, call: impl AsyncFnOnce(&DiskRoomLog) -> T) -> T {
        let mut log = self.log.lock().await;
        match self.between_calls {
            BetweenCalls::Nothing => {}
            BetweenCalls::ForgetRooms => {
                let log = log.as_ref().unwrap();
                log.commit().await.unwrap();
                log.state().forget_all();
                assert_eq!(log.state().held_count(), 0);
            }
            BetweenCalls::Restart => {
                log.as_ref().unwrap().commit().await.unwrap();
                *log = None;
                *log = Some(open_in(self.directory.path()).await.unwrap());
            }
        }
        call(log.as_ref().unwrap()).await
    }
}

impl RoomLog for TestLog {
    async fn append(
        &self,
        room: &RoomKey,
        publication: Publication,
        now_ms: u64,
    ) -> Result<Appended, AppendError> {
        self.call(async |log| log.append(room, publication, now_ms).await).await
    }

    async fn commit(&self) -> Result<(), LogFailed> {
        self.call(async |log| log.commit().await).await
    }

    fn durability(&self, _: &RoomKey) -> Durability {
        Durability::DiskFsync
    }

    async fn read(
        &self,
        room: &RoomKey,
        range: Range,
        limit: Limit,
        now_ms: u64,
    ) -> Result<Page, ReadError> {
        self.call(async |log| log.read(room, range, limit, now_ms).await).await
    }

    async fn end(&self, room: &RoomKey) -> Result<Position, Unreadable> {
        self.call(async |log| log.end(room).await).await
    }

    async fn rooms(&self, realm: Realm<'_>) -> Result<Vec<(RoomKey, Position)>, Unreadable> {
        self.call(async |log| log.rooms(realm).await).await
    }

    async fn expire(&self, now_ms: u64, in_use: impl Fn(&RoomKey) -> bool + Send + Sync) {
        self.call(async |log| log.expire(now_ms, in_use).await).await;
    }
}

mod while_rooms_are_held {
    use super::*;

    room_log_contract!(TestLog::new(BetweenCalls::Nothing).await);
}

mod while_no_room_is_held {
    use super::*;

    room_log_contract!(TestLog::new(BetweenCalls::ForgetRooms).await);
}

mod across_restarts {
    use super::*;

    room_log_contract!(TestLog::new(BetweenCalls::Restart).await);
}
