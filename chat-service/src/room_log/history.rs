//! The log of one room, as it is held in memory.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use super::{
    Appended, Author, Entry, Limit, Page, Position, Publication, PublicationId, Range,
    ReadError::{self, Gap},
    Retention,
};

/// Most bytes of entries kept for one room. The oldest go.
pub(super) const ROOM_BYTES_MAX: usize = 4 * 1024 * 1024;

/// What an entry costs besides its texts: an estimate of its place in the list and of its allocations.
const ENTRY_OVERHEAD_BYTES: usize = 160;

/// What a room's log costs besides its entries.
const ROOM_OVERHEAD_BYTES: usize = 320;

/// See the module.
#[derive(Debug)]
pub(super) struct History {
    /// Of the entry before the oldest that is kept.
    before: Position,
    entries: VecDeque<Kept>,
    offsets: HashMap<PublicationKey, u64>,
    bytes: usize,
    last_at_ms: u64,
    /// When the last entry was appended that may have gone with an earlier log of the room, if there may have been one.
    given_up_to_ms: Option<u64>,
}

#[derive(Debug)]
struct Kept {
    entry: Arc<Entry>,
    author: Author,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct PublicationKey {
    author: Author,
    id: PublicationId,
}

impl History {
    /// `before` is the position of the entry before the first.
    pub(super) fn new(before: Position, last_at_ms: u64, given_up_to_ms: Option<u64>) -> Self {
        Self {
            before,
            entries: VecDeque::new(),
            offsets: HashMap::new(),
            bytes: ROOM_OVERHEAD_BYTES,
            last_at_ms,
            given_up_to_ms,
        }
    }

    /// Of the entry before the oldest that is kept.
    pub(super) fn before(&self) -> Position {
        self.before
    }

    /// Of the newest entry.
    pub(super) fn end(&self) -> Position {
        self.entries.back().map_or(self.before, |kept| kept.entry.position)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What it costs.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// When the last entry was appended, also where that is gone by now.
    pub(super) fn last_at_ms(&self) -> u64 {
        self.last_at_ms
    }

    /// When the last entry was appended that may have gone with an earlier log of the room.
    pub(super) fn given_up_to_ms(&self) -> Option<u64> {
        self.given_up_to_ms
    }

    /// Drops what is too much, before and after.
    pub(super) fn append(
        &mut self,
        publication: Publication,
        now_ms: u64,
        retention: &Retention,
    ) -> Appended {
        self.trim(now_ms, retention);
        let Publication { author, id, .. } = &publication;
        if let Some(id) = id
            && let Some(entry) =
                self.find(&PublicationKey { author: author.clone(), id: id.clone() })
        {
            return Appended::Repeated(entry);
        }
        if publication.repeated_since_ms.is_some_and(|since_ms| self.may_have_dropped(since_ms)) {
            return Appended::Unknown;
        }

        let at_ms = self.last_at_ms.max(now_ms);
        let position = self.end().next(&publication, at_ms);
        let entry = self.push(position, publication, at_ms);
        self.trim(now_ms, retention);
        Appended::New(entry)
    }

    /// Adds what stands at the next position.
    pub(super) fn push(
        &mut self,
        position: Position,
        publication: Publication,
        at_ms: u64,
    ) -> Arc<Entry> {
        let Publication { author, id, repeated_since_ms: _, event, payload, except_users } =
            publication;
        if let Some(id) = id.clone() {
            self.offsets.insert(PublicationKey { author: author.clone(), id }, position.offset);
        }
        let entry =
            Arc::new(Entry { position, at_ms, publication_id: id, event, payload, except_users });
        self.last_at_ms = at_ms;
        self.bytes += cost(&entry);
        self.entries.push_back(Kept { entry: Arc::clone(&entry), author });
        entry
    }

    /// Whether something that was appended since then may be gone. Times never go back.
    fn may_have_dropped(&self, since_ms: u64) -> bool {
        let oldest_at_ms = self.entries.front().map_or(self.last_at_ms, |kept| kept.entry.at_ms);
        let has_dropped = self.before.offset > 0 && oldest_at_ms >= since_ms;
        has_dropped || self.given_up_to_ms >= Some(since_ms)
    }

    /// Drops the entries that are too many, too large together, or too old. The newest goes only for its age.
    pub(super) fn trim(&mut self, now_ms: u64, retention: &Retention) {
        while let Some(oldest) = self.entries.front() {
            let age = Duration::from_millis(now_ms.saturating_sub(oldest.entry.at_ms));
            let too_large = self.bytes > ROOM_BYTES_MAX && self.entries.len() > 1;
            let too_many = self.entries.len() > retention.count_max.get();
            if !too_large && !too_many && age <= retention.age_max {
                break;
            }
            let Some(Kept { entry, author }) = self.entries.pop_front() else { break };
            self.before = entry.position;
            self.bytes -= cost(&entry);
            if let Some(id) = entry.publication_id.clone() {
                let key = PublicationKey { author, id };
                // A later one has taken its place where the log was read back in part.
                if self.offsets.get(&key) == Some(&entry.position.offset) {
                    self.offsets.remove(&key);
                }
            }
        }
    }

    pub(super) fn read(&self, range: Range, limit: Limit) -> Result<Page, ReadError> {
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
    fn index_after(&self, position: Position) -> Result<usize, ReadError> {
        let index = position.offset.checked_sub(self.before.offset).ok_or(Gap)?;
        let index = usize::try_from(index).map_err(|_| Gap)?;
        let here = match index.checked_sub(1) {
            None => self.before,
            Some(index) => self.entries.get(index).ok_or(Gap)?.entry.position,
        };
        if here == position { Ok(index) } else { Err(Gap) }
    }

    fn find(&self, key: &PublicationKey) -> Option<Arc<Entry>> {
        let offset = self.offsets.get(key)?;
        let index = usize::try_from(offset - self.before.offset - 1).ok()?;
        self.entries.get(index).map(|kept| Arc::clone(&kept.entry))
    }
}

/// Reads the log of a room that has none: only the position before its first entry is good.
pub(super) fn read_nothing(range: Range, start: Position) -> Result<Page, ReadError> {
    match range {
        Range::After(position) | Range::Before(position) if position != start => Err(Gap),
        Range::After(_) | Range::Before(_) | Range::Newest => {
            Ok(Page { entries: Vec::new(), more: false })
        }
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
    let id = entry.publication_id.as_ref().map_or(0, |id| 2 * id.len() + ENTRY_OVERHEAD_BYTES);
    let except_users = entry.except_users.iter().map(|user| user.len() + size_of::<Box<str>>());
    ENTRY_OVERHEAD_BYTES + entry.payload.len() + id + except_users.sum::<usize>()
}
