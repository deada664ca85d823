//! What is remembered of a socket so that it can come back.

use std::time::Instant;

use super::{
    brought::Brought,
    lag::Lag,
    log::{Missed, Reader, RecoveryLog, Stay},
};
use crate::{
    session_id::SessionId,
    shard::audience::Owner,
    socket::{Identity, Socket},
};

/// Most stays in rooms that have ended and are remembered of one socket.
const ENDED_STAYS_MAX: usize = 256;

/// The memory of one socket that may come back, beside its namespace's log.
#[derive(Debug)]
pub(crate) struct Recoverable {
    /// What its client calls it by. Only that client knows it.
    pub(crate) id: SessionId,
    /// The number of the log's last entry when the socket came here.
    since: u64,
    stays: Vec<Stay>,
    /// The end of the last stay that is not known any more: what somebody missed before cannot be told.
    forgotten: u64,
    /// What it missed elsewhere, and may not have got yet.
    brought: Brought,
    /// The offset before `brought`; none if the client has never had one.
    brought_after: Option<Box<str>>,
    /// When its client came, or came back: what it missed was sent then.
    came_at: Instant,
    /// Whatever it was to get before, its client has got.
    confirmed_at: Option<Instant>,
    doubles: Doubles,
    /// The time when it was not given everything in its order.
    pub(super) lag: Option<Box<Lag>>,
    /// The last claim on it, and how far in the log what was handed over with it reaches.
    claim: Option<(u64, u64)>,
}

/// A search for what a socket has missed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Search<'a> {
    pub(super) log: &'a RecoveryLog,
    pub(super) handle: u64,
    pub(super) owner: Owner<'a>,
    /// Whatever is older, its client has got for certain.
    pub(super) confirmed_at: Option<Instant>,
}

impl<'a> Search<'a> {
    pub(super) fn of(
        socket: &'a Socket,
        log: &'a RecoveryLog,
        confirmed_at: Option<Instant>,
    ) -> Self {
        let owner = socket.identity.as_deref().map(Identity::owner);
        Self { log, handle: socket.handle, owner, confirmed_at }
    }
}

/// What came to a socket here that it brought from elsewhere too.
#[derive(Debug, Default)]
pub(super) struct Doubles {
    /// By their numbers in the log.
    pub(super) numbers: Vec<u64>,
    /// What has a place in a room's log, by its fingerprint: it may come later than the socket.
    pub(super) logged: Vec<u64>,
}

impl Recoverable {
    pub(super) fn new(id: SessionId, since: u64, now: Instant) -> Self {
        Self {
            id,
            since,
            stays: Vec::new(),
            forgotten: 0,
            brought: Brought::default(),
            brought_after: None,
            came_at: now,
            confirmed_at: None,
            doubles: Doubles::default(),
            lag: None,
            claim: None,
        }
    }

    /// Adds what a socket brings from where it was before.
    pub(super) fn bring(&mut self, offset: Option<Box<str>>, brought: Brought, doubles: Doubles) {
        self.brought_after = offset;
        self.brought = brought;
        self.doubles = doubles;
    }

    /// Notes which entries of the log have been brought too.
    pub(super) fn note_doubles(&mut self, numbers: Vec<u64>) {
        self.doubles.numbers = numbers;
    }

    /// Whether it holds what its client may have missed elsewhere.
    pub(super) fn has_brought(&self) -> bool {
        !self.brought.missed.is_empty()
    }

    /// Its client has come, or has come back. A claim of somebody else is void then.
    pub(super) fn came(&mut self, now: Instant, missed: &[Missed]) {
        if missed.is_empty() {
            self.confirmed_at = Some(now);
        }
        self.came_at = now;
        self.claim = None;
        self.lag = None;
    }

    /// Whatever it was to get before, its client has got: `confirmed_at` holds for what was sent on the present connection,
    /// and what was sent since the client came includes what it missed before.
    pub(super) fn confirmed_at(&self, confirmed_at: Option<Instant>) -> Option<Instant> {
        confirmed_at.filter(|confirmed| self.came_at < *confirmed).or(self.confirmed_at)
    }

    /// Whether an event that comes now has been brought.
    pub(crate) fn has_got(&self, fingerprint: u64) -> bool {
        self.doubles.logged.contains(&fingerprint)
    }

    /// The last claim on it; none once its client has come back here.
    pub(super) fn claim_number(&self) -> Option<u64> {
        self.claim.map(|(number, _)| number)
    }

    pub(super) fn claim(&mut self, number: u64, reaches: u64) {
        self.claim = Some((number, reaches));
    }

    /// How far what was handed over with this claim reaches; none if another claim came after it.
    pub(super) fn claimed(&self, number: u64) -> Option<u64> {
        self.claim.filter(|(known, _)| *known == number).map(|(_, reaches)| reaches)
    }

    pub(super) fn join(&mut self, room: &str, last: u64, first: u64) {
        self.stays.retain(|stay| stay.until >= first);
        // Also one that has ended after the last entry: it has missed nothing in between.
        let goes_on = |stay: &&mut Stay| *stay.room == *room && stay.until >= last;
        match self.stays.iter_mut().find(goes_on) {
            Some(stay) => stay.until = u64::MAX,
            None => self.stays.push(Stay { room: room.into(), from: last, until: u64::MAX }),
        }
    }

