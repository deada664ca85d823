//! A room log that lives and dies with the process.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{
    AppendError, Appended, Durability, Limit, LogFailed, Page, Position, Publication, Range,
    ReadError, Retention, RoomLog, Unreadable,
    history::{History, read_nothing},
};
use crate::{
    namespaces::Namespaces,
    room_key::{Realm, RoomKey},
};

/// See the module.
///
/// Each worker has one of its own: the lock is never waited for.
///
/// # Epochs
///
/// All rooms count from one epoch, which moves on whenever the log of a room is given up. A room's log is of the epoch in
/// which it got its first entry, so that a room without a log costs nothing, and yet a position before its first entry
/// is good for exactly as long as nothing can have been lost since.
#[derive(Debug)]
pub(crate) struct MemoryRoomLog {
    namespaces: Arc<Namespaces>,
    /// Of all rooms. At the bound, the logs that were quiet longest are given up.
    bytes_max: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    epoch: u64,
    /// When the last entry was appended that went with its room's log.
    given_up_to_ms: Option<u64>,
    rooms: HashMap<RoomKey, Room>,
    bytes: usize,
    appends: u64,
}

/// A room that has a log, which has had at least one entry.
#[derive(Debug)]
struct Room {
    history: History,
    /// Number of the last append among those of all rooms.
    last_append: u64,
}

impl MemoryRoomLog {
    /// `epoch` must differ from that of every earlier life of the process, as good random numbers do.
    pub(crate) fn new(epoch: u64, namespaces: Arc<Namespaces>, bytes_max: usize) -> Self {
        let state =
            State { epoch, given_up_to_ms: None, rooms: HashMap::new(), bytes: 0, appends: 0 };
        Self { namespaces, bytes_max, state: Mutex::new(state) }
    }

    fn retention(&self, room: &RoomKey) -> &Retention {
        &self.namespaces.get(room.namespace()).retention
    }

    /// A panic under the lock would end the worker, and the service with it: no one sees half a change.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RoomLog for MemoryRoomLog {
    async fn append(
        &self,
        room: &RoomKey,
        publication: Publication,
        now_ms: u64,
    ) -> Result<Appended, AppendError> {
        let retention = self.retention(room);
        Ok(self.state().append((room, retention), publication, now_ms, self.bytes_max))
    }

    async fn commit(&self) -> Result<(), LogFailed> {
        Ok(())
    }

    fn durability(&self, _: &RoomKey) -> Durability {
        Durability::Memory
    }

    async fn read(
        &self,
        room: &RoomKey,
        range: Range,
        limit: Limit,
        now_ms: u64,
    ) -> Result<Page, ReadError> {
        let mut state = self.state();
        let State { epoch, rooms, bytes, .. } = &mut *state;
        let Some(Room { history, .. }) = rooms.get_mut(room) else {
            return read_nothing(range, Position::start(*epoch));
        };
        *bytes -= freed(history, |history| history.trim(now_ms, self.retention(room)));
        history.read(range, limit)
    }

    async fn end(&self, room: &RoomKey) -> Result<Position, Unreadable> {
        let state = self.state();
        Ok(match state.rooms.get(room) {
            Some(room) => room.history.end(),
            None => Position::start(state.epoch),
        })
    }

    async fn rooms(&self, realm: Realm<'_>) -> Result<Vec<(RoomKey, Position)>, Unreadable> {
        let state = self.state();
        let is_listed = |room: &RoomKey| room.is_in(realm) && !room.is_inbox();
        let rooms = state.rooms.iter().filter(|(room, _)| is_listed(room));
        Ok(rooms.map(|(key, room)| (key.clone(), room.history.end())).collect())
    }

    async fn expire(&self, now_ms: u64, in_use: impl Fn(&RoomKey) -> bool + Send + Sync) {
        let mut state = self.state();
        let State { epoch, given_up_to_ms, rooms, bytes, appends: _ } = &mut *state;
        rooms.retain(|key, Room { history, .. }| {
            *bytes -= freed(history, |history| history.trim(now_ms, self.retention(key)));
            let keep = !history.is_empty() || in_use(key);
            if !keep {
                *given_up_to_ms = (*given_up_to_ms).max(Some(history.last_at_ms()));
                *bytes -= history.bytes();
                *epoch = epoch.wrapping_add(1);
            }
            keep
        });
    }
}

impl State {
    fn append(
        &mut self,
        (key, retention): (&RoomKey, &Retention),
        publication: Publication,
        now_ms: u64,
        bytes_max: usize,
    ) -> Appended {
        self.appends += 1;
        let room = match self.rooms.get_mut(key) {
            Some(room) => room,
            None => {
                let history = History::new(Position::start(self.epoch), 0, self.given_up_to_ms);
                self.bytes += history.bytes();
                self.rooms.entry(key.clone()).or_insert(Room { history, last_append: 0 })
            }
        };
        room.last_append = self.appends;
        self.bytes -= room.history.bytes();
        let appended = room.history.append(publication, now_ms, retention);
        self.bytes += room.history.bytes();
        if self.bytes > bytes_max {
            self.give_up_quiet_rooms(bytes_max);
        }
        appended
    }

