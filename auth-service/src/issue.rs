//! Signs tokens, for development.

use std::ops::RangeInclusive;

use jsonwebtoken::{EncodingKey, Header};
use secrecy::SecretString;
use serde::Serialize;
use service_kit::watched_files::WatchedFiles;

use crate::capabilities::{Capability, CapabilityError, check_all};
use crate::file_keys::Keyring;
use crate::hs256_secret::Hs256Secret;
use crate::rules::Rules;

const SUBJECT_BYTES: RangeInclusive<usize> = 1..=128;
const NAME_BYTES_MAX: usize = 128;
const LIFETIME_SECONDS: RangeInclusive<u32> = 1..=86_400;
const LIFETIME_SECONDS_DEFAULT: u32 = 3600;

/// Whom a token shall speak for, and for how long.
#[derive(Debug)]
pub(crate) struct TokenRequest {
    subject: String,
    name: Option<String>,
    lifetime_seconds: u32,
    capabilities: Vec<Capability>,
}

impl TokenRequest {
    pub(crate) fn subject(&self) -> &str {
        &self.subject
    }

    /// Checks the bounds. An empty name is none; a lifetime of 0 is one hour; who asks for no capabilities wants them all.
    pub(crate) fn parse(
        subject: String,
        name: String,
        lifetime_seconds: u32,
        capabilities: Option<Vec<Capability>>,
    ) -> Result<Self, ParseTokenRequestError> {
        let lifetime_seconds =
            if lifetime_seconds == 0 { LIFETIME_SECONDS_DEFAULT } else { lifetime_seconds };
        if !SUBJECT_BYTES.contains(&subject.len()) {
            return Err(ParseTokenRequestError::Subject);
        }
        if name.len() > NAME_BYTES_MAX {
            return Err(ParseTokenRequestError::Name);
        }
        if !LIFETIME_SECONDS.contains(&lifetime_seconds) {
            return Err(ParseTokenRequestError::Lifetime);
        }
        let capabilities = capabilities.unwrap_or_else(Capability::everything);
        check_all(&capabilities)?;
        let name = Some(name).filter(|name| !name.is_empty());
        Ok(Self { subject, name, lifetime_seconds, capabilities })
    }
}

/// Why no token is made for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ParseTokenRequestError {
    #[error("subject must have {} to {} bytes", SUBJECT_BYTES.start(), SUBJECT_BYTES.end())]
    Subject,
    #[error("name must have at most {NAME_BYTES_MAX} bytes")]
    Name,
    #[error("lifetime_seconds must be at most {}", LIFETIME_SECONDS.end())]
    Lifetime,
    #[error("capabilities: {0}")]
    Capabilities(#[from] CapabilityError),
}

/// A signed token and its end.
#[derive(Debug)]
pub(crate) struct IssuedToken {
    pub(crate) token: SecretString,
    pub(crate) expires_at_unix_ms: u64,
}

/// Signs tokens that this service accepts.
#[derive(Debug)]
pub(crate) struct TokenIssuer {
    key: SigningKey,
    issuer: String,
    audience: String,
}

#[derive(Debug)]
enum SigningKey {
    /// That of the start.
    Read(EncodingKey),
    /// What the file of the secret holds now.
    Watched(WatchedFiles<Keyring>),
}

#[derive(Serialize)]
struct IssuedClaims<'a> {
    iss: &'a str,
    aud: &'a str,
    sub: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    iat: u64,
    exp: u64,
    capabilities: &'a [Capability],
}

impl TokenIssuer {
    pub(crate) fn issuer(&self) -> &str {
        &self.issuer
    }

    pub(crate) fn new(secret: &Hs256Secret, rules: &Rules) -> Self {
        Self {
            key: SigningKey::Read(EncodingKey::from_secret(secret.expose())),
            issuer: rules.issuer.clone(),
            audience: rules.audience.clone(),
        }
    }

    /// Signs with the secret that a file holds at the time.
    pub(crate) fn follow(&mut self, watched: Option<WatchedFiles<Keyring>>) {
        let has_secret = |ring: &WatchedFiles<Keyring>| ring.current().secret().is_some();
        if let Some(watched) = watched.filter(has_secret) {
            self.key = SigningKey::Watched(watched);
        }
    }

    fn key(&self) -> EncodingKey {
        match &self.key {
            SigningKey::Read(key) => key.clone(),
            SigningKey::Watched(watched) => {
                let ring = watched.current();
                // There always is one, as a setting names it. Nobody takes what an empty one has signed.
                EncodingKey::from_secret(ring.secret().map_or(&[][..], Hs256Secret::expose))
            }
        }
    }

    pub(crate) fn issue(
        &self,
        request: &TokenRequest,
        now_unix_ms: u64,
    ) -> Result<IssuedToken, IssueTokenError> {
        let iat = now_unix_ms / 1000;
        let exp = iat + u64::from(request.lifetime_seconds);
        let claims = IssuedClaims {
            iss: &self.issuer,
            aud: &self.audience,
            sub: &request.subject,
            name: request.name.as_deref(),
            iat,
            exp,
            capabilities: &request.capabilities,
        };
        let header = Header::new(jsonwebtoken::Algorithm::HS256);
        let token = jsonwebtoken::encode(&header, &claims, &self.key()).map_err(IssueTokenError)?;
        Ok(IssuedToken { token: token.into(), expires_at_unix_ms: exp * 1000 })
    }
}

