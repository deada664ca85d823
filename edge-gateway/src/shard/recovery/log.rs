//! The events of a namespace that sockets of one shard were to get lately, for those that come back after a break.

use std::{
    collections::VecDeque,
    hash::{BuildHasher, Hash, Hasher},
    time::{Duration, Instant},
};

use bytes::Bytes;
use foldhash::fast::FixedState;
use proto::edge::v1::{Audience, Emit};
use smallvec::SmallVec;

use super::recoverable::Doubles;
use crate::{
    session_id,
    shard::audience::{self, Owner},
};

/// Most bytes of frames and audiences that one log keeps. Beyond, the oldest go, and with them the recovery of who has not
/// seen them.
pub(crate) const LOG_BYTES_MAX: usize = 8 * 1024 * 1024;

/// What an entry takes up besides its contents.
const ENTRY_OVERHEAD_BYTES: usize = 256;

/// Events by number, each kept for as long as somebody may ask for it.
#[derive(Debug)]
pub(crate) struct RecoveryLog {
    /// How long a socket may be away.
    pub(super) window: Duration,
    /// How long entries are kept.
    keep: Duration,
    /// Tells this log's offsets from those of any other.
    tag: Box<str>,
    last: u64,
    entries: VecDeque<Logged>,
    bytes: usize,
    /// The newest entry that is gone.
    gone: Option<(u64, Instant)>,
}

#[derive(Debug)]
struct Logged {
    number: u64,
    at: Instant,
    audience: Audience,
    frames: Bytes,
    fingerprint: u64,
    is_logged: bool,
    bytes: usize,
}

/// An event on its way to a client that missed it: whole frames, with the offset that is in them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Missed {
    pub(crate) offset: Box<str>,
    pub(crate) frames: Bytes,
    /// The same for the same event on another link of its business service.
    pub(crate) fingerprint: u64,
    /// It has a place in a room's log, and so nothing else has its fingerprint.
    pub(crate) is_logged: bool,
}

/// A time that a socket spent in a room, by the log's numbers: it was to get what came after `from`, up to `until`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stay {
    pub(crate) room: Box<str>,
    pub(crate) from: u64,
    pub(crate) until: u64,
}

/// For whom events are looked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a> {
    pub(crate) handle: u64,
    pub(crate) owner: Owner<'a>,
    pub(crate) stays: &'a [Stay],
}

/// Some of what was missed is no longer there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gap;

impl RecoveryLog {
    /// A log for sockets that may be away for `window`, whose end is noticed within `notice`: for so long after the last
    /// sign of life an event may have been sent in vain.
    pub(crate) fn new(window: Duration, notice: Duration) -> Self {
        let mut tag = session_id::random();
        tag.truncate(8);
        Self {
            window,
            keep: window.saturating_add(notice),
            tag: tag.into(),
            last: 0,
            entries: VecDeque::new(),
            bytes: 0,
            gone: None,
        }
    }

    /// The number of the last entry.
    pub(crate) fn last(&self) -> u64 {
        self.last
    }

    /// What the next entry is called on the wire.
    pub(crate) fn next_offset(&self) -> String {
        self.offset(self.last + 1)
    }

    /// What the last entry is called on the wire.
    pub(crate) fn last_offset(&self) -> String {
        self.offset(self.last)
    }

    pub(super) fn offset(&self, number: u64) -> String {
        format!("{}-{number}", self.tag)
    }

    /// The number that an offset of this log stands for; none if it is of another.
    pub(crate) fn number_of(&self, offset: &str) -> Option<u64> {
        let number = offset.strip_prefix(&*self.tag)?.strip_prefix('-')?.parse().ok()?;
        (number <= self.last).then_some(number)
    }

    /// The first number that may still be asked for: stays that ended before it are of no interest.
    pub(crate) fn first(&self) -> u64 {
        self.entries.front().map_or(self.last + 1, |entry| entry.number)
    }

