//! Reads where an issuer can be asked, and how often.

use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretSlice};
use serde::Deserialize;

use super::problem::IssuerProblem;
use crate::algorithm::Algorithm;
use crate::config;
use crate::https::{EndpointUrl, HttpsClient};
use crate::introspection::{ClientCredentials, Introspection};
use crate::published_keys::{Discovery, KeySource, Publication};

/// Bounds of a setting, each with its text.
struct Bounds {
    min: (Duration, &'static str),
    max: (Duration, &'static str),
}

const REFRESH: Bounds =
    Bounds { min: (Duration::from_secs(1), "1s"), max: (Duration::from_secs(3600), "1h") };
const REFRESH_DEFAULT: Duration = Duration::from_secs(120);
const AGE: Bounds =
    Bounds { min: (Duration::from_secs(2), "2s"), max: (Duration::from_secs(86_400), "24h") };
const AGE_MAX_DEFAULT: Duration = Duration::from_secs(600);
const CACHE: Bounds = Bounds { min: (Duration::ZERO, "0s"), max: (Duration::from_secs(300), "5m") };
const CACHE_DEFAULT: Duration = Duration::from_secs(30);

/// What the file says about an issuer's servers, as it stands there.
#[derive(Debug)]
pub(super) struct RemoteTable {
    pub(super) jwks_url: Option<String>,
    pub(super) discovery: bool,
    pub(super) jwks_refresh: Option<String>,
    pub(super) jwks_max_age: Option<String>,
    pub(super) ca_file: Option<PathBuf>,
    pub(super) allow_http_on_loopback: bool,
}

impl RemoteTable {
    pub(super) fn names_keys(&self) -> bool {
        self.jwks_url.is_some() || self.discovery
    }

    /// Reports settings that nothing would read.
    pub(super) fn report_unused(&self, report: &mut impl FnMut(IssuerProblem)) {
        self.report_unused_of_keys(report);
        for (member, is_set) in [
            ("ca_file", self.ca_file.is_some()),
            ("allow_http_on_loopback", self.allow_http_on_loopback),
        ] {
            if is_set {
                report(IssuerProblem::WithoutUrl { member });
            }
        }
    }

    fn report_unused_of_keys(&self, report: &mut impl FnMut(IssuerProblem)) {
        for (member, is_set) in [
            ("jwks_refresh", self.jwks_refresh.is_some()),
            ("jwks_max_age", self.jwks_max_age.is_some()),
        ] {
            if is_set {
                report(IssuerProblem::WithoutKeyUrl { member });
            }
        }
    }

    /// Returns what the issuer publishes and who can ask for it, or nothing and a report at least.
    pub(super) fn into_publication(
        self,
        issuer: &str,
        algorithms: Vec<Algorithm>,
        report: &mut impl FnMut(IssuerProblem),
    ) -> Option<(Publication, HttpsClient)> {
        // Whoever reads the keys could sign with them.
        if algorithms.contains(&Algorithm::Hs256) {
            report(IssuerProblem::PublishedSecret);
        }
        let refresh = REFRESH.parse("jwks_refresh", self.jwks_refresh.as_deref(), report);
        let age_max = AGE.parse("jwks_max_age", self.jwks_max_age.as_deref(), report);
        let refresh = refresh.map(|refresh| refresh.unwrap_or(REFRESH_DEFAULT));
        let age_max = age_max.map(|age_max| age_max.unwrap_or(AGE_MAX_DEFAULT));
        if let (Some(refresh), Some(age_max)) = (refresh, age_max)
            && age_max < 2 * refresh
        {
            report(IssuerProblem::MaxAge);
        }
        let source = self.source(issuer, report)?;
        let url = match &source {
            KeySource::KeySet(url) => url,
            KeySource::Discovery(discovery) => discovery.url(),
        };
        let client = self.client(url, report);
        let publication = Publication {
            issuer: issuer.to_owned(),
            source,
            algorithms,
            refresh: refresh?,
            age_max: age_max?,
        };
        Some((publication, client?))
    }

    fn source(&self, issuer: &str, report: &mut impl FnMut(IssuerProblem)) -> Option<KeySource> {
        let may_be_plain = self.allow_http_on_loopback;
        let (member, source) = match &self.jwks_url {
            Some(_) if self.discovery => {
                report(IssuerProblem::SeveralSources);
                return None;
            }
            Some(url) => ("jwks_url", EndpointUrl::parse(url, may_be_plain).map(KeySource::KeySet)),
            None => ("name", Discovery::of(issuer, may_be_plain).map(KeySource::Discovery)),
        };
        source.map_err(|source| report(IssuerProblem::Url { member, source })).ok()
    }

    fn client(
        &self,
        url: &EndpointUrl,
        report: &mut impl FnMut(IssuerProblem),
    ) -> Option<HttpsClient> {
        let client = match &self.ca_file {
            Some(path) => HttpsClient::with_roots_of(path),
            None if url.is_plain() => HttpsClient::without_roots(),
            None => HttpsClient::with_system_roots(),
        };
        client.map_err(|error| report(IssuerProblem::Trust(error))).ok()
    }
}

/// How an issuer is asked about its tokens, as it stands in the file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct IntrospectionTable {
    url: String,
    client_id: String,
    client_secret_file: PathBuf,
    cache: Option<String>,
}

impl IntrospectionTable {
    pub(super) fn into_introspection(
        self,
        issuer: &str,
        remote: &RemoteTable,
        directory: &Path,
        report: &mut impl FnMut(IssuerProblem),
    ) -> Option<Introspection> {
        remote.report_unused_of_keys(report);
        if self.client_id.is_empty() {
            report(IssuerProblem::EmptyText { member: "introspection.client_id" });
        }
        let secret_file = directory.join(&self.client_secret_file);
        let secret = read_client_secret(&secret_file, report);
        let cache = CACHE.parse("introspection.cache", self.cache.as_deref(), report);
        let url = EndpointUrl::parse(&self.url, remote.allow_http_on_loopback)
            .map_err(|source| report(IssuerProblem::Url { member: "introspection.url", source }))
            .ok()?;
        let client = remote.client(&url, report)?;
        let credentials = ClientCredentials { id: self.client_id.clone(), secret: secret? };
        let cache = cache?.unwrap_or(CACHE_DEFAULT);
        let introspection = Introspection::new(issuer.to_owned(), url, client, &credentials, cache);
        if introspection.is_none() {
            report(IssuerProblem::Credentials);
        }
        Some(introspection?.with_secret_file(self.client_id, secret_file))
    }
}

fn read_client_secret(
    path: &Path,
    report: &mut impl FnMut(IssuerProblem),
) -> Option<SecretSlice<u8>> {
    let member = "introspection.client_secret_file";
    let secret = config::read_secret_bytes(path)
        .map_err(|source| report(IssuerProblem::Secret { member, source }))
        .ok()?;
    if secret.expose_secret().is_empty() {
        report(IssuerProblem::EmptyText { member });
    }
    Some(secret)
}

impl Bounds {
    /// Returns the duration, if there is one; or nothing at all, and a report.
    fn parse(
        &self,
        member: &'static str,
        text: Option<&str>,
        report: &mut impl FnMut(IssuerProblem),
    ) -> Option<Option<Duration>> {
        let Some(text) = text else { return Some(None) };
        let duration = humantime::parse_duration(text).ok();
        let within = duration.filter(|duration| (self.min.0..=self.max.0).contains(duration));
        if within.is_none() {
            report(IssuerProblem::Duration { member, min: self.min.1, max: self.max.1 });
        }
        within.map(Some)
    }
}
