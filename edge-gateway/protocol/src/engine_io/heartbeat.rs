//! Decides when a session is pinged and when it is given up.

use std::time::{Duration, Instant};

/// Longer than any session lives, and short enough that no platform's `Instant` overflows.
const LONGEST_WAIT: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// The heartbeat of one session, as a clock that the caller winds.
///
/// Wait until [`due_at`](Self::due_at), call [`handle_timeout`](Self::handle_timeout) and do what
/// it says. Only a pong counts as a sign of life: other traffic shows that a client sends, not that
/// it hears.
#[derive(Debug, Clone)]
pub struct Heartbeat {
    due_at: Instant,
    is_pong_awaited: bool,
}

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beat {
    /// Send a ping.
    Ping,
    /// The last ping was not answered in time: close the connection.
    GiveUp,
}

impl Heartbeat {
    /// Starts the heartbeat of a session that was opened `now`; the first ping is due after
    /// `interval`.
    pub fn new(now: Instant, interval: Duration) -> Self {
        Self { due_at: later(now, interval), is_pong_awaited: false }
    }

    /// Starts the heartbeat of a session in which the client pings, as in version 3: it is given up
    /// when `patience` has passed without a ping, and never pinged.
    pub fn of_pinging_client(now: Instant, patience: Duration) -> Self {
        Self { due_at: later(now, patience), is_pong_awaited: true }
    }

    /// Takes note of a ping: the client may be silent for another `patience`.
    pub fn handle_ping(&mut self, now: Instant, patience: Duration) {
        self.due_at = later(now, patience);
    }

    /// Returns when [`handle_timeout`](Self::handle_timeout) next has something to say.
    pub const fn due_at(&self) -> Instant {
        self.due_at
    }

    /// Whether a ping is under way whose pong has not come. Always so where the client pings.
    pub const fn is_pong_awaited(&self) -> bool {
        self.is_pong_awaited
    }

    /// Says what is due at `now`, or `None` before [`due_at`](Self::due_at). After a
    /// [`Beat::Ping`] a pong is awaited for `timeout`.
    pub fn handle_timeout(&mut self, now: Instant, timeout: Duration) -> Option<Beat> {
        if now < self.due_at {
            return None;
        }
        if self.is_pong_awaited {
            return Some(Beat::GiveUp);
        }
        self.is_pong_awaited = true;
        self.due_at = later(now, timeout);
        Some(Beat::Ping)
    }

    /// Takes note of a pong: the next ping is due after `interval`. A pong that nobody waits for
    /// changes nothing, so a client cannot put off its pings.
    pub fn handle_pong(&mut self, now: Instant, interval: Duration) {
        if self.is_pong_awaited {
            self.is_pong_awaited = false;
            self.due_at = later(now, interval);
        }
    }

    /// Grants an awaited pong at least `by` from `now` on. For when we did not read from the
    /// client: its pong may have been waiting all the time.
    pub fn postpone(&mut self, now: Instant, by: Duration) {
        if self.is_pong_awaited {
            self.due_at = self.due_at.max(later(now, by));
        }
    }
}

