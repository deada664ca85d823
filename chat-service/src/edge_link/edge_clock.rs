//! Reads the times that an edge tells, although its clock shows others than ours.
//!
//! Each frame says what the edge's clock showed as it was sent. The frames that came fastest tell best how far the clocks are
//! apart; what comes later than those would have was held up on its way, and its events are older by that.

use std::{mem, time::Duration};

use tokio::time::Instant;

/// How long the fastest frames count, at least: no two clocks run at quite the same speed.
const WINDOW: Duration = Duration::from_secs(60);

/// No event has more time left, whatever its edge says.
const REMAINING_MAX: Duration = Duration::from_secs(24 * 3600);

/// How much sooner an event's time is over here than at its edge. What takes long each time cannot be told from clocks that are
/// apart: up to so much of it, no event is begun that the edge has given up.
const MARGIN: Duration = Duration::from_millis(100);

/// How far our own wall clock may have been set meanwhile.
const WALL_CLOCK_ERROR_MAX: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(super) struct EdgeClock {
    /// Where our own count of milliseconds begins.
    since: Instant,
    window_begins_at: Instant,
    /// How far our count is ahead of the edge's clock, at most; in this window and in the one before it.
    present: Option<i128>,
    earlier: Option<i128>,
}

impl EdgeClock {
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, window_begins_at: now, present: None, earlier: None }
    }

    /// A frame has come, and this is what the edge's clock showed.
    pub(super) fn handle_sent(&mut self, sent_ms: u64, now: Instant) {
        let age = now.duration_since(self.window_begins_at);
        if age >= WINDOW {
            self.window_begins_at = now;
            self.earlier = mem::take(&mut self.present).filter(|_| age < 2 * WINDOW);
        }
        let ahead = self.count(now) - i128::from(sent_ms);
        self.present = Some(self.present.map_or(ahead, |least| least.min(ahead)));
    }

    /// When a time of the edge's comes, by our clock and with a margin; now, if it has passed.
    pub(super) fn deadline(&self, edge_ms: u64, now: Instant) -> Instant {
        let remaining = duration(-self.age_ms(edge_ms, now));
        now + remaining.saturating_sub(MARGIN).min(REMAINING_MAX)
    }

    /// A time of our wall clock before which a time of the edge's was not.
    pub(super) fn not_before(&self, edge_ms: u64, (now, now_unix_ms): (Instant, u64)) -> u64 {
        let age = self.age(edge_ms, now).saturating_add(WALL_CLOCK_ERROR_MAX);
        now_unix_ms.saturating_sub(u64::try_from(age.as_millis()).unwrap_or(u64::MAX))
    }

    /// How long ago a time of the edge's was.
    fn age(&self, edge_ms: u64, now: Instant) -> Duration {
        duration(self.age_ms(edge_ms, now))
    }

    fn age_ms(&self, edge_ms: u64, now: Instant) -> i128 {
        let ahead = self.present.into_iter().chain(self.earlier).min().unwrap_or_default();
        self.count(now) - i128::from(edge_ms) - ahead
    }

    fn count(&self, now: Instant) -> i128 {
        i128::try_from(now.duration_since(self.since).as_millis()).unwrap_or(i128::MAX / 2)
    }
}

fn duration(ms: i128) -> Duration {
    Duration::from_millis(u64::try_from(ms.max(0)).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    /// An event has ten seconds here.
    const TIMEOUT_MS: u64 = 10_100;

    /// The time that is left of an event which was received as its frame was sent, when that has taken so long.
    fn remaining(clock: &mut EdgeClock, sent_ms: u64, arrives_at: Instant) -> Duration {
        clock.handle_sent(sent_ms, arrives_at);
        clock.deadline(sent_ms + TIMEOUT_MS, arrives_at) - arrives_at
    }

    #[test]
    fn an_event_has_its_time_whatever_the_clock_of_its_edge_shows() {
        for edge_ms in [0, 600_000, u64::MAX / 2] {
            let now = Instant::now();
            let mut clock = EdgeClock::new(now);

            assert_eq!(remaining(&mut clock, edge_ms, now), 10 * SECOND);
            assert_eq!(remaining(&mut clock, edge_ms + 5000, now + 5 * SECOND), 10 * SECOND);
            assert_eq!(clock.age(edge_ms, now + 5 * SECOND), 5 * SECOND);
        }
    }

    #[test]
    fn no_event_is_begun_that_its_edge_has_given_up() {
        for way_ms in [0, 1, 20, 100] {
            let way = Duration::from_millis(way_ms);
            let edge_begins = Instant::now();
            let mut clock = EdgeClock::new(edge_begins + way);
            // No frame was ever faster.
            clock.handle_sent(0, edge_begins + way);

            let given_up_at = edge_begins + 2 * SECOND;

            for arrives_at in [edge_begins + way, edge_begins + SECOND, given_up_at] {
                let deadline = clock.deadline(2000, arrives_at);
                assert!(deadline <= given_up_at, "{:?} later", deadline - given_up_at);
            }
        }
    }

    #[test]
    fn what_was_held_up_on_its_way_has_less_time() {
        let now = Instant::now();
        let mut clock = EdgeClock::new(now);
        remaining(&mut clock, 1000, now);

        assert_eq!(remaining(&mut clock, 2000, now + 4 * SECOND), 7 * SECOND);
        assert_eq!(clock.age(2000, now + 4 * SECOND), 3 * SECOND);
        assert_eq!(clock.not_before(2000, (now + 4 * SECOND, 9000)), 9000 - 3000 - 2000);
        assert_eq!(remaining(&mut clock, 3000, now + 60 * SECOND), Duration::ZERO);
    }

    #[test]
    fn clocks_may_run_at_different_speeds() {
        let now = Instant::now();
        let mut clock = EdgeClock::new(now);
        for minute in 0..600_u32 {
            // 5 ms behind, or ahead, each minute.
            let arrives_at = now + minute * 60 * SECOND;
            let sent_ms = u64::from(minute) * 59_995;
            let left = remaining(&mut clock, sent_ms, arrives_at);
            assert!(10 * SECOND - left <= Duration::from_millis(10), "{left:?} after {minute} min");
        }
        let after_a_day = now + 100_000 * SECOND;
        assert_eq!(
            remaining(&mut clock, 1, after_a_day),
            10 * SECOND,
            "nothing is known of before"
        );
    }

    #[test]
    fn no_number_is_too_large() {
        let now = Instant::now();
        let mut clock = EdgeClock::new(now);
        clock.handle_sent(0, now);
        assert_eq!(clock.deadline(u64::MAX, now), now + REMAINING_MAX);

        clock.handle_sent(u64::MAX, now);
        assert_eq!(clock.deadline(0, now), now);
        assert_eq!(clock.age(0, now), Duration::from_millis(u64::MAX));
    }
}