    /// It had left this room before it came here.
    pub(super) fn was_never_in(&mut self, room: &str) {
        self.stays.retain(|stay| *stay.room != *room);
    }

    pub(super) fn leave(&mut self, room: &str, last: u64) {
        let is_in = |stay: &Stay| *stay.room == *room && stay.until == u64::MAX;
        let Some(place) = self.stays.iter().position(is_in) else { return };
        let mut stay = self.stays.remove(place);
        if stay.from < last {
            stay.until = last;
            self.stays.push(stay);
        }
        let has_ended = |stay: &Stay| stay.until != u64::MAX;
        if self.stays.iter().filter(|stay| has_ended(stay)).count() > ENDED_STAYS_MAX
            && let Some(first) = self.stays.iter().position(has_ended)
        {
            self.forgotten = self.stays.remove(first).until;
        }
    }

    /// Notes what its client has got for certain, and forgets what was brought once that is part of it; returns whether so.
    pub(super) fn settle(&mut self, confirmed_at: Option<Instant>) -> bool {
        let Some(confirmed) = confirmed_at.filter(|confirmed| self.came_at < *confirmed) else {
            return false;
        };
        self.confirmed_at = Some(confirmed);
        if let Some(last) = std::mem::take(&mut self.brought).missed.pop() {
            self.brought_after = Some(last.offset);
        }
        self.doubles.logged = Vec::new();
        true
    }

    /// What the client has missed that has seen all up to `offset`; none if nobody can tell.
    pub(super) fn missed(&self, search: &Search<'_>, offset: Option<&str>) -> Option<Vec<Missed>> {
        let (brought, after) = self.standing(search.log, offset)?;
        let confirmed_at = match &self.lag {
            Some(lag) => lag.certain(after, search.confirmed_at).ok()?,
            None => search.confirmed_at,
        };
        let here = self.missed_after(&Search { confirmed_at, ..*search }, after)?;
        Some(brought.iter().cloned().chain(here).collect())
    }

    /// What the client has missed after entry `after` of the log.
    pub(super) fn missed_after(&self, search: &Search<'_>, after: u64) -> Option<Vec<Missed>> {
        let Search { log, handle, owner, confirmed_at } = *search;
        if after < self.forgotten {
            return None;
        }
        let reader = Reader { handle, owner, stays: &self.stays };
        log.missed(reader, after, confirmed_at, &self.doubles).ok()
    }

    /// What is in the log here of that which was given elsewhere too.
    pub(super) fn doubles(&self, search: &Search<'_>, known: &[Missed]) -> Vec<u64> {
        let Search { log, handle, owner, .. } = *search;
        log.doubles(Reader { handle, owner, stays: &self.stays }, self.since, known)
    }

