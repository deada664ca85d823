//! Asks the auth service who a token speaks for.

mod questions;

use std::{cell::Cell, rc::Rc, time::Duration};

use bytes::Bytes;
use http::Uri;
use proto::{
    MESSAGE_BYTES_MAX,
    auth::v1::{
        AuthenticateResponse, RevocationPoint, WatchRevocationsRequest, WatchRevocationsResponse,
        auth_service_client::AuthServiceClient, authenticate_response::Outcome,
    },
};
use service_kit::trace::TraceParent;
use tokio::time::{self, Instant};
use tonic::{
    Status, Streaming,
    transport::{Channel, Endpoint},
};

use self::questions::Questions;
use crate::{
    capabilities::SharedCapabilities,
    dialer::Dialer,
    request::TOKEN_BYTES_MAX,
    revocations::{Point, TokenMarks},
    socket::Identity,
};

/// How long it may take to connect, and until a stream begins.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a client waits while the auth service cannot be asked.
const OUTAGE_PATIENCE: Duration = Duration::from_secs(3);

/// How long to wait between two calls of one verification.
const RETRY_INTERVAL: Duration = Duration::from_millis(250);

/// Shortest time between two reports of an outage. Where one issuer of several cannot be asked, calls fail and succeed in turn.
const OUTAGE_LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Verifies tokens by asking the auth service. Never lets anyone in that the service has not.
#[derive(Debug, Clone)]
pub(crate) struct TokenVerifier {
    client: AuthServiceClient<Channel>,
    questions: Rc<Questions>,
    outage_log: Rc<OutageLog>,
    capabilities: Rc<SharedCapabilities>,
}

/// Logs an outage once, not for each client that it turns away.
#[derive(Debug, Default)]
struct OutageLog {
    is_logged: Cell<bool>,
    logged_at: Cell<Option<Instant>>,
}

impl OutageLog {
    /// Whether to log that a call has failed.
    fn begins(&self, now: Instant) -> bool {
        let is_recent =
            self.logged_at.get().is_some_and(|logged_at| now - logged_at < OUTAGE_LOG_INTERVAL);
        if is_recent || self.is_logged.replace(true) {
            return false;
        }
        self.logged_at.set(Some(now));
        true
    }

    /// Whether to log that a call has succeeded.
    fn ends(&self) -> bool {
        self.is_logged.replace(false)
    }
}

/// Why a token has not let anybody in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VerifyTokenError {
    /// Final: the same token will not do later either.
    #[error("the token was refused")]
    Rejected,
    /// Nothing was decided: the same token may do later.
    #[error("the auth service could not be asked")]
    Unavailable,
}

impl TokenVerifier {
    /// Connects when first asked.
    pub(crate) fn new(url: Uri, dialer: &Dialer) -> Self {
        let endpoint = Endpoint::from(url)
            .connect_timeout(CALL_TIMEOUT)
            .timeout(CALL_TIMEOUT)
            .http2_keep_alive_interval(Duration::from_secs(10))
            .keep_alive_timeout(Duration::from_secs(5));
        let client = AuthServiceClient::new(dialer.channel(&endpoint))
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        let questions = Rc::default();
        Self { client, questions, outage_log: Rc::default(), capabilities: Rc::default() }
    }

    /// Asks about tokens for as long as it is polled: until then, nobody is verified.
    pub(crate) async fn run(self) {
        self.questions.run(self.client).await;
    }

    /// Answers within [`OUTAGE_PATIENCE`] and the time that one answer may take.
    pub(crate) async fn verify(
        &self,
        token: &str,
        parent: Option<TraceParent>,
    ) -> Result<Identity, VerifyTokenError> {
        // Refused by the auth service too, and too much to be asked about among others.
        if token.len() > TOKEN_BYTES_MAX {
            return Err(VerifyTokenError::Rejected);
        }
        let patience = Instant::now() + OUTAGE_PATIENCE;
        loop {
            match self.call(token, parent).await {
                Err(VerifyTokenError::Unavailable) if Instant::now() < patience => {
                    time::sleep(RETRY_INTERVAL).await;
                }
                outcome => return outcome,
            }
        }
    }

    /// Listens for tokens that are taken back, from where the caller stands.
    pub(crate) async fn watch_revocations(
        &self,
        after: Option<RevocationPoint>,
    ) -> Result<Streaming<WatchRevocationsResponse>, Status> {
        let request = WatchRevocationsRequest { after };
        let response = self.client.clone().watch_revocations(request).await?;
        Ok(response.into_inner())
    }

    async fn call(
        &self,
        token: &str,
        parent: Option<TraceParent>,
    ) -> Result<Identity, VerifyTokenError> {
        let answer = self.questions.ask(token, parent).await;
        let AuthenticateResponse { outcome, marks, checked } = answer.map_err(|error| {
            if self.outage_log.begins(Instant::now()) {
                tracing::warn!(%error, "auth service does not answer");
            }
            VerifyTokenError::Unavailable
        })?;
        if self.outage_log.ends() {
            tracing::info!("auth service answers again");
        }
        match outcome {
            Some(Outcome::Identity(identity)) if !identity.subject.is_empty() => Ok(Identity {
                marks: TokenMarks::of(&identity.issuer, &marks.unwrap_or_default()),
                checked: Point::of(&checked.unwrap_or_default()),
                subject: identity.subject.into(),
                issuer: identity.issuer.into(),
                tenant: identity.tenant.into(),
                // Copied: a slice of it would keep the whole buffer that the answer was read into.
                profile: Bytes::copy_from_slice(&identity.profile),
                expires_at_unix_ms: identity.expires_at_unix_ms,
                capabilities: self.capabilities.share(identity.capabilities),
            }),
            Some(Outcome::Refusal(_)) => Err(VerifyTokenError::Rejected),
            Some(Outcome::Identity(_)) | None => {
                tracing::error!("auth service gave an answer that is neither identity nor refusal");
                Err(VerifyTokenError::Unavailable)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_logged_once_and_calls_that_fail_now_and_then_seldom() {
        let start = Instant::now();
        let log = OutageLog::default();
        let after = |seconds| start + Duration::from_secs(seconds);

        assert!(!log.ends(), "there was none");
        assert!(log.begins(start));
        assert!(!log.begins(after(60)), "the same one");
        assert!(log.ends());
        assert!(log.begins(after(61)));
        for seconds in 62..71 {
            assert_eq!(log.ends(), seconds == 62);
            assert!(!log.begins(after(seconds)));
        }
        assert!(log.begins(after(71)));
        assert!(log.ends());
    }
}
