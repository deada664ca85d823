//! Says how long an edge that is not heard of still counts, and how its silence is noticed in time.

use std::time::Duration;

use tokio::time::Instant;

/// Pings no more often than this, nor waits for less: a busy edge is not a silent one.
const PING_MIN: Duration = Duration::from_millis(500);
const PING_INTERVAL_MAX: Duration = Duration::from_secs(10);
const PING_TIMEOUT_MAX: Duration = Duration::from_secs(5);

/// From the last sign of life of an edge to the end of its sockets.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lease {
    length: Duration,
}

impl Lease {
    pub(crate) fn new(length: Duration) -> Self {
        Self { length }
    }

    pub(crate) fn length(self) -> Duration {
        self.length
    }

    /// How long nothing is heard on a connection before it is pinged.
    pub(crate) fn ping_interval(self) -> Duration {
        (self.length / 5).clamp(PING_MIN, PING_INTERVAL_MAX)
    }

    /// How long the answer may take. With the interval that is half the lease, and the edge has the other half to come back.
    pub(crate) fn ping_timeout(self) -> Duration {
        (self.length * 3 / 10).clamp(PING_MIN, PING_TIMEOUT_MAX)
    }

    /// When the lease ends of an edge whose stream has ended now. Pings do not show here: an edge may have been heard of
    /// later than by its last frame, but it has not been silent for longer than a ping takes.
    pub(super) fn ends_at(self, last_frame_at: Instant, now: Instant) -> Instant {
        let unnoticed_max = (self.ping_interval() + self.ping_timeout()).min(self.length / 2);
        now + self.length - now.saturating_duration_since(last_frame_at).min(unnoticed_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_noticed_in_the_first_half_of_the_lease() {
        for seconds in [3, 10, 25] {
            let lease = Lease::new(Duration::from_secs(seconds));
            assert!(lease.ping_interval() + lease.ping_timeout() <= lease.length() / 2);
        }
    }

    #[test]
    fn counts_from_the_last_sign_of_life() {
        let (lease, now) = (Lease::new(Duration::from_secs(10)), Instant::now());
        let ends_in = |silent: u64| {
            let ends_at = lease.ends_at(now, now + Duration::from_secs(silent));
            ends_at.duration_since(now).as_secs()
        };

        assert_eq!(ends_in(0), 10);
        assert_eq!(ends_in(5), 10);
        // It was quiet for an hour, and answered pings.
        assert_eq!(ends_in(3600), 3605);
    }
}
