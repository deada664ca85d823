//! Verifies opaque tokens by asking their issuer (RFC 7662).

use std::error::Error;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderValue, StatusCode};
use secrecy::{ExposeSecret, SecretSlice};
use serde_json::{Map, Value};
use service_kit::watched_files::{FilesName, ReadFilesError, SettingFile, WatchedFiles};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{self, Instant};
use zeroize::Zeroizing;

use crate::claims::validate_claims;
use crate::config;
use crate::file_keys::KeyFileError;
use crate::https::{EndpointUrl, FetchError, HttpsClient};
use crate::identity::Identity;
use crate::json_object::parse_json_object;
use crate::outage::{Outage, PATIENCE, VerifyError};
use crate::refusal::Refusal;
use crate::rules::Rules;
use crate::telemetry;
use crate::verify::TOKEN_BYTES_MAX;

mod answers;
mod trouble;

use answers::{Answers, Begun};
use trouble::Trouble;

/// Most callers that wait for the issuer at once, for a question of their own or of another one. Those beyond are answered at once,
/// so that an issuer that hangs does not use up the calls of a connection.
const WAITING_COUNT_MAX: usize = 64;

/// Asks an issuer about its tokens, and remembers the answers for a while.
#[derive(Debug)]
pub(crate) struct Introspection {
    issuer: String,
    url: EndpointUrl,
    client: HttpsClient,
    authorization: Authorization,
    /// Who we are, and the file of our secret.
    credentials: Option<(String, PathBuf)>,
    answers: Answers,
    waiting: Semaphore,
    /// Held for a few instructions.
    trouble: Mutex<Trouble>,
}

/// Who we are to the issuer.
pub(crate) struct ClientCredentials {
    pub(crate) id: String,
    pub(crate) secret: SecretSlice<u8>,
}

/// Says who we are. Marked as sensitive, so that it shows in no debug text.
#[derive(Debug)]
enum Authorization {
    /// With the secret of the start.
    Read(HeaderValue),
    /// With the one that the file holds now.
    Watched(WatchedFiles<HeaderValue>),
}

impl ClientCredentials {
    /// Makes the header of `client_secret_basic` (RFC 6749, section 2.3.1).
    fn authorization(&self) -> Option<HeaderValue> {
        let encode = |bytes: &[u8]| form_urlencoded::byte_serialize(bytes).collect::<String>();
        let secret = Zeroizing::new(encode(self.secret.expose_secret()));
        let pair = Zeroizing::new(format!("{}:{}", encode(self.id.as_bytes()), *secret));
        let text = Zeroizing::new(format!("Basic {}", STANDARD.encode(&*pair)));
        let mut header = HeaderValue::try_from(&**text).ok()?;
        header.set_sensitive(true);
        Some(header)
    }
}

impl Introspection {
    /// Remembers that a token is good for at most `cache`, and never for longer than it is good.
    pub(crate) fn new(
        issuer: String,
        url: EndpointUrl,
        client: HttpsClient,
        credentials: &ClientCredentials,
        cache: Duration,
    ) -> Option<Self> {
        Some(Self {
            issuer,
            url,
            client,
            authorization: Authorization::Read(credentials.authorization()?),
            credentials: None,
            answers: Answers::new(cache),
            waiting: Semaphore::new(WAITING_COUNT_MAX),
            trouble: Mutex::default(),
        })
    }

    /// Says where the secret of this client comes from.
    pub(crate) fn with_secret_file(self, id: String, path: PathBuf) -> Self {
        Self { credentials: Some((id, path)), ..self }
    }

