//! How much a connection may send: a steady rate with room for a burst.

use std::{
    sync::LazyLock,
    time::{Duration, Instant},
};

use super::NamespaceKey;
use crate::quota::Steady;

/// What a connection may send: an allowance of events and one of bytes.
#[derive(Debug)]
pub(crate) struct Rates {
    pub(super) events: Rate,
    pub(super) bytes: Rate,
    /// Of events, for the namespaces that have their own.
    pub(super) namespaces: Option<Box<NamespaceRates>>,
}

/// An allowance, kept as the one instant at which it would be whole again (GCRA, as in ITU-T I.371), in nanoseconds: half as large
/// as what the standard library calls an instant.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rate {
    whole_at_ns: u64,
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

/// From where instants are counted: the first that anybody asked for.
static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

impl Rates {
    pub(crate) fn new(now: Instant) -> Self {
        Self { events: Rate::new(now), bytes: Rate::new(now), namespaces: None }
    }
}

impl Rate {
    pub(crate) fn new(now: Instant) -> Self {
        Self { whole_at_ns: ns(now) }
    }

    /// Takes one event off the allowance. A refused event counts too, so that a client that goes on is noticed: it is
    /// exhausted once it has sent a whole further burst in vain.
    pub(crate) fn take(&mut self, now: Instant, limit: Steady) -> Allowance {
        let (now_ns, allowed) = (ns(now), limit.burst_ns());
        let whole_at_ns = self.whole_at_ns.max(now_ns).saturating_add(limit.ns_of(1));
        let debt = whole_at_ns.saturating_sub(now_ns);
        if debt <= allowed {
            self.whole_at_ns = whole_at_ns;
            Allowance::Granted
        } else if debt <= allowed.saturating_mul(2) {
            self.whole_at_ns = whole_at_ns;
            Allowance::Refused { retry_after: Duration::from_nanos(debt - allowed) }
        } else {
            Allowance::Exhausted
        }
    }

    /// Takes so much, whatever is left, and says how long it takes until what was taken beyond the allowance is made up for; none
    /// if that is nothing.
    pub(crate) fn overdraw(
        &mut self,
        now: Instant,
        amount: usize,
        limit: Steady,
    ) -> Option<Duration> {
        let amount = u64::try_from(amount).unwrap_or(u64::MAX);
        self.whole_at_ns = self.whole_at_ns.max(ns(now)).saturating_add(limit.ns_of(amount));
        self.excess(now, limit)
    }

    /// How long that still takes.
    pub(crate) fn excess(&self, now: Instant, limit: Steady) -> Option<Duration> {
        let debt = self.whole_at_ns.saturating_sub(ns(now));
        let excess = debt.checked_sub(limit.burst_ns()).filter(|excess| *excess > 0);
        excess.map(Duration::from_nanos)
    }
}

fn ns(now: Instant) -> u64 {
    u64::try_from(now.saturating_duration_since(*EPOCH).as_nanos()).unwrap_or(u64::MAX)
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
    use std::num::NonZeroU32;

    use super::*;

    fn limit(per_second: u32, burst: u32) -> Steady {
        let count = |count| NonZeroU32::new(count).unwrap();
        Steady::new(count(per_second), count(burst))
    }

    /// Not before the epoch, which another test may be about to take.
    fn now() -> Instant {
        LazyLock::force(&EPOCH);
        Instant::now()
    }

    #[test]
    fn a_burst_is_granted_and_one_more_is_not() {
        let now = now();
        let mut rate = Rate::new(now);

        for _ in 0..100 {
            assert_eq!(rate.take(now, limit(50, 100)), Allowance::Granted);
        }
        let retry_after = Duration::from_millis(20);
        assert_eq!(rate.take(now, limit(50, 100)), Allowance::Refused { retry_after });
    }

    #[test]
    fn the_steady_rate_is_granted_for_ever() {
        let mut now = now();
        let mut rate = Rate::new(now);

        for _ in 0..1000 {
            now += Duration::from_millis(20);
            assert_eq!(rate.take(now, limit(50, 1)), Allowance::Granted);
        }
    }

    #[test]
    fn whoever_goes_on_is_exhausted_after_a_second_burst() {
        let now = now();
        let mut rate = Rate::new(now);

        let outcomes: Vec<_> = (0..201).map(|_| rate.take(now, limit(50, 100))).collect();

        assert!(matches!(outcomes[199], Allowance::Refused { .. }));
        assert_eq!(outcomes[200], Allowance::Exhausted);
    }

    #[test]
    fn whoever_waits_is_heard_again() {
        let now = now();
        let mut rate = Rate::new(now);
        for _ in 0..150 {
            rate.take(now, limit(50, 100));
        }

        assert_eq!(rate.take(now + Duration::from_secs(2), limit(50, 100)), Allowance::Granted);
    }

    #[test]
    fn bytes_are_granted_to_the_last() {
        let now = now();
        let mut rate = Rate::new(now);
        let limit = limit(1000, 2000);

        assert_eq!(rate.overdraw(now, 1500, limit), None);
        assert_eq!(rate.overdraw(now, 500, limit), None);
        let wait = Duration::from_millis(1);
        assert_eq!(rate.overdraw(now, 1, limit), Some(wait));
        assert_eq!(rate.excess(now, limit), Some(wait));
        assert_eq!(rate.excess(now + wait, limit), None);
        assert_eq!(rate.overdraw(now + wait, 2000, limit), Some(Duration::from_secs(2)));
    }

    #[test]
    fn two_allowances_take_no_more_than_one_instant() {
        assert!(size_of::<[Rate; 2]>() <= size_of::<Instant>());
    }
}
