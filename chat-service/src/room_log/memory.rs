//! A room log that lives and dies with the process.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::{
    Appended, Author, Durability, Entry, Gap, Limit, LogFailed, Page, Position, Publication, Range,
    Retention, RoomLog,
};
use crate::{namespaces::Namespaces, room_key::RoomKey};

/// Most bytes of entries kept for one room. The oldest go.
pub(crate) const ROOM_BYTES_MAX: usize = 4 * 1024 * 1024;

/// What an entry costs besides its texts: an estimate of its place in the list and of its allocations.
const ENTRY_OVERHEAD_BYTES: usize = 160;

/// What a room's log costs besides its entries.
const ROOM_OVERHEAD_BYTES: usize = 320;

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
    rooms: HashMap<RoomKey, History>,
    bytes: usize,
    appends: u64,
}

/// The log of one room. It has had at least one entry.
#[derive(Debug)]
struct History {
    epoch: u64,
    /// Offset of the oldest entry that is kept; where the next one will stand if none is.
    first: u64,
    entries: VecDeque<Kept>,
    offsets: HashMap<PublicationKey, u64>,
    bytes: usize,
    last_at_ms: u64,
    /// Number of the last append among those of all rooms.
    last_append: u64,
}

#[derive(Debug)]
struct Kept {
    entry: Arc<Entry>,
    author: Author,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct PublicationKey {
    author: Author,
    id: Box<str>,
}

impl MemoryRoomLog {
    /// `epoch` must differ from that of every earlier life of the process, as good random numbers do.
    pub(crate) fn new(epoch: u64, namespaces: Arc<Namespaces>, bytes_max: usize) -> Self {
        let state = State { epoch, rooms: HashMap::new(), bytes: 0, appends: 0 };
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
    ) -> Result<Appended, LogFailed> {
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
    ) -> Result<Page, Gap> {
        let mut state = self.state();
        let state = &mut *state;
        let Some(history) = state.rooms.get_mut(room) else {
            return match range {
                Range::After(position) | Range::Before(position)
                    if position != (Position { epoch: state.epoch, offset: 0 }) =>
                {
                    Err(Gap)
                }
                Range::After(_) | Range::Before(_) | Range::Newest => {
                    Ok(Page { entries: Vec::new(), more: false })
                }
            };
        };
        state.bytes -= history.trim(now_ms, self.retention(room));
        history.read(range, limit)
    }

    async fn end(&self, room: &RoomKey) -> Position {
        let state = self.state();
        match state.rooms.get(room) {
            Some(history) => history.end(),
            None => Position { epoch: state.epoch, offset: 0 },
        }
    }

    async fn rooms(&self, namespace: &str) -> Vec<(RoomKey, Position)> {
        let state = self.state();
        let rooms = state.rooms.iter().filter(|(room, _)| room.namespace() == namespace);
        rooms.map(|(room, history)| (room.clone(), history.end())).collect()
    }

    async fn expire(&self, now_ms: u64, in_use: impl Fn(&RoomKey) -> bool + Send) {
        let mut state = self.state();
        let State { epoch, rooms, bytes, appends: _ } = &mut *state;
        rooms.retain(|room, history| {
            *bytes -= history.trim(now_ms, self.retention(room));
            let keep = !history.entries.is_empty() || in_use(room);
            if !keep {
                *bytes -= history.bytes;
                *epoch = epoch.wrapping_add(1);
            }
            keep
        });
    }
}

impl State {
    fn append(
        &mut self,
        (room, retention): (&RoomKey, &Retention),
        publication: Publication,
        now_ms: u64,
        bytes_max: usize,
    ) -> Appended {
        self.appends += 1;
        let history = match self.rooms.get_mut(room) {
            Some(history) => history,
            None => {
                self.bytes += ROOM_OVERHEAD_BYTES;
                self.rooms.entry(room.clone()).or_insert(History::new(self.epoch))
            }
        };
        history.last_append = self.appends;
        self.bytes -= history.trim(now_ms, retention);

        let Publication { author, id, event, payload } = publication;
        let key = id.clone().map(|id| PublicationKey { author: author.clone(), id });
        if let Some(entry) = key.as_ref().and_then(|key| history.find(key)) {
            return Appended::Repeated(entry);
        }

        let position = history.next();
        history.last_at_ms = history.last_at_ms.max(now_ms);
        let entry =
            Arc::new(Entry { position, at_ms: history.last_at_ms, author_id: id, event, payload });
        if let Some(key) = key {
            history.offsets.insert(key, position.offset);
        }
        let cost = cost(&entry);
        history.bytes += cost;
        self.bytes += cost;
        history.entries.push_back(Kept { entry: Arc::clone(&entry), author });

        self.bytes -= history.trim(now_ms, retention);
        if self.bytes > bytes_max {
            self.give_up_quiet_rooms(bytes_max);
        }
        Appended::New(entry)
    }

    /// Gives up logs until an eighth of the bound is free, so that this is seldom done. The one that was appended to
    /// last is kept.
    fn give_up_quiet_rooms(&mut self, bytes_max: usize) {
        let mut quiet: Vec<(u64, RoomKey)> =
            self.rooms.iter().map(|(room, history)| (history.last_append, room.clone())).collect();
        quiet.sort_unstable_by_key(|(last_append, _)| *last_append);
        quiet.pop();
        for (_, room) in quiet {
            if self.bytes <= bytes_max - bytes_max / 8 {
                return;
            }
            if let Some(history) = self.rooms.remove(&room) {
                self.bytes -= history.bytes;
                self.epoch = self.epoch.wrapping_add(1);
            }
        }
    }
}

impl History {
    fn new(epoch: u64) -> Self {
        Self {
            epoch,
            first: 1,
            entries: VecDeque::new(),
            offsets: HashMap::new(),
            bytes: ROOM_OVERHEAD_BYTES,
            last_at_ms: 0,
            last_append: 0,
        }
    }

