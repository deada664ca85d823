//! Holds whom we take tokens from, each with keys and rules of its own.

use std::time::Duration;

use service_kit::watched_files::ReadFilesError;

use crate::algorithm::Algorithm;
use crate::file_keys::{FileKeys, KeyFileError};
use crate::identity::Identity;
use crate::introspection::Introspection;
use crate::outage::VerifyError;
use crate::published_keys::{KeyFetcher, PublishedKeys};
use crate::refusal::Refusal;
use crate::rules::Rules;
use crate::verify::unverified_issuer;

mod file;
mod grants;
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
    /// Keys out of files.
    Keys(FileKeys),
    /// Keys that the issuer publishes.
    Published(PublishedKeys),
    /// The issuer itself, who is asked.
    Introspection(Box<Introspection>),
}

impl Issuer {
    async fn verify(&self, token: &str, now_unix_ms: u64) -> Result<Identity, VerifyError> {
        match &self.verifier {
            Verifier::Keys(keys) => Ok(keys.verify(token, &self.rules, now_unix_ms)?),
            Verifier::Published(keys) => keys.verify(token, &self.rules, now_unix_ms).await,
            Verifier::Introspection(issuer) => issuer.verify(token, &self.rules, now_unix_ms).await,
        }
    }

    /// Returns the names of the algorithms that its tokens may have.
    pub(crate) fn algorithms(&self) -> Vec<&'static str> {
        let algorithms = match &self.verifier {
            Verifier::Keys(keys) => keys.algorithms(),
            Verifier::Published(keys) => keys.algorithms(),
            Verifier::Introspection(_) => &[],
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

    /// Reads files of keys and secrets again whenever they change, from now on. Former keys are good for `overlap` then.
    ///
    /// # Errors
    ///
    /// When a file is of no use.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub(crate) fn watch_files(
        &mut self,
        overlap: Duration,
    ) -> Result<(), ReadFilesError<KeyFileError>> {
        for issuer in &mut self.list {
            match &mut issuer.verifier {
                Verifier::Keys(keys) => keys.watch(&issuer.rules.issuer, overlap)?,
                Verifier::Published(_) => {}
                Verifier::Introspection(asked) => asked.watch()?,
            }
        }
        Ok(())
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
        self.issuer_of(token)?.verify(token, now_unix_ms).await
    }

    /// Finds whom to hold a token against. One that names nobody can only be of the one issuer that is asked about its tokens; to
    /// nobody else's server is a token ever shown.
    fn issuer_of(&self, token: &str) -> Result<&Issuer, Refusal> {
        let asked =
            self.list.iter().find(|issuer| matches!(issuer.verifier, Verifier::Introspection(_)));
        if let ([only], None) = (&self.list[..], asked) {
            return Ok(only);
        }
        match unverified_issuer(token) {
            Ok(name) => {
                self.list.iter().find(|issuer| issuer.rules.issuer == name).ok_or(Refusal::Issuer)
            }
            Err(refusal) => asked.ok_or(refusal),
        }
    }
}

#[cfg(test)]
mod tests;