    /// Gives up logs until an eighth of the bound is free, so that this is seldom done. The one that was appended to
    /// last is kept.
    fn give_up_quiet_rooms(&mut self, bytes_max: usize) {
        let mut quiet: Vec<(u64, RoomKey)> =
            self.rooms.iter().map(|(key, room)| (room.last_append, key.clone())).collect();
        quiet.sort_unstable_by_key(|(last_append, _)| *last_append);
        quiet.pop();
        for (_, key) in quiet {
            if self.bytes <= bytes_max - bytes_max / 8 {
                return;
            }
            if let Some(room) = self.rooms.remove(&key) {
                self.bytes -= room.history.bytes();
                self.given_up_to_ms = self.given_up_to_ms.max(Some(room.history.last_at_ms()));
                self.epoch = self.epoch.wrapping_add(1);
            }
        }
    }
}

/// How many bytes a change to a history frees.
fn freed(history: &mut History, change: impl FnOnce(&mut History)) -> usize {
    let before = history.bytes();
    change(history);
    before - history.bytes()
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use bytes::Bytes;

    use super::*;
    use crate::room_log::contract::{self, COUNT_MAX, keeping, publication, room};
    use crate::room_log::history::ROOM_BYTES_MAX;

    const BYTES_MAX: usize = 64 * 1024 * 1024;

    fn new_log() -> MemoryRoomLog {
        MemoryRoomLog::new(7, keeping(COUNT_MAX), BYTES_MAX)
    }

    crate::room_log::contract::room_log_contract!(new_log());

    fn bytes_of(log: &MemoryRoomLog) -> (usize, usize) {
        let state = log.state();
        (state.bytes, state.rooms.values().map(|room| room.history.bytes()).sum())
    }

    fn large() -> Publication {
        Publication { payload: Bytes::from(vec![b' '; ROOM_BYTES_MAX / 4]), ..publication("large") }
    }

    #[tokio::test]
    async fn the_oldest_entries_go_when_a_room_has_too_many_bytes() {
        let log = MemoryRoomLog::new(7, keeping(NonZeroUsize::MAX), BYTES_MAX);
        let before = log.end(&room()).await.unwrap();

        for _ in 0..5 {
            log.append(&room(), large(), 0).await.unwrap();
        }

        let limit = Limit { count: 10, bytes: usize::MAX };
        let page = log.read(&room(), Range::Newest, limit, 0).await.unwrap();
        assert_eq!(page.entries.len(), 3);
        assert_eq!(log.read(&room(), Range::After(before), limit, 0).await, Err(ReadError::Gap));
        let (total, sum) = bytes_of(&log);
        assert_eq!(total, sum);
        assert!(total <= ROOM_BYTES_MAX);
    }

    #[tokio::test]
    async fn the_rooms_that_were_quiet_longest_are_given_up_when_all_rooms_have_too_many_bytes() {
        let log = MemoryRoomLog::new(7, keeping(COUNT_MAX), 2 * ROOM_BYTES_MAX);
        let rooms: Vec<RoomKey> =
            (0..9).map(|n| RoomKey::parse("/chat", &format!("room-{n}")).unwrap()).collect();
        log.append(&rooms[0], publication("early"), 0).await.unwrap();
        for room in &rooms[1..8] {
            log.append(room, large(), 0).await.unwrap();
        }
        log.append(&rooms[1], publication("late"), 0).await.unwrap();
        assert_eq!(log.rooms(Realm::of_default("/chat")).await.unwrap().len(), 8);

        log.append(&rooms[8], large(), 0).await.unwrap();

        let rooms_left = log.rooms(Realm::of_default("/chat")).await.unwrap();
        let mut names: Vec<RoomKey> = rooms_left.into_iter().map(|room| room.0).collect();
        names.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        assert_eq!(names, [&rooms[1..2], &rooms[4..9]].concat());
        let (total, sum) = bytes_of(&log);
        assert_eq!(total, sum);
    }

    #[tokio::test]
    async fn an_expired_room_costs_nothing() {
        let log = new_log();
        for n in 0..100 {
            let room = RoomKey::parse("/chat", &format!("room-{n}")).unwrap();
            log.append(&room, publication("x"), 0).await.unwrap();
        }

        log.expire(contract::TOO_LATE_MS, |_| false).await;

        assert_eq!(bytes_of(&log), (0, 0));
        assert!(log.state().rooms.is_empty());
    }
}
