//! The room log of the service: on disk or in memory, as the namespace has it.

use std::{path::Path, sync::Arc};

use super::{
    AppendError, Appended, Durability, KeptExclusions, Limit, LogFailed, MemoryRoomLog,
    OpenStoreError, Page, Position, Publication, Range, ReadError, RoomLog, Standings, Unreadable,
    disk::{DiskBounds, DiskRoomLog, Threads},
};
use crate::{
    namespaces::Namespaces,
    room_key::{Realm, RoomKey},
};

/// See the module. Each worker has one of its own.
#[derive(Debug)]
pub(crate) struct ServiceRoomLog {
    namespaces: Arc<Namespaces>,
    memory: MemoryRoomLog,
    /// There is one where a namespace needs it.
    disk: Option<DiskRoomLog>,
}

/// How much there may be of all rooms.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Of those in memory.
    pub(crate) memory_bytes_max: usize,
    /// Of those on disk, there.
    pub(crate) disk_bytes_max: u64,
    /// Of those on disk, held in memory too.
    pub(crate) held_bytes_max: usize,
    pub(crate) threads: Threads,
}

impl ServiceRoomLog {
    /// Returns the log of each worker. `directory` is for the namespaces that are on disk. `epoch` must differ from that of
    /// every earlier life of the process, as good random numbers do.
    pub(crate) async fn open(
        directory: Option<&Path>,
        epoch: u64,
        namespaces: &Arc<Namespaces>,
        bounds: Bounds,
        workers: usize,
    ) -> Result<Vec<Self>, OpenStoreError> {
        let share = workers.max(1);
        let of_disk = DiskBounds {
            stored_bytes_max: bounds.disk_bytes_max / share as u64,
            held_bytes_max: bounds.held_bytes_max / share,
            threads: bounds.threads,
        };
        let disks: Vec<Option<DiskRoomLog>> = match directory {
            Some(directory) => {
                let namespaces = Arc::clone(namespaces);
                let logs =
                    DiskRoomLog::open(directory, epoch, namespaces, of_disk, workers).await?;
                logs.into_iter().map(Some).collect()
            }
            None => (0..workers).map(|_| None).collect(),
        };
        let log = |disk| Self {
            namespaces: Arc::clone(namespaces),
            memory: MemoryRoomLog::new(
                epoch,
                Arc::clone(namespaces),
                bounds.memory_bytes_max / share,
            ),
            disk,
        };
        Ok(disks.into_iter().map(log).collect())
    }

    /// The log on disk, if that is where the rooms of a namespace are.
    fn disk(&self, namespace: &str) -> Option<&DiskRoomLog> {
        let durability = self.namespaces.get(namespace).durability;
        self.disk.as_ref().filter(|_| durability != Durability::Memory)
    }
}

impl RoomLog for ServiceRoomLog {
    async fn append(
        &self,
        room: &RoomKey,
        publication: Publication,
        now_ms: u64,
    ) -> Result<Appended, AppendError> {
        match self.disk(room.namespace()) {
            Some(disk) => disk.append(room, publication, now_ms).await,
            None => self.memory.append(room, publication, now_ms).await,
        }
    }

    async fn commit(&self) -> Result<(), LogFailed> {
        match &self.disk {
            Some(disk) => disk.commit().await,
            None => Ok(()),
        }
    }

    fn durability(&self, room: &RoomKey) -> Durability {
        match self.disk(room.namespace()) {
            Some(disk) => disk.durability(room),
            None => Durability::Memory,
        }
    }

    async fn read(
        &self,
        room: &RoomKey,
        range: Range,
        limit: Limit,
        now_ms: u64,
    ) -> Result<Page, ReadError> {
        match self.disk(room.namespace()) {
            Some(disk) => disk.read(room, range, limit, now_ms).await,
            None => self.memory.read(room, range, limit, now_ms).await,
        }
    }

    async fn end(&self, room: &RoomKey) -> Result<Position, Unreadable> {
        match self.disk(room.namespace()) {
            Some(disk) => disk.end(room).await,
            None => self.memory.end(room).await,
        }
    }

    async fn rooms(&self, realm: Realm<'_>) -> Result<Vec<(RoomKey, Position)>, Unreadable> {
        match self.disk(realm.namespace) {
            Some(disk) => disk.rooms(realm).await,
            None => self.memory.rooms(realm).await,
        }
    }

    fn standings(&self) -> Option<&Standings> {
        self.disk.as_ref()?.standings()
    }

    fn exclusions(&self) -> Option<&KeptExclusions> {
        self.disk.as_ref()?.exclusions()
    }

    async fn expire(&self, now_ms: u64, in_use: impl Fn(&RoomKey) -> bool + Send + Sync) {
        self.memory.expire(now_ms, &in_use).await;
        if let Some(disk) = &self.disk {
            disk.expire(now_ms, in_use).await;
        }
    }
}
