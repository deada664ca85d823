//! Says what one revocation takes back.

use serde::{Deserialize, Serialize};

use crate::identity::Identity;

/// Which tokens a revocation names.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Target {
    pub(crate) issuer: String,
    pub(crate) tokens: Tokens,
}

/// Which of an issuer's tokens.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Tokens {
    /// The one with this `jti`.
    Id(String),
    /// Those with this `sid`.
    Session(String),
    /// Those with this `sub`.
    Subject(String),
    All,
}

impl Tokens {
    pub(crate) const LABELS: [&str; 4] = ["id", "session", "subject", "all"];

    /// Returns the name that logs and metrics use.
    pub(crate) const fn label(&self) -> &'static str {
        match self {
            Self::Id(_) => Self::LABELS[0],
            Self::Session(_) => Self::LABELS[1],
            Self::Subject(_) => Self::LABELS[2],
            Self::All => Self::LABELS[3],
        }
    }

    /// Whether the time of issue decides. Otherwise every token is meant, also one that is yet to be issued.
    pub(crate) const fn go_by_time(&self) -> bool {
        matches!(self, Self::Subject(_) | Self::All)
    }
}

impl Target {
    /// Returns everything that names this token. Never its text: one token can be written in several ways.
    pub(super) fn all_of(identity: &Identity) -> impl Iterator<Item = Self> {
        let marks = &identity.marks;
        let named = [
            marks.token_id.clone().map(Tokens::Id),
            marks.session.clone().map(Tokens::Session),
            Some(Tokens::Subject(identity.subject.clone())),
            Some(Tokens::All),
        ];
        let named = named.into_iter().flatten();
        named.map(|tokens| Self { issuer: identity.issuer.clone(), tokens })
    }
}

/// What shall be taken back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RevocationRequest {
    pub(crate) target: Target,
    /// Of what goes by time, tokens issued before this.
    pub(crate) issued_before_unix_ms: u64,
    /// When the last of the tokens expires; 0 for never.
    pub(crate) expires_at_unix_ms: u64,
}

impl RevocationRequest {
    /// Takes back also what was taken back before: a second revocation never makes a token good.
    pub(super) fn and(self, present: &Revocation) -> Self {
        let expires_at_unix_ms = match (self.expires_at_unix_ms, present.expires_at_unix_ms) {
            (0, _) | (_, 0) => 0,
            (new, present) => new.max(present),
        };
        Self {
            issued_before_unix_ms: self.issued_before_unix_ms.max(present.issued_before_unix_ms),
            expires_at_unix_ms,
            ..self
        }
    }
}

/// What was taken back, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Revocation {
    pub(crate) position: u64,
    pub(crate) target: Target,
    pub(crate) issued_before_unix_ms: u64,
    pub(crate) expires_at_unix_ms: u64,
    pub(crate) revoked_at_unix_ms: u64,
}

impl Revocation {
    /// Whether it takes back a token of its target that was issued then. One that does not say when may be of any age.
    pub(super) fn concerns(&self, issued_at_unix_ms: Option<u64>) -> bool {
        !self.target.tokens.go_by_time()
            || issued_at_unix_ms.is_none_or(|time| time < self.issued_before_unix_ms)
    }

    pub(super) fn says_all_of(&self, request: &RevocationRequest) -> bool {
        let lasts = match (self.expires_at_unix_ms, request.expires_at_unix_ms) {
            (0, _) => true,
            (_, 0) => false,
            (present, new) => present >= new,
        };
        lasts && self.issued_before_unix_ms >= request.issued_before_unix_ms
    }
}
