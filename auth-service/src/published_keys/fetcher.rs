//! Fetches the keys of one issuer again and again.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use service_kit::clock;
use service_kit::shutdown::Shutdown;
use tokio::sync::{mpsc, watch};
use tokio::time::{self, Instant};

use super::document::FetchKeysError;
use super::{Fetched, Latest, Publication};
use crate::https::HttpsClient;
use crate::key_set::KeySet;
use crate::telemetry;

const RETRY_INTERVAL_MIN: Duration = Duration::from_secs(1);
const RETRY_INTERVAL_MAX: Duration = Duration::from_secs(30);

/// The one who fetches an issuer's keys: once at the start, then in intervals, sooner where a token names a key that is not there
/// or a fetch has failed.
#[derive(Debug)]
pub(crate) struct KeyFetcher {
    publication: Publication,
    client: HttpsClient,
    latest: watch::Sender<Latest>,
    requested: mpsc::Receiver<()>,
    /// What the present keys were read from.
    document: Bytes,
    failure_count: u32,
}

impl KeyFetcher {
    pub(super) fn new(
        publication: Publication,
        client: HttpsClient,
        latest: watch::Sender<Latest>,
        requested: mpsc::Receiver<()>,
    ) -> Self {
        Self { publication, client, latest, requested, document: Bytes::new(), failure_count: 0 }
    }

    /// Fetches until the shutdown is requested.
    pub(crate) async fn run(mut self, shutdown: Shutdown) {
        loop {
            tokio::select! {
                () = self.attempt() => {}
                () = shutdown.requested() => return,
            }
            tokio::select! {
                () = time::sleep(self.pause()) => {}
                request = self.requested.recv() => if request.is_none() { return },
                () = shutdown.requested() => return,
            }
        }
    }

    async fn attempt(&mut self) {
        let asked_at = Instant::now();
        let keys = match self.publication.source.fetch(&self.client).await {
            Ok(document) => self.read(document, asked_at),
            Err(error) => Err(error),
        };
        let issuer = &self.publication.issuer;
        telemetry::record_key_fetch(issuer, keys.is_ok());
        match keys {
            Ok(fetched) => {
                telemetry::record_keys(issuer, fetched.keys.len(), clock::unix_ms());
                if self.failure_count > 0 {
                    tracing::info!(issuer, "the issuer's keys can be fetched again");
                }
                self.failure_count = 0;
                self.latest
                    .send_replace(Latest { fetched: Some(fetched), attempted_at: Some(asked_at) });
            }
            Err(error) => {
                self.failure_count = self.failure_count.saturating_add(1);
                if self.failure_count == 1 {
                    tracing::warn!(
                        issuer,
                        error = &error as &dyn Error,
                        "the issuer's keys cannot be fetched"
                    );
                }
                self.latest.send_modify(|latest| latest.attempted_at = Some(asked_at));
            }
        }
    }

    fn read(&mut self, document: Bytes, asked_at: Instant) -> Result<Arc<Fetched>, FetchKeysError> {
        let Publication { issuer, algorithms, .. } = &self.publication;
        let (keys, skipped) = KeySet::parse_published(&document, algorithms)?;
        if document != self.document {
            tracing::info!(issuer, key_count = keys.len(), "the issuer has new keys");
            for key in skipped {
                telemetry::record_skipped_key(key.reason);
                tracing::warn!(
                    issuer,
                    number = key.number,
                    reason = key.reason.label(),
                    "a key of the issuer is skipped"
                );
            }
            self.document = document;
        }
        Ok(Arc::new(Fetched { keys, asked_at }))
    }

    /// How long to wait until the next attempt, when nobody asks for one.
    fn pause(&self) -> Duration {
        let refresh = self.publication.refresh;
        match self.failure_count.checked_sub(1) {
            None => refresh,
            Some(repeated) => {
                let pause = RETRY_INTERVAL_MIN.saturating_mul(1 << repeated.min(5));
                pause.min(RETRY_INTERVAL_MAX).min(refresh)
            }
        }
    }
}
