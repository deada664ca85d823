//! How many events a connection may send: a steady rate with room for a burst.

use std::time::{Duration, Instant};

use super::NamespaceKey;

/// A connection's allowance, kept as the one instant at which it would be whole again (GCRA, as in ITU-T I.371).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rate {
    whole_at: Instant,
}

/// What becomes of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Allowance {
    Granted,
    /// Too many; the next is welcome after this long.
    Refused {
        retry_after: Duration,
    },
    /// Too many for too long: the client does not heed refusals.
    Exhausted,
}

impl Rate {
    pub(crate) fn new(now: Instant) -> Self {
        Self { whole_at: now }
    }

    /// Takes one event off the allowance. A refused event counts too, so that a client that goes on is noticed: it is
    /// exhausted once it has sent a whole further burst in vain.
    pub(crate) fn take(&mut self, now: Instant, per_second: u32, burst: u32) -> Allowance {
        let interval = Duration::from_secs(1) / per_second;
        let allowed = interval.saturating_mul(burst);
        let whole_at = self.whole_at.max(now) + interval;
        let debt = whole_at.saturating_duration_since(now);
        if debt <= allowed {
            self.whole_at = whole_at;
            Allowance::Granted
        } else if debt <= allowed.saturating_mul(2) {
            self.whole_at = whole_at;
            Allowance::Refused { retry_after: debt - allowed }
        } else {
            Allowance::Exhausted
        }
    }
}

/// A connection's allowances in the namespaces that have their own. They outlive its sockets: who leaves a namespace and
/// comes back has no new one.
#[derive(Debug, Default)]
pub(crate) struct NamespaceRates(Vec<(NamespaceKey, Rate)>);

impl NamespaceRates {
    pub(super) fn of(&mut self, namespace: NamespaceKey, now: Instant) -> &mut Rate {
        let known = self.0.iter().position(|(one, _)| *one == namespace);
        let place = known.unwrap_or_else(|| {
            self.0.push((namespace, Rate::new(now)));
            self.0.len() - 1
        });
        &mut self.0[place].1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_granted_and_one_more_is_not() {
        let now = Instant::now();
        let mut rate = Rate::new(now);

        for _ in 0..100 {
            assert_eq!(rate.take(now, 50, 100), Allowance::Granted);
        }
        let retry_after = Duration::from_millis(20);
        assert_eq!(rate.take(now, 50, 100), Allowance::Refused { retry_after });
    }

    #[test]
    fn the_steady_rate_is_granted_for_ever() {
        let mut now = Instant::now();
        let mut rate = Rate::new(now);

        for _ in 0..1000 {
            now += Duration::from_millis(20);
            assert_eq!(rate.take(now, 50, 1), Allowance::Granted);
        }
    }

    #[test]
    fn whoever_goes_on_is_exhausted_after_a_second_burst() {
        let now = Instant::now();
        let mut rate = Rate::new(now);

        let outcomes: Vec<_> = (0..201).map(|_| rate.take(now, 50, 100)).collect();

        assert!(matches!(outcomes[199], Allowance::Refused { .. }));
        assert_eq!(outcomes[200], Allowance::Exhausted);
    }

    #[test]
    fn whoever_waits_is_heard_again() {
        let now = Instant::now();
        let mut rate = Rate::new(now);
        for _ in 0..150 {
            rate.take(now, 50, 100);
        }

        assert_eq!(rate.take(now + Duration::from_secs(2), 50, 100), Allowance::Granted);
    }
}
