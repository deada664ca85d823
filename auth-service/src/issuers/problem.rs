//! Says what is wrong with a file of issuers.

use std::error::Error;
use std::fmt::{self, Write as _};
use std::io;
use std::path::PathBuf;

use crate::capabilities::CapabilityError;
use crate::config::ReadSecretError;
use crate::https::{ParseUrlError, TrustError};
use crate::key_set::LoadKeysError;

/// Why the file of issuers cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ReadIssuersError {
    #[error("{} cannot be read", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} is not what a file of issuers must be", path.display())]
    Parse { path: PathBuf, source: toml::de::Error },
    #[error("{} names no issuer", path.display())]
    Empty { path: PathBuf },
    #[error("in {}:{}", path.display(), all_of(problems))]
    Issuers { path: PathBuf, problems: Vec<NamedProblem> },
}

/// What is wrong, and with which issuer.
#[derive(Debug)]
pub struct NamedProblem {
    pub(super) number: usize,
    pub(super) name: String,
    pub(super) reason: IssuerProblem,
}

impl fmt::Display for NamedProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, name, reason } = self;
        write!(f, "issuer {number} ({name:?}): {reason}")?;
        let mut cause = reason.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

fn all_of(problems: &[NamedProblem]) -> String {
    let mut text = String::new();
    for problem in problems {
        // Writing to a string does not fail.
        let _ = write!(text, "\n  {problem}");
    }
    text
}

/// What is wrong with one issuer.
#[derive(Debug, thiserror::Error)]
pub enum IssuerProblem {
    #[error("another one has this name")]
    Twice,
    #[error("`{member}` is empty")]
    EmptyText { member: &'static str },
    #[error("`types` must list media types as `typ` has them, or \"\" for tokens without one")]
    Types,
    #[error("`clock_leeway`: {error}")]
    ClockLeeway { error: String },
    #[error("`algorithms` is empty")]
    NoAlgorithm,
    #[error("`algorithms`: {name:?} is none of HS256, RS256, ES256 and EdDSA")]
    UnknownAlgorithm { name: String },
    #[error("it has a key of {name}, which `algorithms` does not list")]
    KeyOfOtherAlgorithm { name: &'static str },
    #[error("`algorithms` lists {name}, and there is no key of it")]
    AlgorithmWithoutKey { name: &'static str },
    #[error(
        "it has none of `hs256_secret_file`, `public_key_files`, `jwks_url`, `discovery` and `introspection`"
    )]
    NoKey,
    #[error("it has more than one of key files, `jwks_url`, `discovery` and `introspection`")]
    SeveralSources,
    #[error("`{member}` is for issuers with keys")]
    OnlyForKeys { member: &'static str },
    #[error("`scopes` must list names without blanks")]
    Scopes,
    #[error(
        "its tenant, `tenant` or else `name`, must have at most 128 bytes and no control characters"
    )]
    Tenant,
    #[error("it has both `tenant` and `claims.tenant`")]
    SecondTenant,
    #[error(
        "grant {number} must have one of `roles`, `scopes` and `everyone = true`; both lists have names without blanks"
    )]
    Grantees { number: usize },
    #[error("grant {number}")]
    Grant { number: usize, source: CapabilityError },
    #[error("it has grants for roles, and no `claims.roles`")]
    NoRoles,
    #[error("it has `claims.roles`, and no grant for a role")]
    UnusedRoles,
    #[error("another one has `introspection`, and a token must not be shown to the wrong one")]
    SecondIntrospection,
    #[error("`introspection`: the client's id and secret do not make a header")]
    Credentials,
    #[error("`algorithms` lists HS256, whose keys are never published")]
    PublishedSecret,
    #[error("`{member}` is for issuers with a URL of keys")]
    WithoutKeyUrl { member: &'static str },
    #[error("`{member}` is for issuers with a URL")]
    WithoutUrl { member: &'static str },
    #[error("`{member}`")]
    Url { member: &'static str, source: ParseUrlError },
    #[error("`{member}` must be a duration from {min} to {max}")]
    Duration { member: &'static str, min: &'static str, max: &'static str },
    #[error("`jwks_max_age` must be at least twice `jwks_refresh`, so that one fetch may fail")]
    MaxAge,
    #[error("`ca_file`")]
    Trust(#[source] TrustError),
    #[error("`{member}`")]
    Secret { member: &'static str, source: ReadSecretError },
    #[error("the keys are refused")]
    Keys(#[source] LoadKeysError),
}
