//! A steady rate with room for a burst, which threads share without a lock.

use std::{
    num::NonZeroU32,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

const SECOND_NS: u64 = 1_000_000_000;
const PARTS_BITS: u32 = 32;
const _: () = assert!(SECOND_NS.leading_zeros() >= PARTS_BITS);

/// How fast an allowance is filled, and how much it holds: as the time that takes, so that nothing is divided where it counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Steady {
    /// What one takes, in nanoseconds of which there are 2^32 parts. From 4 billion a second on less than a whole one.
    each_parts: u64,
    burst_ns: u64,
}

/// What is left of one, kept as the one instant at which it would be whole again (GCRA, as in ITU-T I.371).
#[derive(Debug, Default)]
pub(crate) struct Allowance {
    whole_at_ns: AtomicU64,
}

impl Steady {
    pub(crate) fn new(per_second: NonZeroU32, burst: NonZeroU32) -> Self {
        let each_parts = (SECOND_NS << PARTS_BITS) / u64::from(per_second.get());
        let burst_ns = ns_of(burst.get().into(), each_parts);
        Self { each_parts, burst_ns }
    }

    /// How long an allowance takes to have so much.
    pub(crate) fn ns_of(self, amount: u64) -> u64 {
        ns_of(amount, self.each_parts)
    }

    /// How long it takes to be whole.
    pub(crate) fn burst_ns(self) -> u64 {
        self.burst_ns
    }
}

impl Allowance {
    /// Takes one, if need be in advance: returns how long to wait for it. Says when to come again if that would be longer than
    /// `delay_max`.
    pub(crate) fn reserve(
        &self,
        now_ns: u64,
        steady: Steady,
        delay_max: Duration,
    ) -> Result<Duration, Duration> {
        let allowed = steady.burst_ns();
        let patience = allowed.saturating_add(nanoseconds(delay_max));
        self.advance(now_ns, steady.ns_of(1), patience)?;
        let debt = self.whole_at_ns.load(Ordering::Relaxed).saturating_sub(now_ns);
        Ok(Duration::from_nanos(debt.saturating_sub(allowed)).min(delay_max))
    }

    /// Takes back that one was taken.
    pub(crate) fn give_back(&self, steady: Steady) {
        let order = Ordering::Relaxed;
        let given_back = |whole_at: u64| Some(whole_at.saturating_sub(steady.ns_of(1)));
        self.whole_at_ns.fetch_update(order, order, given_back).ok();
    }

    /// Takes so much, if it is there; otherwise says when it will be.
    pub(super) fn take(&self, now_ns: u64, steady: Steady, amount: u64) -> Result<(), Duration> {
        self.advance(now_ns, steady.ns_of(amount), steady.burst_ns())
    }

    /// Whether all of it is there, so that nothing has to be remembered.
    pub(super) fn is_whole(&self, now_ns: u64) -> bool {
        self.whole_at_ns.load(Ordering::Relaxed) <= now_ns
    }

    fn advance(&self, now_ns: u64, cost_ns: u64, debt_max_ns: u64) -> Result<(), Duration> {
        let mut excess = 0;
        let advanced = |whole_at: u64| {
            let next = whole_at.max(now_ns).saturating_add(cost_ns);
            excess = (next - now_ns).saturating_sub(debt_max_ns);
            (excess == 0).then_some(next)
        };
        let order = Ordering::Relaxed;
        match self.whole_at_ns.fetch_update(order, order, advanced) {
            Ok(_) => Ok(()),
            Err(_) => Err(Duration::from_nanos(excess)),
        }
    }
}

fn ns_of(amount: u64, each_parts: u64) -> u64 {
    let parts = u128::from(amount) * u128::from(each_parts);
    u64::try_from(parts >> PARTS_BITS).unwrap_or(u64::MAX)
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, thread};

    use super::*;

    fn steady(per_second: u32, burst: u32) -> Steady {
        let count = |count| NonZeroU32::new(count).unwrap();
        Steady::new(count(per_second), count(burst))
    }

    #[test]
    fn times_are_exact_to_a_nanosecond() {
        for per_second in [1, 3, 7, 50, 999, 10_000_000, 999_999_937, u32::MAX] {
            for amount in [0, 1, 2, 100, 1_000_000, 20_000_000] {
                let exact = amount * SECOND_NS / u64::from(per_second);
                let told = steady(per_second, 1).ns_of(amount);
                assert!(
                    exact.abs_diff(told) <= 1,
                    "{amount} at {per_second}/s: {told}, not {exact}"
                );
            }
        }
        assert_eq!(steady(1, u32::MAX).burst_ns(), u64::from(u32::MAX) * SECOND_NS);
        assert_eq!(steady(1, 1).ns_of(u64::MAX), u64::MAX);
    }

    #[test]
    fn a_burst_is_there_at_once_and_one_more_is_not() {
        let (allowance, rate) = (Allowance::default(), steady(50, 100));

        let take = |now_ns| allowance.reserve(now_ns, rate, Duration::ZERO);
        for _ in 0..100 {
            assert_eq!(take(7), Ok(Duration::ZERO));
        }
        assert_eq!(take(7), Err(Duration::from_millis(20)));
        assert_eq!(take(7 + 20_000_000), Ok(Duration::ZERO), "nothing was taken in vain");
        assert!(!allowance.is_whole(2_000_000_000));
        assert!(allowance.is_whole(2_020_000_007));
    }

    #[test]
    fn what_is_given_back_is_there_again() {
        let (allowance, rate) = (Allowance::default(), steady(50, 2));
        let take = || allowance.reserve(7, rate, Duration::ZERO).is_ok();

        assert!(take() && take() && !take());
        allowance.give_back(rate);
        assert!(take() && !take());
        allowance.give_back(rate);
        allowance.give_back(rate);
        assert!(allowance.is_whole(7));
        assert!(take() && take() && !take(), "no more than there was");
    }

    #[test]
    fn whoever_may_wait_is_told_for_how_long() {
        let (allowance, rate) = (Allowance::default(), steady(10, 2));
        let wait =
            || allowance.reserve(0, rate, Duration::from_millis(250)).map(|wait| wait.as_millis());

        assert_eq!([wait(), wait(), wait(), wait()], [Ok(0), Ok(0), Ok(100), Ok(200)]);
        assert_eq!(wait(), Err(Duration::from_millis(50)));
    }

    #[test]
    fn threads_share_it_to_the_last() {
        let allowance = Arc::new(Allowance::default());
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let allowance = Arc::clone(&allowance);
                thread::spawn(move || {
                    let rate = steady(1, 1500);
                    let take = || allowance.reserve(1, rate, Duration::ZERO);
                    (0..1000).filter(|_| take().is_ok()).count()
                })
            })
            .collect();

        let taken: usize = threads.into_iter().map(|thread| thread.join().unwrap()).sum();

        assert_eq!(taken, 1500);
    }
}
