//! Verifies tokens with the keys that their issuer publishes, as fresh as the bounds say.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::{self, Instant};

use crate::algorithm::Algorithm;
use crate::https::HttpsClient;
use crate::identity::Identity;
use crate::key_set::KeySet;
use crate::outage::{Outage, PATIENCE, VerifyError};
use crate::refusal::Refusal;
use crate::rules::Rules;
use crate::verify::{named_key, verify};

mod document;
mod fetcher;
mod lookups;

pub(crate) use document::{Discovery, KeySource};
pub(crate) use fetcher::KeyFetcher;

use lookups::{LOOKUP_INTERVAL, Lookup, Lookups};

/// Most tokens of one issuer that wait at once. Those beyond are answered at once, so that no other issuer's wait for them.
const WAITING_COUNT_MAX: usize = 64;

/// What an issuer publishes, and how fresh we want it.
#[derive(Debug)]
pub(crate) struct Publication {
    /// The issuer's name.
    pub(crate) issuer: String,
    pub(crate) source: KeySource,
    /// Those that tokens may have. Keys of others are skipped.
    pub(crate) algorithms: Vec<Algorithm>,
    /// From one fetch to the next.
    pub(crate) refresh: Duration,
    /// Keys older than this are used no more.
    pub(crate) age_max: Duration,
}

/// Keys as they were published at some time.
#[derive(Debug)]
struct Fetched {
    keys: KeySet,
    /// When they were asked for: what was published later may not be among them.
    asked_at: Instant,
}

/// What the fetcher has found out.
#[derive(Debug, Clone, Default)]
struct Latest {
    fetched: Option<Arc<Fetched>>,
    /// When the last attempt began, of those that are over.
    attempted_at: Option<Instant>,
}

/// The keys of one issuer, which a [`KeyFetcher`] keeps fresh.
#[derive(Debug)]
pub(crate) struct PublishedKeys {
    latest: watch::Receiver<Latest>,
    /// Asks the fetcher to fetch at once. One request is as good as many.
    requests: mpsc::Sender<()>,
    /// Held for a few instructions, and only by tokens whose key is not there.
    lookups: Mutex<Lookups>,
    waiting: Semaphore,
    hasher: RandomState,
    algorithms: Vec<Algorithm>,
    age_max: Duration,
}

impl PublishedKeys {
    /// Makes the keys and who fetches them. Until that has run, there are none.
    pub(crate) fn new(publication: Publication, client: HttpsClient) -> (Self, KeyFetcher) {
        let (sender, latest) = watch::channel(Latest::default());
        let (requests, requested) = mpsc::channel(1);
        let algorithms = publication.algorithms.clone();
        let age_max = publication.age_max;
        let keys = Self {
            latest,
            requests,
            lookups: Mutex::new(Lookups::new(LOOKUP_INTERVAL)),
            waiting: Semaphore::new(WAITING_COUNT_MAX),
            hasher: RandomState::new(),
            algorithms,
            age_max,
        };
        (keys, KeyFetcher::new(publication, client, sender, requested))
    }

    /// Returns the algorithms that tokens may have.
    pub(crate) fn algorithms(&self) -> &[Algorithm] {
        &self.algorithms
    }

    /// Verifies a token, and fetches the keys anew where it names one that is not there.
    ///
    /// A token is refused for its key only after a fetch that began when the token, or another one of the same key, had come. Where
    /// the next fetch is not due yet, nothing is decided.
    pub(crate) async fn verify(
        &self,
        token: &str,
        rules: &Rules,
        now_unix_ms: u64,
    ) -> Result<Identity, VerifyError> {
        let deadline = Instant::now() + PATIENCE;
        let fetched = self.fetched(deadline).await?;
        match verify(token, &fetched.keys, rules, now_unix_ms) {
            Err(Refusal::UnknownKey) => {}
            outcome => return Ok(outcome?),
        }

        let lookup = self.look_for(token, rules)?;
        self.wait_for_attempt(lookup.asked_at, deadline).await?;
        let fetched = self.fetched(deadline).await?;
        match verify(token, &fetched.keys, rules, now_unix_ms) {
            Err(Refusal::UnknownKey) if fetched.asked_at < lookup.since => {
                Err(Outage::LookupNotDue.into())
            }
            outcome => Ok(outcome?),
        }
    }

    /// Returns the keys, if they are fresh enough. Right after the start it waits for the first ones.
    async fn fetched(&self, deadline: Instant) -> Result<Arc<Fetched>, Outage> {
        if self.latest.borrow().attempted_at.is_none() {
            self.wait(deadline, |latest| latest.attempted_at.is_some()).await?;
        }
        let fetched = self.latest.borrow().fetched.clone().ok_or(Outage::NoKeys)?;
        if fetched.asked_at.elapsed() > self.age_max {
            return Err(Outage::KeysTooOld);
        }
        Ok(fetched)
    }

    fn look_for(&self, token: &str, rules: &Rules) -> Result<Lookup, Refusal> {
        let key = self.hasher.hash_one(named_key(token, &rules.types)?);
        let mut lookups = self.lookups.lock().unwrap_or_else(PoisonError::into_inner);
        let lookup = lookups.look_for(key, Instant::now());
        drop(lookups);
        // Full, it holds a request already. Without a fetcher the service is stopping, and the wait below ends.
        if lookup.is_due && self.requests.try_send(()).is_err() {
            tracing::debug!("keys are asked for already");
        }
        Ok(lookup)
    }

    async fn wait_for_attempt(&self, began_at: Instant, deadline: Instant) -> Result<(), Outage> {
        let is_over =
            |latest: &Latest| latest.attempted_at.is_some_and(|attempted| attempted >= began_at);
        if is_over(&self.latest.borrow()) {
            return Ok(());
        }
        self.wait(deadline, is_over).await
    }

    async fn wait(
        &self,
        deadline: Instant,
        is_enough: impl FnMut(&Latest) -> bool,
    ) -> Result<(), Outage> {
        let _place = self.waiting.try_acquire().map_err(|_| Outage::TooManyWaiting)?;
        let mut latest = self.latest.clone();
        match time::timeout_at(deadline, latest.wait_for(is_enough)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Outage::FetchUnderWay),
        }
    }
}
