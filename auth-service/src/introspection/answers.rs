//! Remembers what was said about tokens, and sees to it that each is asked about once at a time.

use std::collections::HashMap;
use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::identity::Identity;
use crate::outage::VerifyError;
use crate::refusal::Refusal;

/// How long a refusal is remembered, at most.
const REFUSED_MAX: Duration = Duration::from_secs(5);

/// Most answers of each kind that are remembered. Refusals are apart, or made-up tokens would push out the good ones.
const ANSWER_COUNT_MAX: usize = 10_000;

/// The SHA-256 of a token, so that no token is kept.
type TokenHash = [u8; 32];
type Outcome = Result<Identity, VerifyError>;

/// What was said about tokens lately.
#[derive(Debug)]
pub(super) struct Answers {
    accepted_max: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    accepted: Generations<Identity>,
    refused: Generations<Refusal>,
    under_way: HashMap<TokenHash, watch::Receiver<Option<Outcome>>>,
}

/// What to do about a token.
#[derive(Debug)]
pub(super) enum Begun<'a> {
    /// Nothing: it was asked about just now.
    Known(Result<Identity, Refusal>),
    /// Wait for who is asking. When that one is gone without an answer, begin anew.
    UnderWay(watch::Receiver<Option<Outcome>>),
    /// Ask.
    Ask(Question<'a>),
}

/// The one question about a token. Dropped, it lets somebody else ask.
#[derive(Debug)]
pub(super) struct Question<'a> {
    answers: &'a Answers,
    token: TokenHash,
    sender: watch::Sender<Option<Outcome>>,
}

impl Answers {
    pub(super) fn new(accepted_max: Duration) -> Self {
        let state = State {
            accepted: Generations::new(ANSWER_COUNT_MAX),
            refused: Generations::new(ANSWER_COUNT_MAX),
            under_way: HashMap::new(),
        };
        Self { accepted_max, state: Mutex::new(state) }
    }

    pub(super) fn begin(&self, token: &str, now: Instant) -> Begun<'_> {
        let token = hash_of(token);
        let mut state = self.state();
        if let Some(identity) = state.accepted.get(&token, now) {
            return Begun::Known(Ok(identity));
        }
        if let Some(refusal) = state.refused.get(&token, now) {
            return Begun::Known(Err(refusal));
        }
        if let Some(outcome) = state.under_way.get(&token) {
            return Begun::UnderWay(outcome.clone());
        }
        let (sender, receiver) = watch::channel(None);
        state.under_way.insert(token, receiver);
        Begun::Ask(Question { answers: self, token, sender })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Question<'_> {
    /// Tells those who wait, and remembers what was decided. Where nothing was, the next one asks again.
    pub(super) fn answer(self, outcome: &Outcome, now: Instant, now_unix_ms: u64) {
        let mut state = self.answers.state();
        match outcome {
            Ok(identity) => {
                let left_ms = identity.expires_at_unix_ms.saturating_sub(now_unix_ms);
                let kept = self.answers.accepted_max.min(Duration::from_millis(left_ms));
                state.accepted.insert(self.token, identity.clone(), now, kept);
            }
            Err(VerifyError::Refused(refusal)) => {
                let kept = self.answers.accepted_max.min(REFUSED_MAX);
                state.refused.insert(self.token, *refusal, now, kept);
            }
            Err(VerifyError::Undecided(_)) => {}
        }
        drop(state);
        self.sender.send_replace(Some(outcome.clone()));
    }
}

impl Drop for Question<'_> {
    fn drop(&mut self) {
        self.answers.state().under_way.remove(&self.token);
    }
}

fn hash_of(token: &str) -> TokenHash {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
    hash
}

/// A bounded map of what is good for a while. When half of it is new, what is older than that is forgotten.
#[derive(Debug)]
struct Generations<T> {
    half: usize,
    young: HashMap<TokenHash, (T, Instant)>,
    old: HashMap<TokenHash, (T, Instant)>,
}

impl<T: Clone> Generations<T> {
    fn new(count_max: usize) -> Self {
        Self { half: count_max / 2, young: HashMap::new(), old: HashMap::new() }
    }