    /// Appends an event; `frames` holds [`next_offset`](Self::next_offset).
    pub(crate) fn push(&mut self, now: Instant, emit: &Emit, frames: Bytes) {
        let Some(audience) = emit.audience.clone() else { return };
        self.last += 1;
        let bytes = frames.len() + audience_bytes(&audience) + ENTRY_OVERHEAD_BYTES;
        let (number, fingerprint) = (self.last, fingerprint(emit));
        self.bytes += bytes;
        let is_logged = !emit.position.is_empty();
        let logged = Logged { number, at: now, audience, frames, fingerprint, is_logged, bytes };
        self.entries.push_back(logged);
        while self.bytes > LOG_BYTES_MAX && !self.entries.is_empty() {
            self.pop();
        }
    }

    /// Forgets what nobody can have missed and still come back for.
    pub(crate) fn expire(&mut self, now: Instant) {
        while self.entries.front().is_some_and(|oldest| now.duration_since(oldest.at) > self.keep) {
            self.pop();
        }
    }

    fn pop(&mut self) {
        let Some(oldest) = self.entries.pop_front() else { return };
        self.bytes -= oldest.bytes;
        self.gone = Some((oldest.number, oldest.at));
    }

    /// How many bytes the entries take up.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// What a socket was to get after entry `after`, but for what is a double. What is older than `confirmed_at` it has got
    /// for certain, so that it may be gone.
    pub(crate) fn missed(
        &self,
        reader: Reader<'_>,
        after: u64,
        confirmed_at: Option<Instant>,
        except: &Doubles,
    ) -> Result<Vec<Missed>, Gap> {
        let is_confirmed = |at: Instant| confirmed_at.is_some_and(|confirmed| at < confirmed);
        if self.gone.is_some_and(|(number, at)| number > after && !is_confirmed(at)) {
            return Err(Gap);
        }
        let start = self.entries.partition_point(|entry| entry.number <= after);
        let missed = self.entries.range(start..).filter(|entry| {
            !except.numbers.contains(&entry.number)
                && !except.logged.contains(&entry.fingerprint)
                && is_for(&entry.audience, entry.number, reader)
        });
        Ok(missed.map(|entry| self.told(entry)).collect())
    }

    fn told(&self, entry: &Logged) -> Missed {
        Missed {
            offset: self.offset(entry.number).into(),
            frames: entry.frames.clone(),
            fingerprint: entry.fingerprint,
            is_logged: entry.is_logged,
        }
    }

    /// The numbers after `after` of those events for a socket that are among `known`, each as often as it is there.
    pub(crate) fn doubles(&self, reader: Reader<'_>, after: u64, known: &[Missed]) -> Vec<u64> {
        let mut known: SmallVec<[u64; 16]> = known.iter().map(|one| one.fingerprint).collect();
        let start = self.entries.partition_point(|entry| entry.number <= after);
        let double = |entry: &&Logged| {
            if !is_for(&entry.audience, entry.number, reader) {
                return false;
            }
            let place = known.iter().position(|one| *one == entry.fingerprint);
            place.map(|place| known.swap_remove(place)).is_some()
        };
        let entries = self.entries.range(start..);
        entries.filter(double).map(|entry| entry.number).collect()
    }
}

/// Whether an event was meant for a socket at the time.
fn is_for(audience: &Audience, number: u64, reader: Reader<'_>) -> bool {
    let was_in = |room: &String| {
        let mut stays = reader.stays.iter();
        stays.any(|stay| *stay.room == **room && stay.from < number && number <= stay.until)
    };
    let is_meant = audience::has_everyone_of(audience, reader.owner)
        || audience.sockets.contains(&reader.handle)
        || audience::names_user(audience, reader.owner)
        || audience.rooms.iter().any(was_in);
    is_meant
        && !audience::excepts_user(audience, reader.owner)
        && !audience.except_sockets.contains(&reader.handle)
        && !audience.except_rooms.iter().any(was_in)
}

