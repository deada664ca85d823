//! The rooms that are held in memory, and what is to be written of them.

use std::{collections::HashMap, mem};

use super::{
    batch::Batch,
    record::{self, StoredEpoch, StoredRoom},
};
use crate::{
    room_key::{Realm, RoomKey},
    room_log::{Appended, LogFailed, Position, Publication, Retention, history::History},
};

/// By how much the time at which a room gets too old may be noted too early. It spares writing it with each entry.
const DUE_EARLY_MS_MAX: u64 = 60_000;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Rooms {
    worker: usize,
    held: HashMap<RoomKey, HeldRoom>,
    held_bytes: usize,
    uses: u64,
    /// Not yet committed.
    batch: Batch,
    /// The rooms that the batch changes.
    touched: Vec<RoomKey>,
    has_appended: bool,
    has_given_up: bool,
    /// When the last entry was appended that went with its room's log.
    given_up_to_ms: Option<u64>,
    /// Of all rooms that fall to the worker, held or not.
    pub(super) stored_bytes: u64,
    /// The same, as far as it is committed.
    committed_bytes: u64,
}

/// A room that has a log.
#[derive(Debug)]
pub(super) struct HeldRoom {
    number: u64,
    history: History,
    stored: Option<StoredRoom>,
    is_touched: bool,
    last_use: u64,
}

/// What is to be committed, and what it is about.
#[derive(Debug)]
pub(super) struct Changes {
    pub(super) batch: Batch,
    pub(super) rooms: Vec<RoomKey>,
    /// There are new entries among it.
    pub(super) has_appended: bool,
    /// It begins once this is committed: logs were given up, and rooms that have none stand at another start from then on.
    pub(super) epoch: Option<u64>,
}

impl HeldRoom {
    /// One that was read back.
    pub(super) fn stored(stored: StoredRoom, history: History) -> Self {
        let number = stored.number;
        Self { number, history, stored: Some(stored), is_touched: false, last_use: 0 }
    }

    fn new(number: u64, start: Position, given_up_to_ms: Option<u64>) -> Self {
        let history = History::new(start, 0, given_up_to_ms);
        Self { number, history, stored: None, is_touched: false, last_use: 0 }
    }
}

impl Rooms {
    pub(super) fn new(worker: usize, stored_bytes: u64, given_up_to_ms: Option<u64>) -> Self {
        let committed_bytes = stored_bytes;
        Self { worker, stored_bytes, committed_bytes, given_up_to_ms, ..Self::default() }
    }

    pub(super) fn holds(&self, key: &RoomKey) -> bool {
        self.held.contains_key(key)
    }

    pub(super) fn hold(&mut self, key: &RoomKey, room: HeldRoom) {
        self.uses += 1;
        let room = HeldRoom { last_use: self.uses, ..room };
        self.held_bytes += room.history.bytes();
        self.held.insert(key.clone(), room);
    }

    pub(super) fn end(&self, key: &RoomKey) -> Option<Position> {
        self.held.get(key).map(|room| room.history.end())
    }