    fn get(&self, token: &TokenHash, now: Instant) -> Option<T> {
        let (value, until) = self.young.get(token).or_else(|| self.old.get(token))?;
        (now < *until).then(|| value.clone())
    }

    fn insert(&mut self, token: TokenHash, value: T, now: Instant, kept: Duration) {
        if kept.is_zero() {
            return;
        }
        if self.young.len() >= self.half {
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(token, (value, now + kept));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::TokenMarks;
    use crate::outage::Outage;

    const CACHE: Duration = Duration::from_secs(30);
    const NOW_MS: u64 = 1_800_000_000_000;

    fn good_for(seconds: u64) -> Outcome {
        Ok(Identity {
            subject: "ada".to_owned(),
            issuer: "https://id.example".to_owned(),
            tenant: String::new(),
            name: None,
            expires_at_unix_ms: NOW_MS + seconds * 1000,
            marks: TokenMarks::default(),
            capabilities: Vec::new(),
        })
    }

    fn question<'a>(answers: &'a Answers, token: &str, now: Instant) -> Question<'a> {
        match answers.begin(token, now) {
            Begun::Ask(question) => question,
            other @ (Begun::Known(_) | Begun::UnderWay(_)) => panic!("{other:?}"),
        }
    }

    /// For how many seconds the answer is remembered.
    fn remembered_for(outcome: &Outcome, cache: Duration) -> u64 {
        let answers = Answers::new(cache);
        let start = Instant::now();
        question(&answers, "t", start).answer(outcome, start, NOW_MS);
        let is_known = |seconds: &u64| {
            let then = start + Duration::from_secs(*seconds);
            !matches!(answers.begin("t", then), Begun::Known(_))
        };
        (0..).find(is_known).unwrap()
    }

    #[test]
    fn what_is_good_is_remembered_for_the_cache_and_never_beyond_its_end() {
        assert_eq!(remembered_for(&good_for(3600), CACHE), 30);
        assert_eq!(remembered_for(&good_for(7), CACHE), 7);
        assert_eq!(remembered_for(&good_for(0), CACHE), 0, "only the leeway keeps it good");
        assert_eq!(remembered_for(&good_for(3600), Duration::ZERO), 0);
    }

    #[test]
    fn what_is_refused_is_remembered_shortly_and_an_outage_not_at_all() {
        assert_eq!(remembered_for(&Err(Refusal::Inactive.into()), CACHE), 5);
        assert_eq!(remembered_for(&Err(Refusal::Inactive.into()), Duration::ZERO), 0);
        assert_eq!(remembered_for(&Err(Outage::Introspection.into()), CACHE), 0);
    }

    #[test]
    fn those_who_come_while_one_asks_get_its_answer() {
        let answers = Answers::new(CACHE);
        let now = Instant::now();
        let first = question(&answers, "t", now);
        let Begun::UnderWay(second) = answers.begin("t", now) else { panic!("asked twice") };
        question(&answers, "other", now);

        first.answer(&good_for(60), now, NOW_MS);

        assert_eq!(*second.borrow(), Some(good_for(60)));
    }

    #[test]
    fn when_who_asks_is_gone_another_one_asks() {
        let answers = Answers::new(CACHE);
        let now = Instant::now();
        let first = question(&answers, "t", now);
        let Begun::UnderWay(second) = answers.begin("t", now) else { panic!("asked twice") };

        drop(first);

        assert!(second.has_changed().is_err(), "nobody will answer");
        question(&answers, "t", now);
    }

    #[test]
    fn no_more_is_remembered_than_may_be_and_the_newest_is() {
        let mut answers = Generations::new(10);
        let now = Instant::now();

        for number in 0..1000_u16 {
            let mut token = [0; 32];
            token[..2].copy_from_slice(&number.to_be_bytes());
            answers.insert(token, number, now, CACHE);
            assert!(answers.young.len() + answers.old.len() <= 10);
            assert_eq!(answers.get(&token, now), Some(number));
        }
    }
}