/// Tells events apart: by their place in a room's log where they have one, else by what they say.
pub(super) fn fingerprint(emit: &Emit) -> u64 {
    let mut hasher = FixedState::with_seed(0).build_hasher();
    if emit.position.is_empty() {
        (&emit.event, &emit.args, &emit.attachments).hash(&mut hasher);
    } else {
        (&emit.position_room, &emit.position).hash(&mut hasher);
    }
    hasher.finish()
}

fn audience_bytes(audience: &Audience) -> usize {
    let names = audience.rooms.iter().chain(&audience.users).chain(&audience.except_rooms);
    let names = names.chain(&audience.except_users).chain([&audience.tenant]);
    let names = names.chain([&audience.users_issuer]);
    let names: usize = names.map(|name| name.len() + size_of::<String>()).sum();
    let handles = audience.sockets.len() + audience.except_sockets.len();
    names + handles * size_of::<u64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(120);
    const NOTICE: Duration = Duration::from_secs(45);

    fn emit(audience: Audience, event: &str) -> Emit {
        Emit {
            audience: Some(audience),
            event: event.to_owned(),
            args: "[]".into(),
            ..Emit::default()
        }
    }

    fn to_room(room: &str) -> Audience {
        Audience { rooms: vec![room.to_owned()], ..Audience::default() }
    }

    fn push(log: &mut RecoveryLog, now: Instant, audience: Audience, event: &str) {
        let frames = Bytes::copy_from_slice(event.as_bytes());
        log.push(now, &emit(audience, event), frames);
    }

    fn stay(room: &str, from: u64, until: u64) -> Stay {
        Stay { room: room.into(), from, until }
    }

    fn events(missed: Result<Vec<Missed>, Gap>) -> Vec<String> {
        let missed = missed.unwrap().into_iter();
        missed.map(|one| String::from_utf8(one.frames.to_vec()).unwrap()).collect()
    }

    #[test]
    fn a_socket_gets_what_was_meant_for_it_and_nothing_else() {
        let now = Instant::now();
        let mut log = RecoveryLog::new(WINDOW, NOTICE);
        let audiences = [
            ("everyone", Audience { everyone: true, ..Audience::default() }),
            ("its room", to_room("a")),
            ("another room", to_room("b")),
            ("its user", Audience { users: vec!["ann".to_owned()], ..Audience::default() }),
            ("another user", Audience { users: vec!["bob".to_owned()], ..Audience::default() }),
            (
                "another tenant",
                Audience { everyone: true, tenant: "acme".to_owned(), ..Audience::default() },
            ),
            ("itself", Audience { sockets: vec![3, 7], ..Audience::default() }),
            ("others", Audience { everyone: true, except_sockets: vec![7], ..Audience::default() }),
            (
                "other users",
                Audience {
                    except_users: vec!["ann".to_owned()],
                    everyone: true,
                    ..Audience::default()
                },
            ),
            (
                "less a room",
                Audience {
                    except_rooms: vec!["a".to_owned()],
                    everyone: true,
                    ..Audience::default()
                },
            ),
        ];
        for (name, audience) in audiences {
            push(&mut log, now, audience, name);
        }

        let stays = [stay("a", 0, u64::MAX)];
        let reader = Reader { handle: 7, owner: Some(("ann", "https://a", "")), stays: &stays };

        let missed = events(log.missed(reader, 0, None, &Doubles::default()));
        let except_six = Doubles { numbers: vec![7], ..Doubles::default() };
        assert_eq!(missed, ["everyone", "its room", "its user", "itself"]);
        assert_eq!(events(log.missed(reader, 2, None, &except_six)), ["its user"]);
    }

    #[test]
    fn a_room_counts_from_the_join_to_the_leave() {
        let now = Instant::now();
        let mut log = RecoveryLog::new(WINDOW, NOTICE);
        for event in ["before", "in", "after"] {
            push(&mut log, now, to_room("a"), event);
        }

        let stays = [stay("a", 1, 2)];
        let reader = Reader { handle: 7, owner: None, stays: &stays };

        assert_eq!(events(log.missed(reader, 0, None, &Doubles::default())), ["in"]);
    }

    #[test]
    fn offsets_are_known_only_to_the_log_that_gave_them() {
        let mut log = RecoveryLog::new(WINDOW, NOTICE);
        let first = log.next_offset();
        push(&mut log, Instant::now(), to_room("a"), "x");

        assert_eq!(log.last_offset(), first);
        assert_eq!(log.number_of(&first), Some(1));
        assert_eq!(log.number_of(&log.next_offset()), None, "it has not been given");
        for other in ["", "1", "MzUPkW0", &RecoveryLog::new(WINDOW, NOTICE).last_offset()] {
            assert_eq!(log.number_of(other), None, "{other}");
        }
    }

    #[test]
    fn what_a_socket_has_got_for_certain_may_be_gone() {
        let start = Instant::now();
        let mut log = RecoveryLog::new(WINDOW, NOTICE);
        push(&mut log, start, to_room("a"), "old");
        let later = start + WINDOW + NOTICE + Duration::from_secs(1);
        push(&mut log, later, to_room("a"), "new");

        log.expire(later);

        let stays = [stay("a", 0, u64::MAX)];
        let reader = Reader { handle: 7, owner: None, stays: &stays };
        assert_eq!(log.first(), 2);
        assert_eq!(
            events(log.missed(reader, 0, Some(start + NOTICE), &Doubles::default())),
            ["new"]
        );
        assert_eq!(log.missed(reader, 0, Some(start), &Doubles::default()), Err(Gap));
    }

    #[test]
    fn what_had_to_go_before_its_time_is_a_gap_for_who_has_not_seen_it() {
        let start = Instant::now();
        let mut log = RecoveryLog::new(WINDOW, NOTICE);
        let frames = Bytes::from(vec![0; LOG_BYTES_MAX / 4]);
        for seconds in 0..5 {
            let emit = emit(to_room("a"), "x");
            log.push(start + Duration::from_secs(seconds), &emit, frames.clone());
        }

        assert!(log.bytes() <= LOG_BYTES_MAX);
        let reader = Reader { handle: 7, owner: None, stays: &[] };
        assert_eq!(log.missed(reader, 0, Some(start), &Doubles::default()), Err(Gap));
        assert!(
            log.missed(reader, 2, Some(start), &Doubles::default()).is_ok(),
            "it has seen them"
        );
        assert!(
            log.missed(reader, 0, Some(start + Duration::from_secs(2)), &Doubles::default())
                .is_ok()
        );
    }

    #[test]
    fn the_same_event_on_two_links_is_recognised() {
        let now = Instant::now();
        let mut here = RecoveryLog::new(WINDOW, NOTICE);
        let mut there = RecoveryLog::new(WINDOW, NOTICE);
        for event in ["a", "tick", "tick"] {
            push(&mut there, now, to_room("r"), event);
        }
        push(&mut here, now, to_room("another"), "tick");
        for event in ["tick", "tick", "tick", "b"] {
            push(&mut here, now, to_room("r"), event);
        }
        let stays = [stay("r", 0, u64::MAX)];
        let reader = Reader { handle: 7, owner: None, stays: &stays };
        let known = there.missed(reader, 0, None, &Doubles::default()).unwrap();

        assert_eq!(here.doubles(reader, 0, &known), [2, 3]);

        let logged = |position: &str, args: &'static str| Emit {
            position: position.to_owned(),
            position_room: "r".to_owned(),
            args: args.into(),
            ..emit(to_room("r"), "message")
        };
        assert_eq!(fingerprint(&logged("p1", "[1]")), fingerprint(&logged("p1", "[2]")));
        assert_ne!(fingerprint(&logged("p1", "[1]")), fingerprint(&logged("p2", "[1]")));
    }
}
