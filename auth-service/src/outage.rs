//! Lists every reason to decide nothing about a token.

use std::time::Duration;

use crate::refusal::Refusal;

/// How long a token waits for its issuer. Less than callers wait for the answer.
pub(crate) const PATIENCE: Duration = Duration::from_millis(1500);

/// Why nothing was decided. The same token may do later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outage {
    /// The issuer's keys could not be fetched yet.
    NoKeys,
    /// The issuer's keys could not be fetched for longer than they are good.
    KeysTooOld,
    /// The issuer's keys are being fetched, and it takes too long.
    FetchUnderWay,
    /// The token names a key that is not there, and the issuer was asked too recently to be asked for it now.
    LookupNotDue,
    /// The issuer does not say whether the token is good.
    Introspection,
    /// Too many tokens wait for the issuer.
    TooManyWaiting,
}

impl Outage {
    /// Returns the name that logs use.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::NoKeys => "no_keys",
            Self::KeysTooOld => "keys_too_old",
            Self::FetchUnderWay => "fetch_under_way",
            Self::LookupNotDue => "lookup_not_due",
            Self::Introspection => "introspection",
            Self::TooManyWaiting => "too_many_waiting",
        }
    }
}

/// Why a token is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum VerifyError {
    /// Final: the same token will not do later either.
    Refused(Refusal),
    /// Nothing was decided.
    Undecided(Outage),
}

impl From<Refusal> for VerifyError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Outage> for VerifyError {
    fn from(outage: Outage) -> Self {
        Self::Undecided(outage)
    }
}
