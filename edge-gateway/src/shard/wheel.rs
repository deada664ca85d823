//! When to look at which connection: one timer for all of a shard's connections.

use std::time::{Duration, Instant};

use super::ConnectionKey;

/// How often the shard looks at the wheel, and so how late a deadline may be noticed.
pub(crate) const TICK: Duration = Duration::from_millis(100);

/// One turn is longer than the default ping interval, so an idle connection is looked at once per ping.
const SLOTS: usize = 512;

/// A number of ticks since the shard began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Tick(u32);

/// A ring of slots, one for each tick to come.
///
/// It may name a connection more often than was asked: whoever is named checks whether it is its time.
#[derive(Debug)]
pub(crate) struct Wheel {
    origin: Instant,
    /// The next tick to be looked at.
    next: u32,
    slots: Vec<Vec<ConnectionKey>>,
}

impl Wheel {
    pub(crate) fn new(origin: Instant) -> Self {
        Self { origin, next: 0, slots: vec![Vec::new(); SLOTS] }
    }

    /// The first tick at which `at` has passed.
    pub(crate) fn tick_at(&self, at: Instant) -> Tick {
        let ticks =
            at.saturating_duration_since(self.origin).as_millis().div_ceil(TICK.as_millis());
        Tick(u32::try_from(ticks).unwrap_or(u32::MAX))
    }

    /// When a tick is due.
    pub(crate) fn time_of(&self, tick: Tick) -> Instant {
        self.origin + TICK * tick.0
    }

    /// Names `connection` at `due`, or after one turn if that is sooner. Returns when it will.
    pub(crate) fn schedule(&mut self, connection: ConnectionKey, due: Tick) -> Tick {
        let ahead = due.0.saturating_sub(self.next).min(slot_count() - 1);
        let tick = self.next + ahead;
        if let Some(slot) = self.slots.get_mut((tick % slot_count()) as usize) {
            slot.push(connection);
        }
        Tick(tick)
    }

    /// Moves on to `now` and appends the connections whose time has come to `due`.
    pub(crate) fn advance(&mut self, now: Instant, due: &mut Vec<ConnectionKey>) -> Tick {
        let elapsed = now.saturating_duration_since(self.origin).as_millis() / TICK.as_millis();
        let target = u32::try_from(elapsed).unwrap_or(u32::MAX);
        // After a pause longer than a turn, one turn visits every slot.
        let turns = (target + 1).saturating_sub(self.next).min(slot_count());
        for ahead in 0..turns {
            let slot = (self.next + ahead) % slot_count();
            if let Some(slot) = self.slots.get_mut(slot as usize) {
                due.append(slot);
            }
        }
        self.next = self.next.max(target + 1);
        Tick(target)
    }
}

#[expect(clippy::cast_possible_truncation, reason = "a constant that fits")]
const fn slot_count() -> u32 {
    SLOTS as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(index: u32) -> ConnectionKey {
        ConnectionKey { index, serial: 0 }
    }

    fn due_at(wheel: &mut Wheel, now: Instant) -> Vec<u32> {
        let mut due = Vec::new();
        wheel.advance(now, &mut due);
        due.iter().map(|key| key.index).collect()
    }

    #[test]
    fn names_a_connection_when_its_deadline_has_passed() {
        let start = Instant::now();
        let mut wheel = Wheel::new(start);
        let due = wheel.tick_at(start + TICK * 3);
        wheel.schedule(key(7), due);

        assert!(due_at(&mut wheel, start + TICK * 2).is_empty());
        assert_eq!(due_at(&mut wheel, start + TICK * 3), [7]);
        assert!(due_at(&mut wheel, start + TICK * 4).is_empty());
    }

    #[test]
    fn what_is_counted_from_a_tick_falls_on_a_tick() {
        let start = Instant::now();
        let mut wheel = Wheel::new(start);
        let late = start + TICK * 3 + TICK / 2;

        let tick = wheel.advance(late, &mut Vec::new());

        assert_eq!(wheel.tick_at(wheel.time_of(tick) + TICK * 4), Tick(7));
    }

    #[test]
    fn a_deadline_in_the_past_is_due_at_the_next_tick() {
        let start = Instant::now();
        let mut wheel = Wheel::new(start);
        assert!(due_at(&mut wheel, start + TICK * 9).is_empty());

        let due = wheel.tick_at(start);
        wheel.schedule(key(1), due);

        assert_eq!(due_at(&mut wheel, start + TICK * 10), [1]);
    }

    #[test]
    fn a_distant_deadline_is_looked_at_within_one_turn() {
        let start = Instant::now();
        let mut wheel = Wheel::new(start);
        let far = wheel.tick_at(start + TICK * (slot_count() * 3));

        let named = wheel.schedule(key(1), far);

        assert!(named < far);
        assert_eq!(due_at(&mut wheel, start + TICK * (slot_count() - 1)), [1]);
    }

    #[test]
    fn nobody_is_forgotten_over_a_long_pause() {
        let start = Instant::now();
        let mut wheel = Wheel::new(start);
        for ticks in 0..100 {
            let due = wheel.tick_at(start + TICK * ticks);
            wheel.schedule(key(ticks), due);
        }

        assert_eq!(due_at(&mut wheel, start + TICK * (slot_count() * 5)).len(), 100);
    }
}
