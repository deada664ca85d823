//! Lets new sessions in at a steady rate, with room for a burst, and as long as there is room: whoever comes beyond it waits.
//!
//! Official clients take no notice of a refusal's status or of `Retry-After`, and come back within seconds, all of them. An
//! answer that comes late is what slows them down: they wait for 20 s.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::{
    overload::{Cause, Overload},
    quota::{Allowance, Steady},
    telemetry::Metrics,
};

/// How long a client may have to wait. Beyond, its request is refused.
pub(crate) const DELAY_MAX: Duration = Duration::from_secs(10);

/// What the whole edge takes on, by whatever way clients come in. A burst may be as large as what comes in a second.
#[derive(Debug)]
pub(crate) struct Admission {
    rate: Steady,
    allowance: Allowance,
    begun_at: Instant,
    overload: Arc<Overload>,
}

/// Why no session is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Overloaded {
    /// So many wait that one more would wait too long.
    Opens,
    /// There is no room.
    Room(Cause),
}

impl Admission {
    pub(crate) fn new(per_second: NonZeroU32, overload: Arc<Overload>) -> Self {
        let rate = Steady::new(per_second, per_second);
        Self { rate, allowance: Allowance::default(), begun_at: Instant::now(), overload }
    }

    pub(crate) fn overload(&self) -> &Arc<Overload> {
        &self.overload
    }

    /// How long a client that comes `now` to this shard, or to any, has to wait.
    pub(crate) fn delay(
        &self,
        shard: Option<u8>,
        now: Instant,
        delay_max: Duration,
    ) -> Result<Duration, Overloaded> {
        // First: one that finds no room does not wear the allowance down.
        let for_room = self.overload.delay(shard).map_err(Overloaded::Room)?;
        let since = now.saturating_duration_since(self.begun_at).as_nanos();
        // Never 0, when an allowance is whole that nothing was ever taken from.
        let now_ns = u64::try_from(since).unwrap_or(u64::MAX).saturating_add(1);
        let reserved = self.allowance.reserve(now_ns, self.rate, delay_max);
        let in_turn = reserved.map_err(|_| Overloaded::Opens)?;
        Ok(in_turn.max(for_room).min(delay_max))
    }

    /// A client that was let in has opened no session after all.
    pub(crate) fn opened_none(&self) {
        self.allowance.give_back(self.rate);
    }

    /// As [`delay`](Self::delay), and counts what becomes of the client.
    pub(crate) fn counted_delay(
        &self,
        shard: Option<u8>,
        delay_max: Duration,
        metrics: &Metrics,
    ) -> Result<Duration, Overloaded> {
        let delay = self.delay(shard, Instant::now(), delay_max);
        match delay {
            Ok(Duration::ZERO) => {}
            Ok(_) => metrics.opens_delayed.increment(1),
            Err(Overloaded::Opens) => metrics.opens_refused.increment(1),
            Err(Overloaded::Room(cause)) => metrics.limit_hits.overload(cause).increment(1),
        }
        delay
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::OverloadConfig;

    fn admission(per_second: u32) -> Admission {
        let config = OverloadConfig { memory_bytes_max: None, lag_max: Duration::from_secs(1) };
        let overload = Arc::new(Overload::new(&config, 1));
        Admission::new(NonZeroU32::new(per_second).unwrap(), overload)
    }

    fn delay(admission: &Admission, now: Instant) -> Result<Duration, Overloaded> {
        admission.delay(Some(0), now, DELAY_MAX)
    }

    #[test]
    fn a_burst_is_let_in_at_once_and_the_rest_in_turn() {
        let admission = admission(10);
        let now = Instant::now();

        let delays: Vec<_> = (0..12).map(|_| delay(&admission, now).unwrap().as_millis()).collect();

        assert_eq!(delays, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 100, 200]);
        let later = now + Duration::from_secs(10);
        assert_eq!(delay(&admission, later), Ok(Duration::ZERO));
    }

    #[test]
    fn who_opens_no_session_after_all_takes_nobodys_turn() {
        let admission = admission(1);
        let now = Instant::now();

        for _ in 0..100 {
            assert_eq!(delay(&admission, now), Ok(Duration::ZERO));
            admission.opened_none();
        }
    }

    #[test]
    fn nobody_waits_longer_than_a_client_does() {
        let admission = admission(1);
        let now = Instant::now();

        let let_in = (0..100).take_while(|_| delay(&admission, now).is_ok()).count();

        assert_eq!(let_in, 11, "one at once, ten after one to ten seconds");
        assert_eq!(delay(&admission, now), Err(Overloaded::Opens));
        assert!(delay(&admission, now + Duration::from_secs(1)).is_ok());
    }

    #[test]
    fn a_shard_that_is_late_has_its_clients_wait_and_then_refuses_them() {
        let admission = admission(1000);
        let now = Instant::now();

        admission.overload().observe_lag(0, Duration::from_millis(750));
        assert_eq!(delay(&admission, now), Ok(Duration::from_millis(2500)));
        admission.overload().observe_lag(0, Duration::from_secs(1));

        assert_eq!(delay(&admission, now), Err(Overloaded::Room(Cause::Lag)));
    }
}
