//! How often one socket may send an event: a steady rate with room for a burst.

use std::{num::NonZeroU32, time::Duration};

use tokio::time::Instant;

/// What is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rate {
    pub(super) per_second: u32,
    pub(super) burst: u32,
}

impl Rate {
    pub(crate) fn new(per_second: NonZeroU32, burst: NonZeroU32) -> Self {
        Self { per_second: per_second.get(), burst: burst.get() }
    }
}

/// What one socket has used of one rate: the instant at which its allowance is whole again (GCRA, as in ITU-T I.371). None where
/// nothing was ever taken.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Allowance(Option<Instant>);

impl Allowance {
    /// Takes one event off the allowance, or tells how long to wait for the next.
    pub(crate) fn take(&mut self, rate: Rate, now: Instant) -> Result<(), Duration> {
        let interval = Duration::from_secs(1) / rate.per_second;
        let allowed = interval.saturating_mul(rate.burst);
        let next = self.0.map_or(now, |whole_at| whole_at.max(now)) + interval;
        match next.saturating_duration_since(now).checked_sub(allowed) {
            None | Some(Duration::ZERO) => {
                self.0 = Some(next);
                Ok(())
            }
            Some(wait) => Err(wait),
        }
    }
}

/// What one socket has used of the rates of its events. Nothing is kept of events that it has never sent.
#[derive(Debug, Default)]
pub(crate) struct Allowances(Vec<(usize, Allowance)>);

impl Allowances {
    /// Takes one event off the allowance of an event, or tells how long to wait for the next. `event` is a small number that
    /// stands for it.
    pub(crate) fn take(&mut self, event: usize, rate: Rate, now: Instant) -> Result<(), Duration> {
        let known = self.0.iter().position(|(known, _)| *known == event);
        let place = known.unwrap_or_else(|| {
            self.0.push((event, Allowance::default()));
            self.0.len() - 1
        });
        self.0[place].1.take(rate, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { per_second: 10, burst: 3 };

    #[test]
    fn a_burst_is_let_through_and_then_the_rate() {
        let mut allowances = Allowances::default();
        let now = Instant::now();

        assert!((0..3).all(|_| allowances.take(7, RATE, now).is_ok()));
        assert_eq!(allowances.take(7, RATE, now), Err(Duration::from_millis(100)));
        assert_eq!(
            allowances.take(7, RATE, now + Duration::from_millis(40)),
            Err(Duration::from_millis(60))
        );
        assert_eq!(allowances.take(7, RATE, now + Duration::from_millis(100)), Ok(()));
        assert!(allowances.take(7, RATE, now + Duration::from_millis(100)).is_err());
    }

    #[test]
    fn events_have_allowances_of_their_own() {
        let mut allowances = Allowances::default();
        let now = Instant::now();
        while allowances.take(1, RATE, now).is_ok() {}

        assert!(allowances.take(2, RATE, now).is_ok());
    }
}