/// The signature library failed, which with a key that was checked it has no reason to.
#[derive(Debug, thiserror::Error)]
#[error("the token cannot be signed")]
pub(crate) struct IssueTokenError(#[source] jsonwebtoken::errors::Error);

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use secrecy::ExposeSecret;

    use super::*;
    use crate::capabilities::{Action, CapabilityRules};
    use crate::identity::{Identity, TokenMarks};
    use crate::key_set::KeySet;
    use crate::rules::{ClaimNames, TokenTypes};
    use crate::tenant::TenantRule;
    use crate::verify::verify;

    const NOW: u64 = 1_800_000_000_123;

    fn rules() -> Rules {
        Rules {
            issuer: "sockeye".to_owned(),
            audience: "sockeye".to_owned(),
            clock_leeway: Duration::ZERO,
            types: TokenTypes::default(),
            scopes: Vec::new(),
            claims: ClaimNames::default(),
            tenant: TenantRule::Fixed(String::new()),
            capabilities: CapabilityRules::of_claim("capabilities"),
        }
    }

    fn request(
        subject: &str,
        name: &str,
        lifetime: u32,
    ) -> Result<TokenRequest, ParseTokenRequestError> {
        TokenRequest::parse(subject.to_owned(), name.to_owned(), lifetime, None)
    }

    #[test]
    fn an_issued_token_is_accepted() {
        let secret = Hs256Secret::from_bytes(&[7; 32]).unwrap();
        let keys = KeySet::load(Some(&secret), &[]).unwrap();
        let issuer = TokenIssuer::new(&secret, &rules());

        let issued = issuer.issue(&request("ada", "Ada Lovelace", 60).unwrap(), NOW).unwrap();

        assert_eq!(issued.expires_at_unix_ms, 1_800_000_060_000);
        assert_eq!(
            verify(issued.token.expose_secret(), &keys, &rules(), NOW),
            Ok(Identity {
                subject: "ada".to_owned(),
                issuer: "sockeye".to_owned(),
                tenant: String::new(),
                name: Some("Ada Lovelace".to_owned()),
                expires_at_unix_ms: issued.expires_at_unix_ms,
                marks: TokenMarks {
                    issued_at_unix_ms: Some(1_800_000_000_000),
                    ..TokenMarks::default()
                },
                capabilities: Capability::everything(),
            }),
        );
    }

    #[test]
    fn an_issued_token_allows_what_was_asked_for_and_everything_otherwise() {
        let secret = Hs256Secret::from_bytes(&[7; 32]).unwrap();
        let keys = KeySet::load(Some(&secret), &[]).unwrap();
        let issuer = TokenIssuer::new(&secret, &rules());
        let of = |capabilities: Option<Vec<Capability>>| {
            let request =
                TokenRequest::parse("ada".to_owned(), String::new(), 60, capabilities).unwrap();
            let issued = issuer.issue(&request, NOW).unwrap();
            verify(issued.token.expose_secret(), &keys, &rules(), NOW).unwrap().capabilities
        };
        let one = Capability {
            actions: vec![Action::Publish],
            rooms: vec!["news".to_owned()],
            events: vec!["typing".to_owned()],
        };

        assert_eq!(of(Some(vec![one.clone()])), vec![one.clone()]);
        assert_eq!(of(Some(Vec::new())), []);
        assert_eq!(of(None), Capability::everything());
        let too_many =
            TokenRequest::parse("ada".to_owned(), String::new(), 60, Some(vec![one; 65]));
        let error = ParseTokenRequestError::Capabilities(CapabilityError::TooMany);
        assert_eq!(too_many.unwrap_err(), error);
    }

    #[test]
    fn zero_is_an_hour_and_an_empty_name_is_none() {
        let request = request("ada", "", 0).unwrap();

        assert_eq!(request.lifetime_seconds, 3600);
        assert_eq!(request.name, None);
    }

    #[test]
    fn bounds_are_those_of_the_contract() {
        let (fits, too_long) = ("x".repeat(128), "x".repeat(129));

        assert!(request(&fits, &fits, 86_400).is_ok());
        assert!(request("x", "", 1).is_ok());
        assert_eq!(request("", "", 1).unwrap_err(), ParseTokenRequestError::Subject);
        assert_eq!(request(&too_long, "", 1).unwrap_err(), ParseTokenRequestError::Subject);
        assert_eq!(request("x", &too_long, 1).unwrap_err(), ParseTokenRequestError::Name);
        assert_eq!(request("x", "", 86_401).unwrap_err(), ParseTokenRequestError::Lifetime);
    }

    #[test]
    fn nothing_of_key_or_token_is_in_debug_text() {
        let secret = Hs256Secret::from_bytes(b"correct horse battery staple, twice over").unwrap();
        let issuer = TokenIssuer::new(&secret, &rules());
        let issued = issuer.issue(&request("ada", "", 0).unwrap(), NOW).unwrap();

        let text = format!("{issuer:?} {issued:?}");

        assert!(!text.contains("horse") && !text.contains("eyJ"), "{text}");
    }
}
