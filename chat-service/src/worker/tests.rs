//! What tests of a worker begin with, and those of one whose log fails it.

mod unreadable;

use std::sync::{
    Mutex,
    atomic::{AtomicBool, Ordering},
};

use super::*;
use crate::{
    room_key::Realm,
    room_log::{
        AppendError, Appended, Durability, Limit, MemoryRoomLog, Page, Position, Publication,
        Range, ReadError, Unreadable,
    },
};

/// Keeps what is committed, until it is told to fail.
pub(super) struct FragileLog {
    kept: MemoryRoomLog,
    pub(super) fails: AtomicBool,
    damage: Mutex<Damage>,
}

/// What of it cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Damage {
    Nothing,
    Entries,
    /// Where the logs end.
    Ends,
    All,
}

impl FragileLog {
    fn set_damage(&self, damage: Damage) {
        *self.damage.lock().unwrap() = damage;
    }

    fn need(&self, readable: Damage) -> Result<(), Unreadable> {
        let damage = *self.damage.lock().unwrap();
        if damage == Damage::All || damage == readable { Err(Unreadable) } else { Ok(()) }
    }
}

impl RoomLog for FragileLog {
    async fn append(
        &self,
        room: &RoomKey,
        publication: Publication,
        now_ms: u64,
    ) -> Result<Appended, AppendError> {
        self.need(Damage::Entries)?;
        self.kept.append(room, publication, now_ms).await
    }

    async fn commit(&self) -> Result<(), LogFailed> {
        if self.fails.load(Ordering::Relaxed) { Err(LogFailed) } else { Ok(()) }
    }

    fn durability(&self, room: &RoomKey) -> Durability {
        self.kept.durability(room)
    }

    async fn read(
        &self,
        room: &RoomKey,
        range: Range,
        limit: Limit,
        now_ms: u64,
    ) -> Result<Page, ReadError> {
        self.need(Damage::Entries)?;
        self.kept.read(room, range, limit, now_ms).await
    }

    async fn end(&self, room: &RoomKey) -> Result<Position, Unreadable> {
        self.need(Damage::Ends)?;
        self.kept.end(room).await
    }

    async fn rooms(&self, realm: Realm<'_>) -> Result<Vec<(RoomKey, Position)>, Unreadable> {
        self.need(Damage::Ends)?;
        self.kept.rooms(realm).await
    }

    async fn expire(&self, now_ms: u64, in_use: impl Fn(&RoomKey) -> bool + Send + Sync) {
        self.kept.expire(now_ms, in_use).await;
    }
}

/// A worker of such a log.
pub(super) fn fragile_worker(namespaces: &Arc<Namespaces>) -> Worker<FragileLog> {
    let kept = MemoryRoomLog::new(1, Arc::clone(namespaces), usize::MAX);
    let (fails, damage) = (AtomicBool::new(false), Mutex::new(Damage::Nothing));
    Worker::new(FragileLog { kept, fails, damage }, settings(Arc::clone(namespaces)))
}

/// Those of a worker that nothing bounds, and who is gone is gone at once.
pub(super) fn settings(namespaces: Arc<Namespaces>) -> WorkerSettings {
    WorkerSettings {
        tracer: Tracer::disabled(),
        metrics: Metrics::new(),
        expose_trace_ids: false,
        presence: PresenceTerms {
            grace: Duration::ZERO,
            list_max: 100,
            settled_at: Instant::now(),
        },
        namespaces,
        retained_bytes_max: usize::MAX,
        followed_users_max: usize::MAX,
        exclusions: ExclusionBounds { count_max: usize::MAX, room_bans_max: usize::MAX },
        registry: SocketRegistry::new(1),
    }
}
