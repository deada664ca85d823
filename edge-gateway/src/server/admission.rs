//! Lets new sessions in at a steady rate, with room for a burst: whoever comes beyond it waits.
//!
//! Official clients take no notice of a refusal's status or of `Retry-After`, and come back within seconds, all of them. An
//! answer that comes late is what slows them down: they wait for 20 s.

use std::{cell::Cell, num::NonZeroU32, time::Duration};

use tokio::time::Instant;

/// How long a client may have to wait. Beyond, its request is refused.
pub(crate) const DELAY_MAX: Duration = Duration::from_secs(10);

/// How much of the rate may come at once.
const BURST: Duration = Duration::from_secs(1);

/// The allowance of one shard, kept as the one instant at which it would be whole again (GCRA, as in ITU-T I.371).
#[derive(Debug)]
pub(crate) struct Admission {
    interval: Duration,
    whole_at: Cell<Instant>,
}

/// So many wait that one more would wait too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Overloaded;

impl Admission {
    /// A share of what the edge takes on each second, for one of its `shards`.
    pub(crate) fn new(now: Instant, opens_per_second: NonZeroU32, shards: u32) -> Self {
        let interval = Duration::from_secs(1) * shards / opens_per_second.get();
        Self { interval, whole_at: Cell::new(now) }
    }

    /// How long a client that comes `now` has to wait.
    pub(super) fn delay(&self, now: Instant) -> Result<Duration, Overloaded> {
        let whole_at = self.whole_at.get().max(now) + self.interval;
        // Also where a burst holds less than one.
        let burst = BURST.max(self.interval);
        let delay = (whole_at - now).saturating_sub(burst);
        if delay > DELAY_MAX {
            return Err(Overloaded);
        }
        self.whole_at.set(whole_at);
        Ok(delay)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission(now: Instant, per_second: u32, shards: u32) -> Admission {
        Admission::new(now, NonZeroU32::new(per_second).unwrap(), shards)
    }

    #[test]
    fn a_burst_is_let_in_at_once_and_the_rest_in_turn() {
        let now = Instant::now();
        let admission = admission(now, 10, 1);

        let delays: Vec<_> = (0..12).map(|_| admission.delay(now).unwrap().as_millis()).collect();

        assert_eq!(delays, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 100, 200]);
        let later = now + Duration::from_secs(10);
        assert_eq!(admission.delay(later), Ok(Duration::ZERO));
    }

    #[test]
    fn nobody_waits_longer_than_a_client_does() {
        let now = Instant::now();
        let admission = admission(now, 1, 1);

        let let_in = (0..100).take_while(|_| admission.delay(now).is_ok()).count();

        assert_eq!(let_in, 11, "one at once, ten after one to ten seconds");
        assert_eq!(admission.delay(now), Err(Overloaded));
        assert!(admission.delay(now + Duration::from_secs(1)).is_ok());
    }

    #[test]
    fn shards_share_the_rate() {
        let now = Instant::now();
        let admission = admission(now, 2, 4);

        assert_eq!(admission.delay(now), Ok(Duration::ZERO));
        assert_eq!(admission.delay(now), Ok(Duration::from_secs(2)));
    }
}