    /// Those that are held of a tenant in a namespace, without inboxes.
    pub(super) fn ends<'a>(
        &'a self,
        realm: Realm<'a>,
    ) -> impl Iterator<Item = (RoomKey, Position)> + 'a {
        let is_listed = move |key: &RoomKey| key.is_in(realm) && !key.is_inbox();
        let rooms = self.held.iter().filter(move |(key, _)| is_listed(key));
        rooms.map(|(key, room)| (key.clone(), room.history.end()))
    }

    /// The room's log without what is too much of it by now.
    pub(super) fn trimmed(
        &mut self,
        key: &RoomKey,
        now_ms: u64,
        retention: &Retention,
    ) -> Option<&History> {
        self.note_use(key);
        self.change(key, |history| history.trim(now_ms, retention))?;
        self.held.get(key).map(|room| &room.history)
    }

    /// Appends to a room, which is new if it is not held.
    pub(super) fn append(
        &mut self,
        (key, retention): (&RoomKey, &Retention),
        publication: Publication,
        now_ms: u64,
        new: impl FnOnce() -> (u64, Position),
    ) -> Option<Appended> {
        if !self.held.contains_key(key) {
            let (number, start) = new();
            self.hold(key, HeldRoom::new(number, start, self.given_up_to_ms));
        }
        self.note_use(key);
        let author = publication.author.clone();
        let number = self.held.get(key)?.number;
        let mut appended = None;
        let mut batch = mem::take(&mut self.batch);
        self.change_with(key, &mut batch, |history, batch| {
            let new = history.append(publication, now_ms, retention);
            if let Appended::New(entry) = &new {
                record::put_entry(batch, number, entry, &author);
            }
            appended = Some(new);
        });
        self.batch = batch;
        if matches!(appended, Some(Appended::New(_))) {
            self.has_appended = true;
            self.touch(key);
        }
        appended
    }

    fn note_use(&mut self, key: &RoomKey) {
        self.uses += 1;
        if let Some(room) = self.held.get_mut(key) {
            room.last_use = self.uses;
        }
    }

    fn change(&mut self, key: &RoomKey, change: impl FnOnce(&mut History)) -> Option<()> {
        let mut batch = mem::take(&mut self.batch);
        let changed = self.change_with(key, &mut batch, |history, _| change(history));
        self.batch = batch;
        changed
    }

    /// Changes a room's log, and takes out of the store what was dropped from it.
    fn change_with(
        &mut self,
        key: &RoomKey,
        batch: &mut Batch,
        change: impl FnOnce(&mut History, &mut Batch),
    ) -> Option<()> {
        let room = self.held.get_mut(key)?;
        let (before, bytes) = (room.history.before().offset, room.history.bytes());
        change(&mut room.history, batch);
        self.held_bytes = self.held_bytes + room.history.bytes() - bytes;
        let first_kept = room.history.before().offset + 1;
        for offset in before + 1..first_kept {
            batch.remove(&record::entry_key(room.number, offset));
        }
        if first_kept > before + 1 {
            self.touch(key);
        }
        Some(())
    }

    /// Has the room be written with the next changes.
    pub(super) fn touch(&mut self, key: &RoomKey) {
        if let Some(room) = self.held.get_mut(key)
            && !mem::replace(&mut room.is_touched, true)
        {
            self.touched.push(key.clone());
        }
    }

    /// Drops what is too much of each room that is held.
    pub(super) fn trim_all<'a>(&mut self, now_ms: u64, of: impl Fn(&RoomKey) -> &'a Retention) {
        let keys: Vec<RoomKey> = self.held.keys().cloned().collect();
        for key in keys {
            self.change(&key, |history| history.trim(now_ms, of(&key)));
        }
    }

    pub(super) fn is_empty(&self, key: &RoomKey) -> Option<bool> {
        self.held.get(key).map(|room| room.history.is_empty())
    }

    /// Takes a room and all its entries out of the store. What is to be known of it is in the store.
    pub(super) fn give_up(&mut self, key: &RoomKey, stored: &StoredRoom) {
        if let Some(room) = self.held.remove(key) {
            self.held_bytes -= room.history.bytes();
        }
        self.touched.retain(|touched| touched != key);
        for offset in stored.before_offset + 1..=stored.end_offset {
            self.batch.remove(&record::entry_key(stored.number, offset));
        }
        self.batch.remove(&record::due_key(stored.due_at_ms, stored.number));
        self.batch.remove(&record::room_key(key));
        self.stored_bytes = self.stored_bytes.saturating_sub(stored.bytes);
        self.has_given_up = true;
        self.given_up_to_ms = self.given_up_to_ms.max(Some(stored.last_at_ms));
    }

    /// Notes when a room that is not held gets too old.
    pub(super) fn postpone(&mut self, key: &RoomKey, stored: &StoredRoom, due_at_ms: u64) {
        self.batch.remove(&record::due_key(stored.due_at_ms, stored.number));
        self.batch.put(&record::due_key(due_at_ms, stored.number), key.as_str().as_bytes());
        record::put_room(&mut self.batch, key, &StoredRoom { due_at_ms, ..*stored });
    }

    /// Hands over what is to be committed. `due` says when the last entry of a room gets too old, `fsync` whether it must
    /// survive a power cut, `reserve` which epoch comes next.
    pub(super) fn take_changes(
        &mut self,
        due: impl Fn(&RoomKey, u64) -> u64,
        fsync: impl Fn(&RoomKey) -> bool,
        reserve: impl FnOnce() -> u64,
    ) -> Changes {
        let mut batch = mem::take(&mut self.batch);
        let rooms = mem::take(&mut self.touched);
        for key in &rooms {
            let Some(room) = self.held.get_mut(key) else { continue };
            room.is_touched = false;
            batch.fsync |= fsync(key);
            let due_at_ms = due(key, room.history.last_at_ms());
            let earlier = room.stored.as_ref();
            let earlier_bytes = earlier.map_or(0, |stored| stored.bytes);
            self.stored_bytes =
                (self.stored_bytes + room.history.bytes() as u64).saturating_sub(earlier_bytes);
            let noted = earlier.map(|stored| stored.due_at_ms);
            let noted = noted.filter(|noted| {
                (due_at_ms.saturating_sub(DUE_EARLY_MS_MAX)..=due_at_ms).contains(noted)
            });
            if noted.is_none() {
                if let Some(stored) = earlier {
                    batch.remove(&record::due_key(stored.due_at_ms, room.number));
                }
                batch.put(&record::due_key(due_at_ms, room.number), key.as_str().as_bytes());
            }
            let stored = room.to_stored(noted.unwrap_or(due_at_ms));
            record::put_room(&mut batch, key, &stored);
            room.stored = Some(stored);
        }
        let epoch = mem::take(&mut self.has_given_up).then(reserve);
        if let Some(epoch) = epoch {
            // Rooms of every durability count from it.
            batch.fsync = true;
            let stored = StoredEpoch { epoch, given_up_to_ms: self.given_up_to_ms };
            record::put_epoch(&mut batch, self.worker, stored);
        }
        Changes { batch, rooms, has_appended: mem::take(&mut self.has_appended), epoch }
    }

    /// Takes note of what became of the changes that were handed over last, those of these rooms. Where they could not be
    /// committed, what the store has of the rooms holds.
    pub(super) fn settle(&mut self, rooms: &[RoomKey], committed: Result<(), LogFailed>) {
        match committed {
            Ok(()) => self.committed_bytes = self.stored_bytes,
            Err(LogFailed) => {
                self.stored_bytes = self.committed_bytes;
                self.forget(rooms);
            }
        }
    }

    fn forget(&mut self, rooms: &[RoomKey]) {
        for key in rooms {
            if let Some(room) = self.held.remove(key) {
                self.held_bytes -= room.history.bytes();
            }
        }
    }

    /// Holds fewer rooms, if they are too many bytes: an eighth less than may be, so that this is seldom done. Those whose
    /// changes wait to be committed are kept, and the one that was used last: whoever has asked for it is about to read.
    pub(super) fn release(&mut self, bytes_max: usize) {
        if self.held_bytes <= bytes_max {
            return;
        }
        let mut quiet: Vec<(u64, bool, RoomKey)> = (self.held.iter())
            .map(|(key, room)| (room.last_use, room.is_touched, key.clone()))
            .collect();
        quiet.sort_unstable_by_key(|(last_use, ..)| *last_use);
        quiet.pop();
        for (_, is_touched, key) in quiet {
            if self.held_bytes <= bytes_max - bytes_max / 8 {
                return;
            }
            if !is_touched {
                self.forget(&[key]);
            }
        }
    }

    #[cfg(test)]
    pub(super) fn forget_all(&mut self) {
        let rooms: Vec<RoomKey> = self.held.keys().cloned().collect();
        self.forget(&rooms);
    }

    #[cfg(test)]
    pub(super) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    #[cfg(test)]
    pub(super) fn held_count(&self) -> usize {
        self.held.len()
    }
}

impl HeldRoom {
    fn to_stored(&self, due_at_ms: u64) -> StoredRoom {
        let (before, end) = (self.history.before(), self.history.end());
        StoredRoom {
            number: self.number,
            epoch: end.epoch,
            before_offset: before.offset,
            before_tag: before.tag,
            end_offset: end.offset,
            end_tag: end.tag,
            last_at_ms: self.history.last_at_ms(),
            bytes: self.history.bytes() as u64,
            due_at_ms,
            given_up_to_ms: self.history.given_up_to_ms(),
        }
    }
}
