//! What is known of each of many, by hash: how much it has at a time, and what is left of its allowances.

use std::{
    collections::{HashMap, hash_map::RandomState},
    hash::{BuildHasher, Hash},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use super::allowance::Allowance;

/// How many parts a table has, each with a lock that is held for a look-up. Only whoever comes or leaves looks anything up.
const PARTS: usize = 64;

/// A part is looked through for what need not be remembered when it has twice what it had after the last time; not before it
/// has so many.
const SWEPT_FROM: usize = 16;

/// One that waits, in a count of things.
const WAITING: u64 = 1 << 32;

/// Everybody of one kind.
#[derive(Debug)]
pub(super) struct Tallies {
    // Keyed at random: nobody can choose names that fall together.
    hasher: RandomState,
    started_at: Instant,
    parts: [Mutex<Part>; PARTS],
}

#[derive(Debug, Default)]
struct Part {
    by_hash: HashMap<u64, Arc<Tally>>,
    sweep_at: usize,
}

/// One of them.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// How many things there are in the lower half, and how many of them wait in the upper one.
    held: AtomicU64,
    pub(super) opens: Allowance,
    pub(super) events: Allowance,
    pub(super) bytes: Allowance,
}

/// One thing that somebody has, until it is dropped.
#[derive(Debug)]
pub(crate) struct Held(Arc<Tally>);

/// Somebody has as much as anybody may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full;

impl Tallies {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            hasher: RandomState::new(),
            started_at: now,
            parts: std::array::from_fn(|_| Mutex::default()),
        }
    }

    /// The time as allowances are told it.
    pub(super) fn ns(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.started_at).as_nanos();
        // Never 0, when an allowance is whole that nothing was ever taken from.
        u64::try_from(since).unwrap_or(u64::MAX).saturating_add(1)
    }

    /// Finds somebody, who need not have been there before.
    pub(super) fn of(&self, who: &impl Hash, now: Instant) -> Arc<Tally> {
        let hash = self.hasher.hash_one(who);
        // Which part it is must not hang on what the part's own table looks at.
        let place = usize::try_from(hash >> 32).unwrap_or_default() % PARTS;
        let Some(part) = self.parts.get(place) else { return Arc::default() };
        let mut part = part.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tally) = part.by_hash.get(&hash) {
            return Arc::clone(tally);
        }
        if part.by_hash.len() >= part.sweep_at.max(SWEPT_FROM) {
            let now_ns = self.ns(now);
            part.by_hash.retain(|_, tally| Arc::strong_count(tally) > 1 || tally.matters(now_ns));
            part.sweep_at = part.by_hash.len() * 2;
        }
        Arc::clone(part.by_hash.entry(hash).or_default())
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.parts.iter().map(|part| part.lock().unwrap().by_hash.len()).sum()
    }
}

impl Tally {
    fn matters(&self, now_ns: u64) -> bool {
        let allowances = [&self.opens, &self.events, &self.bytes];
        self.held.load(Ordering::Relaxed) > 0
            || allowances.iter().any(|allowance| !allowance.is_whole(now_ns))
    }

    /// Counts one more thing, if there are fewer than `max` that do not wait.
    pub(super) fn hold(self: Arc<Self>, max: u32) -> Result<Held, Full> {
        let order = Ordering::Relaxed;
        let more = |held: u64| {
            let (all, waiting) = (held % WAITING, held / WAITING);
            (all.saturating_sub(waiting) < max.into()).then_some(held + 1)
        };
        match self.held.fetch_update(order, order, more) {
            Ok(_) => Ok(Held(self)),
            Err(_) => Err(Full),
        }
    }
}

impl Held {
    pub(super) fn tally(&self) -> &Tally {
        &self.0
    }

    /// The thing waits from now on: one that does not may take its place. It must not be dropped before it has
    /// [gone on](Self::go_on).
    pub(super) fn wait(&self) {
        self.0.held.fetch_add(WAITING, Ordering::Relaxed);
    }

    /// It does not wait any more.
    pub(super) fn go_on(&self) {
        self.0.held.fetch_sub(WAITING, Ordering::Relaxed);
    }

    /// Whether there are more than `max`, so that one which waits has to go.
    pub(super) fn is_beyond(&self, max: u32) -> bool {
        self.0.held.load(Ordering::Relaxed) % WAITING > max.into()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.held.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::{num::NonZeroU32, time::Duration};

    use super::*;
    use crate::quota::allowance::Steady;

    #[test]
    fn so_much_may_be_held_and_no_more_until_it_is_given_back() {
        let now = Instant::now();
        let tallies = Tallies::new(now);
        let hold = |who: &str| tallies.of(&who, now).hold(2);

        let (first, _second) = (hold("a").unwrap(), hold("a").unwrap());

        assert_eq!(hold("a").unwrap_err(), Full);
        assert!(hold("b").is_ok(), "another");
        drop(first);
        assert!(hold("a").is_ok());
    }

    #[test]
    fn one_that_waits_takes_nobodys_place() {
        let now = Instant::now();
        let tallies = Tallies::new(now);
        let hold = || tallies.of(&"a", now).hold(1);

        let waits = hold().unwrap();
        waits.wait();
        let second = hold().unwrap();

        assert!(second.is_beyond(1) && !second.is_beyond(2));
        assert_eq!(hold().unwrap_err(), Full);
        waits.go_on();
        drop(second);
        assert_eq!(hold().unwrap_err(), Full, "it is there again");
        drop(waits);
        assert!(hold().is_ok());
    }

    #[test]
    fn who_has_nothing_and_did_nothing_lately_is_forgotten() {
        let now = Instant::now();
        let tallies = Tallies::new(now);
        let one = NonZeroU32::MIN;
        let rate = Steady::new(one, one);
        let held: Vec<_> = (0..100).map(|who| tallies.of(&who, now).hold(1).unwrap()).collect();

        for who in 100..200_000 {
            let at = now + Duration::from_millis(who);
            let tally = tallies.of(&who, at);
            assert!(tally.opens.reserve(tallies.ns(at), rate, Duration::ZERO).is_ok());
        }

        // A thousand of them were there within the last second.
        let most = (100 + 1000 + PARTS * SWEPT_FROM) * 2;
        assert!(tallies.len() <= most, "{}", tallies.len());
        for who in 0..100 {
            assert!(tallies.of(&who, now).hold(1).is_err(), "{who} still has what it had");
        }
        drop(held);
    }
}
