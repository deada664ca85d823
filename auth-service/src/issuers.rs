//! Holds whom we take tokens from, each with keys and rules of its own.

use crate::identity::Identity;
use crate::key_set::KeySet;
use crate::refusal::Refusal;
use crate::rules::Rules;
use crate::verify::{unverified_issuer, verify};

mod file;

pub use file::{IssuerProblem, ReadIssuersError};

/// Someone who issues tokens. Its keys are good for its own tokens only.
#[derive(Debug)]
pub(crate) struct Issuer {
    pub(crate) keys: KeySet,
    pub(crate) rules: Rules,
}

/// All issuers, at least one, no two of one name.
#[derive(Debug)]
pub(crate) struct Issuers(Vec<Issuer>);

impl Issuers {
    pub(crate) fn single(issuer: Issuer) -> Self {
        Self(vec![issuer])
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Issuer> {
        self.0.iter()
    }

    /// Verifies a token as the issuer that it names would have it.
    ///
    /// Where there are several, the name is read before the signature is verified, and decides on nothing but the keys: whoever
    /// signs with one issuer's keys can only be that issuer, because the claims are held against its name afterwards.
    pub(crate) fn verify(&self, token: &str, now_unix_ms: u64) -> Result<Identity, Refusal> {
        let issuer = match &self.0[..] {
            [only] => only,
            several => {
                let name = unverified_issuer(token)?;
                several.iter().find(|issuer| issuer.rules.issuer == name).ok_or(Refusal::Issuer)?
            }
        };
        verify(token, &issuer.keys, &issuer.rules, now_unix_ms)
    }
}

#[cfg(test)]
mod tests;