    fn next(&self) -> Position {
        Position { epoch: self.epoch, offset: self.first + self.entries.len() as u64 }
    }

    fn end(&self) -> Position {
        Position { epoch: self.epoch, offset: self.next().offset - 1 }
    }

    fn find(&self, key: &PublicationKey) -> Option<Arc<Entry>> {
        let offset = self.offsets.get(key)?;
        let index = usize::try_from(offset - self.first).ok()?;
        self.entries.get(index).map(|kept| Arc::clone(&kept.entry))
    }

    /// Drops the entries that are too many, too large together, or too old; tells how many bytes that freed. The newest
    /// goes only for its age.
    fn trim(&mut self, now_ms: u64, retention: &Retention) -> usize {
        let mut freed = 0;
        while let Some(oldest) = self.entries.front() {
            let age = Duration::from_millis(now_ms.saturating_sub(oldest.entry.at_ms));
            let too_large = self.bytes > ROOM_BYTES_MAX && self.entries.len() > 1;
            let too_many = self.entries.len() > retention.count_max.get();
            if !too_large && !too_many && age <= retention.age_max {
                break;
            }
            let Some(Kept { entry, author }) = self.entries.pop_front() else { break };
            self.first += 1;
            let cost = cost(&entry);
            self.bytes -= cost;
            freed += cost;
            if let Some(id) = entry.author_id.clone() {
                self.offsets.remove(&PublicationKey { author, id });
            }
        }
        freed
    }

    fn read(&self, range: Range, limit: Limit) -> Result<Page, Gap> {
        match range {
            Range::After(position) => {
                let start = self.index_after(position)?;
                let (taken, more) = take(self.entries.range(start..), limit);
                Ok(Page { entries: taken, more })
            }
            Range::Before(position) => {
                let end = self.index_after(position)?.saturating_sub(1);
                Ok(self.read_backwards(end, limit))
            }
            Range::Newest => Ok(self.read_backwards(self.entries.len(), limit)),
        }
    }

    fn read_backwards(&self, end: usize, limit: Limit) -> Page {
        let (mut taken, more) = take(self.entries.range(..end).rev(), limit);
        taken.reverse();
        Page { entries: taken, more }
    }

    /// Where in the list the entry after a position stands.
    fn index_after(&self, position: Position) -> Result<usize, Gap> {
        let next = position.offset.checked_add(1).ok_or(Gap)?;
        if position.epoch != self.epoch || next > self.next().offset {
            return Err(Gap);
        }
        let index = next.checked_sub(self.first).ok_or(Gap)?;
        usize::try_from(index).map_err(|_| Gap)
    }
}

fn take<'a>(kept: impl Iterator<Item = &'a Kept>, limit: Limit) -> (Vec<Arc<Entry>>, bool) {
    let mut taken = Vec::new();
    let mut bytes = 0;
    for Kept { entry, .. } in kept {
        bytes += cost(entry);
        if taken.len() == limit.count || (bytes > limit.bytes && !taken.is_empty()) {
            return (taken, true);
        }
        taken.push(Arc::clone(entry));
    }
    (taken, false)
}

fn cost(entry: &Entry) -> usize {
    // The author's id is held twice: in the entry and in the index.
    let id = entry.author_id.as_ref().map_or(0, |id| 2 * id.len() + ENTRY_OVERHEAD_BYTES);
    ENTRY_OVERHEAD_BYTES + entry.payload.len() + id
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use bytes::Bytes;

    use super::*;
    use crate::room_log::contract::{self, COUNT_MAX, keeping, publication, room};

    const BYTES_MAX: usize = 64 * 1024 * 1024;

    fn new_log() -> MemoryRoomLog {
        MemoryRoomLog::new(7, keeping(COUNT_MAX), BYTES_MAX)
    }

    crate::room_log::contract::room_log_contract!(new_log());

    fn bytes_of(log: &MemoryRoomLog) -> (usize, usize) {
        let state = log.state();
        (state.bytes, state.rooms.values().map(|history| history.bytes).sum())
    }

    fn large() -> Publication {
        Publication { payload: Bytes::from(vec![b' '; ROOM_BYTES_MAX / 4]), ..publication("large") }
    }

    #[tokio::test]
    async fn the_oldest_entries_go_when_a_room_has_too_many_bytes() {
        let log = MemoryRoomLog::new(7, keeping(NonZeroUsize::MAX), BYTES_MAX);
        let before = log.end(&room()).await;

        for _ in 0..5 {
            log.append(&room(), large(), 0).await.unwrap();
        }

        let limit = Limit { count: 10, bytes: usize::MAX };
        let page = log.read(&room(), Range::Newest, limit, 0).await.unwrap();
        assert_eq!(page.entries.len(), 3);
        assert_eq!(log.read(&room(), Range::After(before), limit, 0).await, Err(Gap));
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
        assert_eq!(log.rooms("/chat").await.len(), 8);

        log.append(&rooms[8], large(), 0).await.unwrap();

        let mut names: Vec<RoomKey> = log.rooms("/chat").await.into_iter().map(|r| r.0).collect();
        names.sort_by(|a, b| a.name().cmp(b.name()));
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