    /// Reads the file of the secret again whenever it changes, from now on.
    ///
    /// # Errors
    ///
    /// When it is of no use.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub(crate) fn watch(&mut self) -> Result<(), ReadFilesError<KeyFileError>> {
        let Some((id, path)) = self.credentials.clone() else { return Ok(()) };
        let file = SettingFile::new("client_secret_file", path);
        let name = FilesName::of("auth_client_secret", self.issuer.clone());
        let read = move |contents: &[&[u8]]| {
            let contents = contents.first().copied().unwrap_or_default();
            let secret = config::without_line_end(contents);
            let secret = Some(secret).filter(|secret| !secret.is_empty());
            let secret = secret.ok_or(KeyFileError::ClientSecret)?;
            let secret = SecretSlice::from(secret.to_vec());
            let credentials = ClientCredentials { id: id.clone(), secret };
            credentials.authorization().ok_or(KeyFileError::ClientSecret)
        };
        self.authorization = Authorization::Watched(WatchedFiles::open(name, vec![file], read)?);
        Ok(())
    }

    fn authorization(&self) -> HeaderValue {
        match &self.authorization {
            Authorization::Read(header) => header.clone(),
            Authorization::Watched(watched) => (*watched.current()).clone(),
        }
    }

    /// Asks about a token, unless that was done just now or is under way.
    pub(crate) async fn verify(
        &self,
        token: &str,
        rules: &Rules,
        now_unix_ms: u64,
    ) -> Result<Identity, VerifyError> {
        if !is_bearer_token(token) {
            return Err(Refusal::Malformed.into());
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.answers.begin(token, Instant::now()) {
                Begun::Known(outcome) => {
                    telemetry::record_remembered_introspection();
                    return still_good(outcome, rules, now_unix_ms);
                }
                Begun::UnderWay(mut others) => {
                    let _place = self.place()?;
                    let answered = others.wait_for(Option::is_some);
                    match time::timeout_at(deadline, answered).await {
                        Ok(Ok(outcome)) => {
                            let outcome = outcome.clone();
                            return outcome.unwrap_or_else(|| Err(Outage::Introspection.into()));
                        }
                        // Whoever asked has given up, so somebody else must ask.
                        Ok(Err(_)) => {}
                        Err(_) => return Err(Outage::Introspection.into()),
                    }
                }
                Begun::Ask(question) => {
                    let asked = self.ask(token, rules, now_unix_ms);
                    let outcome = time::timeout_at(deadline, asked)
                        .await
                        .unwrap_or_else(|_| Err(self.fail(&IntrospectError::Timeout).into()));
                    question.answer(&outcome, Instant::now(), now_unix_ms);
                    return outcome;
                }
            }
        }
    }

    async fn ask(
        &self,
        token: &str,
        rules: &Rules,
        now_unix_ms: u64,
    ) -> Result<Identity, VerifyError> {
        if self.trouble().is_in_respite(Instant::now()) {
            return Err(Outage::Introspection.into());
        }
        let _place = self.place()?;
        let form = form_urlencoded::Serializer::new(String::new())
            .append_pair("token", token)
            .append_pair("token_type_hint", "access_token")
            .finish();
        let authorization = self.authorization();
        let answer = self.client.post_form(&self.url, form, &authorization).await;
        let answer = answer.map_err(IntrospectError::Fetch).and_then(|answer| read(&answer));
        let claims = answer.map_err(|error| self.fail(&error))?;
        telemetry::record_introspection(&self.issuer, true);
        if self.trouble().answered() {
            tracing::info!(issuer = self.issuer, "the issuer answers about tokens again");
        }
        let mut claims = claims.ok_or(Refusal::Inactive)?;
        // It may leave out its name, since we know whom we have asked.
        claims.entry("iss").or_insert_with(|| Value::from(rules.issuer.as_str()));
        Ok(validate_claims(claims, rules, now_unix_ms)?)
    }

    fn place(&self) -> Result<SemaphorePermit<'_>, Outage> {
        self.waiting.try_acquire().map_err(|_| Outage::TooManyWaiting)
    }

    fn fail(&self, error: &IntrospectError) -> Outage {
        telemetry::record_introspection(&self.issuer, false);
        let (issuer, now) = (&self.issuer, Instant::now());
        let is_the_tokens_doing = error.may_be_the_tokens_doing();
        let error: &dyn Error = error;
        if is_the_tokens_doing {
            if self.trouble().answered_oddly(now) {
                tracing::warn!(issuer, error, "the issuer decides nothing about a token");
            }
        } else if self.trouble().failed(now) {
            tracing::warn!(issuer, error, "the issuer does not answer about tokens");
        }
        Outage::Introspection
    }

    fn trouble(&self) -> MutexGuard<'_, Trouble> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the text is what a bearer token may be (RFC 6750, section 2.1).
fn is_bearer_token(token: &str) -> bool {
    let text = token.trim_end_matches('=');
    let is_good = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte);
    token.len() <= TOKEN_BYTES_MAX && !text.is_empty() && text.bytes().all(is_good)
}

/// A token that was good when it was asked about may have expired since.
fn still_good(
    outcome: Result<Identity, Refusal>,
    rules: &Rules,
    now_unix_ms: u64,
) -> Result<Identity, VerifyError> {
    let identity = outcome?;
    let end = identity.expires_at_unix_ms.saturating_add(rules.clock_leeway_ms());
    if end <= now_unix_ms { Err(Refusal::Expired.into()) } else { Ok(identity) }
}

/// Returns what the issuer says about a token, if it calls it active.
pub(crate) fn read(answer: &[u8]) -> Result<Option<Map<String, Value>>, IntrospectError> {
    let claims = parse_json_object(answer).map_err(|_| IntrospectError::Malformed)?;
    match claims.get("active") {
        Some(Value::Bool(true)) => Ok(Some(claims)),
        Some(Value::Bool(false)) => Ok(None),
        Some(_) | None => Err(IntrospectError::Malformed),
    }
}

