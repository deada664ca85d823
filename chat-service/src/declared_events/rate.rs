//! How often one socket may send an event: a steady rate with room for a burst.

use std::time::Duration;

use tokio::time::Instant;

/// What is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rate {
    pub(super) per_second: u32,
    pub(super) burst: u32,
}

/// What one socket has used of the rates of its events. Nothing is kept of events that it has never sent.
#[derive(Debug, Default)]
pub(crate) struct Allowances(Vec<(usize, Instant)>);

impl Allowances {
    /// Takes one event off the allowance, or tells how long to wait for the next. `event` is a small number that stands for
    /// the event. An allowance is the one instant at which it is whole again (GCRA, as in ITU-T I.371).
    pub(crate) fn take(&mut self, event: usize, rate: Rate, now: Instant) -> Result<(), Duration> {
        let interval = Duration::from_secs(1) / rate.per_second;
        let allowed = interval.saturating_mul(rate.burst);
        let known = self.0.iter().position(|(known, _)| *known == event);
        let place = known.unwrap_or_else(|| {
            self.0.push((event, now));
            self.0.len() - 1
        });
        let (_, whole_at) = &mut self.0[place];
        let next = (*whole_at).max(now) + interval;
        match next.saturating_duration_since(now).checked_sub(allowed) {
            None | Some(Duration::ZERO) => {
                *whole_at = next;
                Ok(())
            }
            Some(wait) => Err(wait),
        }
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
