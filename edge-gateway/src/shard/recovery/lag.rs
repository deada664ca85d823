//! What it means for coming back that a socket did not keep up: not everything was given to it in its order.

use std::time::Instant;

use super::{Shard, SocketKey};

/// A time when a socket did not keep up. By the offset of an event from that time nobody can tell what its client has seen.
#[derive(Debug)]
pub(super) struct Lag {
    /// The first entry of the recovery log that it may not have been given in its turn.
    first: u64,
    /// The last; all numbers while the lag lasts.
    last: u64,
    since: Instant,
    /// When it had been given what was left out.
    ended_at: Option<Instant>,
}

impl Lag {
    fn new(first: u64, since: Instant) -> Self {
        Self { first, last: u64::MAX, since, ended_at: None }
    }

    fn is_on(&self) -> bool {
        self.last == u64::MAX
    }

    /// Until when its client has got everything for certain, if it has seen all up to entry `after`; an error if nobody can
    /// tell what it has seen.
    pub(super) fn certain(
        &self,
        after: u64,
        confirmed_at: Option<Instant>,
    ) -> Result<Option<Instant>, Unclear> {
        let is_over = self.ended_at.is_some_and(|ended| confirmed_at.is_some_and(|at| at > ended));
        if is_over || after > self.last {
            return Ok(confirmed_at);
        }
        // What was left out was sent later than its time says.
        if after < self.first {
            Ok(confirmed_at.map(|at| at.min(self.since)))
        } else {
            Err(Unclear)
        }
    }
}

/// What the client has seen cannot be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unclear;

impl Shard {
    /// Events that have a position are left out for a socket, from the next entry of the recovery log on.
    pub(in crate::shard) fn note_lag(&mut self, key: SocketKey, now: Instant) {
        if let Some((recoverable, log)) = self.recoverable_mut(key) {
            let first = log.last() + 1;
            let lag = recoverable.lag.get_or_insert_with(|| Box::new(Lag::new(first, now)));
            (lag.last, lag.ended_at) = (u64::MAX, None);
        }
    }

    /// A socket has been given all that was left out.
    pub(in crate::shard) fn note_caught_up(&mut self, key: SocketKey, now: Instant) {
        if let Some((recoverable, log)) = self.recoverable_mut(key)
            && let Some(lag) = recoverable.lag.as_mut().filter(|lag| lag.is_on())
        {
            (lag.last, lag.ended_at) = (log.last(), Some(now));
        }
    }

    /// What was left out for a socket will become new entries of the recovery log: its client must have seen one of those.
    pub(in crate::shard) fn note_given_again(&mut self, key: SocketKey) {
        if let Some((recoverable, log)) = self.recoverable_mut(key)
            && let Some(lag) = &mut recoverable.lag
        {
            (lag.first, lag.last, lag.ended_at) = (0, log.last(), None);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn an_offset_from_the_time_of_a_lag_tells_nothing() {
        let now = Instant::now();
        let mut lag = Lag::new(10, now);

        assert_eq!(lag.certain(9, None), Ok(None));
        assert_eq!(lag.certain(10, None), Err(Unclear));
        assert_eq!(lag.certain(1_000_000, None), Err(Unclear), "it is still on");
        (lag.last, lag.ended_at) = (20, Some(now + 5 * SECOND));
        assert_eq!(lag.certain(20, Some(now + 5 * SECOND)), Err(Unclear));
        assert_eq!(lag.certain(21, None), Ok(None));
    }

    #[test]
    fn what_was_left_out_is_certain_only_after_the_lag() {
        let now = Instant::now();
        let mut lag = Lag::new(10, now + SECOND);

        assert_eq!(lag.certain(9, Some(now)), Ok(Some(now)));
        assert_eq!(lag.certain(9, Some(now + 2 * SECOND)), Ok(Some(now + SECOND)));
        (lag.last, lag.ended_at) = (20, Some(now + 5 * SECOND));
        assert_eq!(lag.certain(9, Some(now + 4 * SECOND)), Ok(Some(now + SECOND)));
        for after in [9, 15, 20, 21] {
            let confirmed_at = Some(now + 6 * SECOND);
            assert_eq!(lag.certain(after, confirmed_at), Ok(confirmed_at), "{after}");
        }
    }
}
