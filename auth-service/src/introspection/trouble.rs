//! Decides for how long an issuer that is in trouble is left alone, and what of it is logged.

use std::time::Duration;

use tokio::time::Instant;

/// How long nothing more is asked after a question that had no answer, so that an issuer which comes back is not run over.
const RESPITE: Duration = Duration::from_millis(250);

/// Shortest time between two warnings of a kind: who sends tokens that an issuer stumbles over does not fill the log.
const WARNING_INTERVAL: Duration = Duration::from_secs(60);

/// What has gone wrong with the questions to an issuer.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    /// When a question had no answer, if that was so with the last one.
    failed_at: Option<Instant>,
    /// Whether the log says that the issuer does not answer.
    is_logged: bool,
    failures: Warnings,
    odd_answers: Warnings,
}

/// When was warned last.
#[derive(Debug, Default)]
struct Warnings(Option<Instant>);

impl Trouble {
    pub(super) fn is_in_respite(&self, now: Instant) -> bool {
        self.failed_at.is_some_and(|failed_at| now.duration_since(failed_at) < RESPITE)
    }

    /// Takes note that the issuer has not answered. Returns whether to warn of it.
    pub(super) fn failed(&mut self, now: Instant) -> bool {
        self.failed_at = Some(now);
        if self.is_logged || !self.failures.are_due(now) {
            return false;
        }
        self.is_logged = true;
        true
    }

    /// Takes note that the issuer has said something that decides nothing. Returns whether to warn of it.
    ///
    /// A token may bring that about, so it is no reason to leave the issuer alone, nor a sign that it is well.
    pub(super) fn answered_oddly(&mut self, now: Instant) -> bool {
        self.odd_answers.are_due(now)
    }

    /// Takes note that the issuer has answered. Returns whether to log that it does so again.
    pub(super) fn answered(&mut self) -> bool {
        self.failed_at = None;
        std::mem::take(&mut self.is_logged)
    }
}

impl Warnings {
    fn are_due(&mut self, now: Instant) -> bool {
        if self.0.is_some_and(|last| now.duration_since(last) < WARNING_INTERVAL) {
            return false;
        }
        self.0 = Some(now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLISECOND: Duration = Duration::from_millis(1);

    #[test]
    fn the_respite_begins_with_each_failure_and_ends_with_an_answer() {
        let (mut trouble, start) = (Trouble::default(), Instant::now());
        assert!(!trouble.is_in_respite(start));

        trouble.failed(start);
        assert!(trouble.is_in_respite(start + RESPITE - MILLISECOND));
        assert!(!trouble.is_in_respite(start + RESPITE));
        trouble.failed(start + RESPITE);
        assert!(trouble.is_in_respite(start + RESPITE));
        trouble.answered();

        assert!(!trouble.is_in_respite(start + RESPITE));
    }

    #[test]
    fn an_odd_answer_neither_begins_a_respite_nor_ends_one() {
        let (mut trouble, start) = (Trouble::default(), Instant::now());

        trouble.answered_oddly(start);
        assert!(!trouble.is_in_respite(start));
        trouble.failed(start);
        trouble.answered_oddly(start);

        assert!(trouble.is_in_respite(start));
    }

    #[test]
    fn an_outage_is_logged_once_and_so_is_its_end() {
        let (mut trouble, start) = (Trouble::default(), Instant::now());

        let warnings = (0..1000).filter(|number| trouble.failed(start + *number * RESPITE));
        assert_eq!(warnings.count(), 1);
        assert!(trouble.answered());
        assert!(!trouble.answered());
    }

    #[test]
    fn who_brings_trouble_about_again_and_again_fills_no_log() {
        let (mut trouble, start) = (Trouble::default(), Instant::now());
        let (mut warnings, mut ends, mut odd) = (0, 0, 0);

        for number in 0..1200 {
            let now = start + number * RESPITE;
            warnings += u32::from(trouble.failed(now));
            ends += u32::from(trouble.answered());
            odd += u32::from(trouble.answered_oddly(now));
        }

        assert_eq!((warnings, ends, odd), (5, 5, 5), "in 5 minutes");
    }

    #[test]
    fn an_outage_soon_after_another_one_is_logged_when_it_lasts() {
        let (mut trouble, start) = (Trouble::default(), Instant::now());
        trouble.failed(start);
        trouble.answered();

        assert!(!trouble.failed(start + MILLISECOND));
        assert!(trouble.failed(start + WARNING_INTERVAL));
        assert!(trouble.answered());
    }
}
