//! Decides when to look again for keys that are not there.

use std::time::Duration;

use tokio::time::Instant;

/// Time between two fetches that tokens cause in the long run, whatever keys they name.
pub(super) const LOOKUP_INTERVAL: Duration = Duration::from_secs(10);

/// How many of them may come at once: the first made-up key must not have the next good one wait.
const BURST: u32 = 3;

/// Most keys that are remembered to have been looked for.
const KEY_COUNT_MAX: usize = 64;

/// What to do about a token whose key is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lookup {
    /// Whether to ask for a fetch now.
    pub(super) is_due: bool,
    /// When the last fetch was asked for.
    pub(super) asked_at: Instant,
    /// Since when the key is in use, as far as is known. A fetch that began later and has not found it is the last word.
    pub(super) since: Instant,
}

/// Which keys tokens have named in vain, and when the last fetch was asked for because of one.
///
/// That tokens of one retired key are refused in their hundreds, and need no fetch for each, is why keys are remembered.
#[derive(Debug)]
pub(super) struct Lookups {
    interval: Duration,
    asked_at: Option<Instant>,
    /// When as many fetches as may come at once may do so again.
    rested_at: Option<Instant>,
    keys: Vec<(u64, Instant)>,
}

impl Lookups {
    pub(super) fn new(interval: Duration) -> Self {
        Self { interval, asked_at: None, rested_at: None, keys: Vec::new() }
    }

    /// Takes the hash of a key that a token names.
    pub(super) fn look_for(&mut self, key: u64, now: Instant) -> Lookup {
        let interval = self.interval;
        // Whoever guesses the id of a key to come must not have it refused for long once it is there.
        self.keys.retain(|(_, since)| now.duration_since(*since) < interval);
        let since = self.keys.iter().find(|(known, _)| *known == key).map(|(_, since)| *since);
        if since.is_none() && self.keys.len() < KEY_COUNT_MAX {
            self.keys.push((key, now));
        }
        let since = since.unwrap_or(now);
        // A fetch that was asked for later finds the key, or it is not there.
        let is_asked_for = self.asked_at.is_some_and(|asked_at| since <= asked_at);
        let is_due = !is_asked_for && self.spend(now);
        let asked_at = self.asked_at.filter(|_| !is_due).unwrap_or(now);
        self.asked_at = Some(asked_at);
        Lookup { is_due, asked_at, since }
    }

    /// Takes one of the fetches that may come now, if one is left.
    fn spend(&mut self, now: Instant) -> bool {
        let rested_at = self.rested_at.map_or(now, |rested_at| rested_at.max(now));
        let is_left = rested_at.duration_since(now) <= self.interval * (BURST - 1);
        if is_left {
            self.rested_at = Some(rested_at + self.interval);
        }
        is_left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(10);
    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn three_fetches_are_due_at_once_and_then_one_in_the_interval_whatever_the_keys() {
        let start = Instant::now();
        let mut lookups = Lookups::new(INTERVAL);
        let mut due = Vec::new();

        for millisecond in 0..25_000 {
            let now = start + Duration::from_millis(millisecond);
            if lookups.look_for(millisecond, now).is_due {
                due.push(millisecond);
            }
        }

        assert_eq!(due, [0, 1, 2, 10_000, 20_000]);
    }

    #[test]
    fn what_is_not_used_comes_back_and_no_more_than_that() {
        let start = Instant::now();
        let mut lookups = Lookups::new(INTERVAL);
        let mut due_at = |seconds: u32| {
            let keys = u64::from(seconds) * 100..u64::from(seconds) * 100 + 50;
            keys.filter(|key| {
                lookups
                    .look_for(*key, start + SECOND * seconds + Duration::from_millis(*key % 100))
                    .is_due
            })
            .count()
        };

        assert_eq!([0, 1, 11, 32, 500, 501].map(&mut due_at), [3, 0, 1, 2, 3, 0]);
    }

    #[test]
    fn a_made_up_key_does_not_have_the_next_good_one_wait() {
        let start = Instant::now();
        let mut lookups = Lookups::new(INTERVAL);

        let made_up = lookups.look_for(1, start);
        let good = lookups.look_for(2, start + SECOND);
        let again = lookups.look_for(2, start + 2 * SECOND);

        assert!(made_up.is_due && good.is_due);
        assert!(!again.is_due, "one fetch is enough for a key");
    }

    #[test]
    fn a_key_is_known_since_its_first_token() {
        let start = Instant::now();
        let mut lookups = Lookups::new(INTERVAL);

        for key in 0..3 {
            lookups.look_for(key, start + SECOND * u32::try_from(key).unwrap() / 10);
        }
        let other = lookups.look_for(4, start + SECOND);
        let again = lookups.look_for(0, start + 2 * SECOND);

        let (is_due, asked_at) = (false, start + SECOND / 5);
        assert_eq!(other, Lookup { is_due, asked_at, since: start + SECOND });
        assert_eq!(again, Lookup { is_due, asked_at, since: start });
    }

    #[test]
    fn a_key_is_forgotten_after_the_interval() {
        let start = Instant::now();
        let mut lookups = Lookups::new(INTERVAL);

        lookups.look_for(1, start);
        let later = lookups.look_for(1, start + INTERVAL);

        assert_eq!(later.since, start + INTERVAL);
        assert!(later.is_due);
    }

    #[test]
    fn no_more_keys_are_remembered_than_may_be() {
        let start = Instant::now();
        let mut lookups = Lookups::new(INTERVAL);

        for key in 0..10_000 {
            lookups.look_for(key, start);
        }

        assert_eq!(lookups.keys.len(), KEY_COUNT_MAX);
        let late = lookups.look_for(9_999, start + SECOND);
        assert_eq!(late.since, start + SECOND, "not remembered, so nothing is decided about it");
    }
}
