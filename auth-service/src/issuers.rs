//! Holds whom we take tokens from, each with keys and rules of its own.

use crate::algorithm::Algorithm;
use crate::identity::Identity;
use crate::key_set::KeySet;
use crate::outage::VerifyError;
use crate::published_keys::{KeyFetcher, PublishedKeys};
use crate::refusal::Refusal;
use crate::rules::Rules;
use crate::verify::{unverified_issuer, verify};

mod file;
mod problem;
mod remote;

pub use problem::{IssuerProblem, ReadIssuersError};

/// Someone who issues tokens. Its keys are good for its own tokens only.
#[derive(Debug)]
pub(crate) struct Issuer {
    pub(crate) verifier: Verifier,
    pub(crate) rules: Rules,
}

/// What tells an issuer's tokens from others.
#[derive(Debug)]
pub(crate) enum Verifier {
    /// Keys that were read at the start.
    Keys(KeySet),
    /// Keys that the issuer publishes.
    Published(PublishedKeys),
}

impl Issuer {
    async fn verify(&self, token: &str, now_unix_ms: u64) -> Result<Identity, VerifyError> {
        match &self.verifier {
            Verifier::Keys(keys) => Ok(verify(token, keys, &self.rules, now_unix_ms)?),
            Verifier::Published(keys) => keys.verify(token, &self.rules, now_unix_ms).await,
        }
    }

    /// Returns the names of the algorithms that its tokens may have.
    pub(crate) fn algorithms(&self) -> Vec<&'static str> {
        let algorithms = match &self.verifier {
            Verifier::Keys(keys) => keys.algorithms(),
            Verifier::Published(keys) => keys.algorithms(),
        };
        algorithms.iter().copied().map(Algorithm::name).collect()
    }
}

/// All issuers, at least one, no two of one name.
#[derive(Debug)]
pub(crate) struct Issuers {
    list: Vec<Issuer>,
    fetchers: Vec<KeyFetcher>,
}

impl Issuers {
    pub(crate) fn single(issuer: Issuer) -> Self {
        Self { list: vec![issuer], fetchers: Vec::new() }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Issuer> {
        self.list.iter()
    }

    /// Hands over who fetches the published keys. Until these run, there are none.
    pub(crate) fn take_fetchers(&mut self) -> Vec<KeyFetcher> {
        std::mem::take(&mut self.fetchers)
    }

    /// Verifies a token as the issuer that it names would have it.
    ///
    /// Where there are several, the name is read before the signature is verified, and decides on nothing but the keys: whoever
    /// signs with one issuer's keys can only be that issuer, because the claims are held against its name afterwards.
    pub(crate) async fn verify(
        &self,
        token: &str,
        now_unix_ms: u64,
    ) -> Result<Identity, VerifyError> {
        let issuer = match &self.list[..] {
            [only] => only,
            several => {
                let name = unverified_issuer(token)?;
                several.iter().find(|issuer| issuer.rules.issuer == name).ok_or(Refusal::Issuer)?
            }
        };
        issuer.verify(token, now_unix_ms).await
    }
}

#[cfg(test)]
mod tests;