    /// What of that which was brought comes after an offset, and from where on to look in the log.
    fn standing(&self, log: &RecoveryLog, offset: Option<&str>) -> Option<(&[Missed], u64)> {
        let brought = &self.brought.missed;
        if offset == self.brought_after.as_deref() || offset.is_none() {
            return Some((brought, self.since));
        }
        let offset = offset?;
        if let Some(place) = brought.iter().position(|one| *one.offset == *offset) {
            return Some((brought.get(place + 1..)?, self.since));
        }
        let number = log.number_of(offset).filter(|number| *number >= self.since)?;
        Some((&[], number))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proto::edge::v1::{Audience, Emit};

    use super::*;

    const LONG: Duration = Duration::from_secs(100);

    fn missed(offset: &str) -> Missed {
        Missed {
            offset: offset.into(),
            frames: offset.to_owned().into(),
            fingerprint: 0,
            is_logged: false,
        }
    }

    fn brought(missed: impl Into<Vec<Missed>>) -> Brought {
        Brought { missed: missed.into(), ..Brought::default() }
    }

    fn log_with(events: usize) -> RecoveryLog {
        let mut log = RecoveryLog::new(LONG, LONG);
        for _ in 0..events {
            let audience = Some(Audience { everyone: true, ..Audience::default() });
            let frames = log.next_offset().into();
            log.push(Instant::now(), &Emit { audience, ..Emit::default() }, frames);
        }
        log
    }

    fn push_to_room(log: &mut RecoveryLog, room: &str) {
        let audience = Some(Audience { rooms: vec![room.to_owned()], ..Audience::default() });
        let frames = log.next_offset().into();
        log.push(Instant::now(), &Emit { audience, ..Emit::default() }, frames);
    }

    fn offsets(
        recoverable: &Recoverable,
        log: &RecoveryLog,
        offset: Option<&str>,
    ) -> Option<Vec<String>> {
        let search = Search { log, handle: 1, owner: None, confirmed_at: None };
        let missed = recoverable.missed(&search, offset)?;
        Some(missed.into_iter().map(|one| one.offset.into()).collect())
    }

    #[test]
    fn a_client_that_has_seen_nothing_gets_all_since_it_came() {
        let log = log_with(3);
        let recoverable = Recoverable::new(SessionId::random(0, 0), 1, Instant::now());

        let all = offsets(&recoverable, &log, None).unwrap();

        assert_eq!(all.len(), 2);
        assert_eq!(offsets(&recoverable, &log, Some(&all[0])).unwrap(), all[1..]);
        assert_eq!(offsets(&recoverable, &log, Some("nonsense")), None);
        let before_it_came = log_with(1).last_offset();
        assert_eq!(offsets(&recoverable, &log, Some(&before_it_came)), None);
    }

    #[test]
    fn what_was_brought_comes_before_what_came_here() {
        let log = log_with(2);
        let mut recoverable = Recoverable::new(SessionId::random(0, 0), 0, Instant::now());
        let brought = brought([missed("a-5"), missed("a-6")]);
        recoverable.bring(
            Some("a-4".into()),
            brought,
            Doubles { numbers: vec![1], ..Doubles::default() },
        );

        let all = offsets(&recoverable, &log, Some("a-4")).unwrap();

        assert_eq!(all, ["a-5", "a-6", &log.last_offset()], "one was a double");
        assert_eq!(offsets(&recoverable, &log, Some("a-5")).unwrap(), all[1..]);
        assert_eq!(offsets(&recoverable, &log, Some("a-6")).unwrap(), all[2..]);
        assert_eq!(offsets(&recoverable, &log, Some(&log.last_offset())).unwrap(), all[3..]);
        assert_eq!(offsets(&recoverable, &log, Some("a-3")), None);
    }

    #[test]
    fn what_was_brought_is_kept_until_it_has_arrived_for_certain() {
        let log = log_with(0);
        let now = Instant::now();
        let mut recoverable = Recoverable::new(SessionId::random(0, 0), 0, now);
        recoverable.bring(None, brought([missed("a-5")]), Doubles::default());

        assert!(!recoverable.settle(Some(now)));
        assert_eq!(offsets(&recoverable, &log, None).unwrap(), ["a-5"]);
        assert!(recoverable.settle(Some(now + LONG)));
        assert!(offsets(&recoverable, &log, Some("a-5")).unwrap().is_empty());
    }

    #[test]
    fn who_joins_and_leaves_without_end_is_remembered_within_bounds() {
        let mut log = log_with(1);
        let mut recoverable = Recoverable::new(SessionId::random(0, 0), 0, Instant::now());
        for _ in 0..10_000 {
            recoverable.join("a", log.last(), log.first());
            recoverable.leave("a", log.last());
        }
        assert!(recoverable.stays.is_empty());

        let first = log.last_offset();
        for _ in 0..2 * ENDED_STAYS_MAX {
            push_to_room(&mut log, "another");
            recoverable.join("a", log.last(), log.first());
            push_to_room(&mut log, "a");
            recoverable.leave("a", log.last());
        }

        assert_eq!(recoverable.stays.len(), ENDED_STAYS_MAX);
        assert_eq!(offsets(&recoverable, &log, Some(&first)), None, "nobody can tell");
        let later = log.offset(log.last() - 2);
        assert_eq!(offsets(&recoverable, &log, Some(&later)).unwrap(), [log.last_offset()]);
    }

    #[test]
    fn who_comes_back_to_a_room_at_once_has_missed_nothing_in_it() {
        let mut recoverable = Recoverable::new(SessionId::random(0, 0), 0, Instant::now());
        recoverable.join("a", 0, 1);
        recoverable.leave("a", 3);
        recoverable.join("a", 3, 1);
        recoverable.leave("a", 4);
        recoverable.join("a", 5, 1);

        let stays: Vec<_> = recoverable.stays.iter().map(|stay| (stay.from, stay.until)).collect();
        assert_eq!(stays, [(0, 4), (5, u64::MAX)]);
    }

    #[test]
    fn a_connection_that_was_too_short_confirms_nothing() {
        let start = Instant::now();
        let mut recoverable = Recoverable::new(SessionId::random(0, 0), 0, start);
        recoverable.settle(Some(start + LONG));
        let back_at = start + 2 * LONG;

        recoverable.came(back_at, &[missed("a-1")]);
        recoverable.settle(Some(back_at));

        assert_eq!(recoverable.confirmed_at(Some(back_at)), Some(start + LONG));
        assert_eq!(recoverable.confirmed_at(Some(back_at + LONG)), Some(back_at + LONG));
        recoverable.came(back_at, &[]);
        assert_eq!(recoverable.confirmed_at(Some(back_at)), Some(back_at), "it had missed nothing");
    }

    #[test]
    fn only_the_last_claim_counts_and_none_once_the_client_is_back() {
        let mut recoverable = Recoverable::new(SessionId::random(0, 0), 0, Instant::now());
        recoverable.claim(1, 10);
        recoverable.claim(2, 11);

        assert_eq!((recoverable.claimed(1), recoverable.claimed(2)), (None, Some(11)));
        recoverable.came(Instant::now(), &[]);
        assert_eq!(recoverable.claimed(2), None);
    }
}