fn later(now: Instant, by: Duration) -> Instant {
    now.checked_add(by.min(LONGEST_WAIT)).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const INTERVAL: Duration = Duration::from_secs(25);
    const TIMEOUT: Duration = Duration::from_secs(20);
    const MOMENT: Duration = Duration::from_millis(1);

    #[test]
    fn the_first_ping_is_due_after_one_interval() {
        let start = Instant::now();
        let mut heartbeat = Heartbeat::new(start, INTERVAL);

        assert_eq!(heartbeat.due_at(), start + INTERVAL);
        assert_eq!(heartbeat.handle_timeout(start + INTERVAL - MOMENT, TIMEOUT), None);
        assert_eq!(heartbeat.handle_timeout(start + INTERVAL, TIMEOUT), Some(Beat::Ping));
    }

    #[test]
    fn a_silent_client_is_given_up_after_the_timeout() {
        let start = Instant::now();
        let mut heartbeat = Heartbeat::new(start, INTERVAL);
        heartbeat.handle_timeout(start + INTERVAL, TIMEOUT);

        assert_eq!(heartbeat.due_at(), start + INTERVAL + TIMEOUT);
        assert_eq!(heartbeat.handle_timeout(start + INTERVAL + TIMEOUT - MOMENT, TIMEOUT), None);
        assert_eq!(
            heartbeat.handle_timeout(start + INTERVAL + TIMEOUT, TIMEOUT),
            Some(Beat::GiveUp)
        );
    }

    #[test]
    fn a_pong_buys_another_interval() {
        let start = Instant::now();
        let mut heartbeat = Heartbeat::new(start, INTERVAL);
        let pinged_at = start + INTERVAL;
        heartbeat.handle_timeout(pinged_at, TIMEOUT);

        heartbeat.handle_pong(pinged_at + TIMEOUT - MOMENT, INTERVAL);

        assert_eq!(heartbeat.due_at(), pinged_at + TIMEOUT - MOMENT + INTERVAL);
        assert_eq!(heartbeat.handle_timeout(heartbeat.due_at(), TIMEOUT), Some(Beat::Ping));
    }

    #[test]
    fn a_ping_that_left_late_is_awaited_from_when_it_left() {
        let start = Instant::now();
        let mut heartbeat = Heartbeat::new(start, INTERVAL);

        heartbeat.handle_timeout(start + 3 * INTERVAL, TIMEOUT);

        assert_eq!(heartbeat.due_at(), start + 3 * INTERVAL + TIMEOUT);
    }

    #[test]
    fn pongs_that_nobody_waits_for_put_nothing_off() {
        let start = Instant::now();
        let mut heartbeat = Heartbeat::new(start, INTERVAL);

        heartbeat.handle_pong(start + INTERVAL - MOMENT, INTERVAL);

        assert_eq!(heartbeat.due_at(), start + INTERVAL);
    }

    #[test]
    fn a_client_that_was_not_heard_gets_time_for_its_pong() {
        let start = Instant::now();
        let mut heartbeat = Heartbeat::new(start, INTERVAL);
        heartbeat.handle_timeout(start + INTERVAL, TIMEOUT);
        let resumed_at = start + INTERVAL + TIMEOUT;

        heartbeat.postpone(resumed_at, TIMEOUT);

        assert_eq!(heartbeat.handle_timeout(resumed_at, TIMEOUT), None);
        assert_eq!(heartbeat.handle_timeout(resumed_at + TIMEOUT, TIMEOUT), Some(Beat::GiveUp));
    }

    #[test]
    fn postponing_delays_no_ping_and_shortens_no_wait() {
        let start = Instant::now();
        let mut heartbeat = Heartbeat::new(start, INTERVAL);

        heartbeat.postpone(start + INTERVAL - MOMENT, TIMEOUT);
        assert_eq!(heartbeat.due_at(), start + INTERVAL);

        heartbeat.handle_timeout(start + INTERVAL, TIMEOUT);
        heartbeat.postpone(start + INTERVAL, MOMENT);
        assert_eq!(heartbeat.due_at(), start + INTERVAL + TIMEOUT);
    }

    #[test]
    fn a_client_that_pings_is_never_pinged_and_given_up_when_it_falls_silent() {
        let start = Instant::now();
        let patience = INTERVAL + TIMEOUT;
        let mut heartbeat = Heartbeat::of_pinging_client(start, patience);

        assert_eq!(heartbeat.handle_timeout(start + patience - MOMENT, TIMEOUT), None);
        heartbeat.handle_ping(start + INTERVAL, patience);
        assert_eq!(heartbeat.due_at(), start + INTERVAL + patience);
        assert_eq!(heartbeat.handle_timeout(start + patience, TIMEOUT), None);
        heartbeat.postpone(start + INTERVAL + patience, MOMENT);
        assert_eq!(heartbeat.handle_timeout(start + INTERVAL + patience, TIMEOUT), None);
        assert_eq!(
            heartbeat.handle_timeout(start + INTERVAL + patience + MOMENT, TIMEOUT),
            Some(Beat::GiveUp)
        );
    }

    #[test]
    fn an_endless_interval_does_not_overflow() {
        let start = Instant::now();
        let mut heartbeat = Heartbeat::new(start, Duration::MAX);

        assert!(heartbeat.due_at() > start + INTERVAL);
        assert_eq!(heartbeat.handle_timeout(start + INTERVAL, Duration::MAX), None);
    }

    #[derive(Debug, Clone, Copy)]
    enum Step {
        Wait(u64),
        Timeout,
        Pong,
    }

    fn any_step() -> impl Strategy<Value = Step> {
        prop_oneof![(0..15_000u64).prop_map(Step::Wait), Just(Step::Timeout), Just(Step::Pong)]
    }

    proptest! {
        /// The model remembers when the ping left and when the client was last known to live.
        #[test]
        fn any_schedule_agrees_with_the_rules(steps in prop::collection::vec(any_step(), 1..200)) {
            let mut now = Instant::now();
            let mut heartbeat = Heartbeat::new(now, INTERVAL);
            let mut alive_at = now;
            let mut pinged_at: Option<Instant> = None;

            for step in steps {
                match step {
                    Step::Wait(millis) => now += Duration::from_millis(millis),
                    Step::Pong => {
                        heartbeat.handle_pong(now, INTERVAL);
                        if pinged_at.take().is_some() {
                            alive_at = now;
                        }
                    }
                    Step::Timeout => {
                        let expected = match pinged_at {
                            Some(at) if now >= at + TIMEOUT => Some(Beat::GiveUp),
                            None if now >= alive_at + INTERVAL => Some(Beat::Ping),
                            Some(_) | None => None,
                        };
                        prop_assert_eq!(heartbeat.handle_timeout(now, TIMEOUT), expected);
                        if expected == Some(Beat::Ping) {
                            pinged_at = Some(now);
                        }
                    }
                }
            }
        }
    }
}
