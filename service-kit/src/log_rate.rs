//! Keeps a log readable while something happens all the time.

use std::time::Duration;

use tokio::time::Instant;

/// How long a line about something stays the only one.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// Says when something that may happen many times each second is worth a line in the log: at once, and then at most once in 10 s.
#[derive(Debug, Default)]
pub struct LogRate {
    told: Option<Instant>,
    untold: u64,
}

impl LogRate {
    /// Takes note that it has happened. Returns how often it has since the last line, if it is time for another.
    pub fn happened(&mut self) -> Option<u64> {
        self.untold += 1;
        let now = Instant::now();
        if self.told.is_some_and(|told| now.duration_since(told) < LINE_INTERVAL) {
            return None;
        }
        self.told = Some(now);
        Some(std::mem::take(&mut self.untold))
    }
}

#[cfg(test)]
mod tests {
    use tokio::time;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_first_is_told_at_once_and_others_once_in_a_while() {
        let mut rate = LogRate::default();
        assert_eq!(rate.happened(), Some(1));

        time::advance(LINE_INTERVAL - Duration::from_millis(1)).await;
        assert_eq!(rate.happened(), None);
        assert_eq!(rate.happened(), None);
        time::advance(Duration::from_millis(1)).await;

        assert_eq!(rate.happened(), Some(3));
        assert_eq!(rate.happened(), None);
    }
}