/// Why an issuer has not said whether a token is good.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IntrospectError {
    #[error("there is no answer")]
    Fetch(#[source] FetchError),
    #[error("there is no answer within {} ms", PATIENCE.as_millis())]
    Timeout,
    #[error("the answer does not say whether the token is active")]
    Malformed,
}

impl IntrospectError {
    /// Whether whoever sends the token may have brought it about, as with one that a firewall before the issuer does not like.
    ///
    /// Others must not wait for that. What is left says that the issuer is in trouble, or that we are with it.
    fn may_be_the_tokens_doing(&self) -> bool {
        match self {
            Self::Fetch(FetchError::Status(status)) => {
                let concerns_us =
                    matches!(*status, StatusCode::UNAUTHORIZED | StatusCode::TOO_MANY_REQUESTS);
                !concerns_us && !status.is_server_error()
            }
            Self::Fetch(FetchError::TooLarge) | Self::Malformed => true,
            Self::Fetch(FetchError::Request(_) | FetchError::Body(_) | FetchError::Timeout)
            | Self::Timeout => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::sync::Arc;

    use tokio::task::JoinSet;

    use super::*;
    use crate::capabilities::CapabilityRules;
    use crate::rules::{ClaimNames, TokenTypes};
    use crate::tenant::TenantRule;

    fn rules() -> Rules {
        Rules {
            issuer: "https://id.example".to_owned(),
            audience: "chat".to_owned(),
            clock_leeway: Duration::ZERO,
            types: TokenTypes::default(),
            scopes: Vec::new(),
            claims: ClaimNames::default(),
            tenant: TenantRule::Fixed(String::new()),
            capabilities: CapabilityRules::default(),
        }
    }

    /// Who takes connections, and never answers.
    fn hanging_issuer() -> (TcpListener, Introspection) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/introspect", listener.local_addr().unwrap());
        let url = EndpointUrl::parse(&url, true).unwrap();
        let client = HttpsClient::without_roots().unwrap();
        let secret = SecretSlice::from(b"secret".to_vec());
        let credentials = ClientCredentials { id: "edge".to_owned(), secret };
        let issuer = rules().issuer;
        let issuer = Introspection::new(issuer, url, client, &credentials, Duration::ZERO);
        (listener, issuer.unwrap())
    }

    #[tokio::test]
    async fn no_more_wait_for_an_issuer_that_hangs_than_may() {
        for token_count in [1, 3, 200] {
            let (_listener, issuer) = hanging_issuer();
            let issuer = Arc::new(issuer);
            let mut calls = JoinSet::new();
            for number in 0..200 {
                let issuer = issuer.clone();
                let token = format!("token-{}", number % token_count);
                calls.spawn(async move { issuer.verify(&token, &rules(), 0).await });
            }

            let outcomes = calls.join_all().await;

            let count_of = |outage: Outage| {
                outcomes.iter().filter(|outcome| **outcome == Err(outage.into())).count()
            };
            let counts = (count_of(Outage::Introspection), count_of(Outage::TooManyWaiting));
            assert_eq!(counts, (64, 136), "of {token_count} tokens");
            assert_eq!(issuer.waiting.available_permits(), WAITING_COUNT_MAX);
        }
    }

    #[test]
    fn a_bearer_token_has_the_characters_of_one() {
        for token in ["a", "mF_9.B5f-4.1JqM", "a+/~==", &"x".repeat(TOKEN_BYTES_MAX)] {
            assert!(is_bearer_token(token), "{token}");
        }
        for token in
            ["", "=", "a b", "a\r\n", "a=b", "ü", "a:b", "a%20", &"x".repeat(TOKEN_BYTES_MAX + 1)]
        {
            assert!(!is_bearer_token(token), "{token}");
        }
    }

    #[test]
    fn credentials_are_encoded_and_show_nowhere() {
        let secret = SecretSlice::from(b"s3:cr t/\xc3\xbc".to_vec());
        let header = ClientCredentials { id: "edge one".to_owned(), secret }.authorization();

        let header = header.unwrap();

        let encoded = header.to_str().unwrap().strip_prefix("Basic ").unwrap();
        let pair = STANDARD.decode(encoded).unwrap();
        assert_eq!(String::from_utf8(pair).unwrap(), "edge+one:s3%3Acr+t%2F%C3%BC");
        assert_eq!(format!("{header:?}"), "Sensitive");
    }

    #[test]
    fn an_answer_must_say_whether_the_token_is_active() {
        assert!(read(br#"{"active":true,"sub":"ada"}"#).unwrap().is_some());
        assert!(read(br#"{"active":false}"#).unwrap().is_none());
        for answer in ["", "[]", "{}", r#"{"active":"true"}"#, r#"{"active":1}"#] {
            assert!(read(answer.as_bytes()).is_err(), "{answer}");
        }
        assert!(read(br#"{"active":false,"active":true}"#).is_err());
    }
}
