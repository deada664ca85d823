//! Reads the file of issuers, and tells all that is wrong with it at once.

use std::collections::HashSet;
use std::fs;
use std::mem;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::grants::{GrantTable, capability_rules};
use super::problem::{IssuerProblem, NamedProblem, ReadIssuersError};
use super::remote::{IntrospectionTable, RemoteTable};
use super::{Issuer, Issuers, Verifier};
use crate::algorithm::Algorithm;
use crate::capabilities::ClaimPath;
use crate::config;
use crate::file_keys::{FileKeys, KeySources};
use crate::key_set::KeySet;
use crate::published_keys::{KeyFetcher, PublishedKeys};
use crate::rules::{ClaimNames, Rules, TokenTypes};
use crate::tenant::{TenantRule, is_tenant};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct IssuersTable {
    #[serde(default)]
    issuer: Vec<IssuerTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct IssuerTable {
    name: String,
    audience: String,
    #[serde(default)]
    algorithms: Vec<String>,
    types: Option<Vec<String>>,
    #[serde(default)]
    scopes: Vec<String>,
    clock_leeway: Option<String>,
    hs256_secret_file: Option<PathBuf>,
    #[serde(default)]
    public_key_files: Vec<PathBuf>,
    jwks_url: Option<String>,
    #[serde(default)]
    discovery: bool,
    jwks_refresh: Option<String>,
    jwks_max_age: Option<String>,
    introspection: Option<IntrospectionTable>,
    ca_file: Option<PathBuf>,
    #[serde(default)]
    allow_http_on_loopback: bool,
    tenant: Option<String>,
    #[serde(default)]
    claims: ClaimNamesTable,
    #[serde(default)]
    grant: Vec<GrantTable>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ClaimNamesTable {
    name: Option<String>,
    session: Option<String>,
    tenant: Option<String>,
    capabilities: Option<ClaimPath>,
    roles: Option<ClaimPath>,
}

impl Issuers {
    /// Reads the file and everything that it names.
    pub(crate) fn read(path: &Path) -> Result<Self, ReadIssuersError> {
        let failed = |source| ReadIssuersError::Read { path: path.to_owned(), source };
        let text = fs::read_to_string(path).map_err(failed)?;
        let table: IssuersTable = toml::from_str(&text)
            .map_err(|source| ReadIssuersError::Parse { path: path.to_owned(), source })?;
        let directory = path.parent().unwrap_or(Path::new(""));

        let (mut list, mut fetchers) = (Vec::new(), Vec::new());
        let (mut problems, mut names) = (Vec::new(), HashSet::new());
        let mut is_one_asked = false;
        for (index, table) in table.issuer.into_iter().enumerate() {
            let name = table.name.clone();
            let mut report = |reason| {
                problems.push(NamedProblem { number: index + 1, name: name.clone(), reason });
            };
            if !names.insert(name.clone()) {
                report(IssuerProblem::Twice);
            }
            if table.introspection.is_some() && mem::replace(&mut is_one_asked, true) {
                report(IssuerProblem::SecondIntrospection);
            }
            if let Some((issuer, fetcher)) = table.into_issuer(directory, &mut report) {
                list.push(issuer);
                fetchers.extend(fetcher);
            }
        }
        if !problems.is_empty() {
            return Err(ReadIssuersError::Issuers { path: path.to_owned(), problems });
        }
        if list.is_empty() {
            return Err(ReadIssuersError::Empty { path: path.to_owned() });
        }
        Ok(Self { list, fetchers })
    }
}

impl IssuerTable {
    /// Makes the issuer and who fetches its keys where it publishes them, or nothing and a report at least.
    fn into_issuer(
        self,
        directory: &Path,
        report: &mut impl FnMut(IssuerProblem),
    ) -> Option<(Issuer, Option<KeyFetcher>)> {
        for (member, text) in [
            ("name", Some(&self.name)),
            ("audience", Some(&self.audience)),
            ("claims.name", self.claims.name.as_ref()),
            ("claims.session", self.claims.session.as_ref()),
            ("claims.tenant", self.claims.tenant.as_ref()),
        ] {
            if text.is_some_and(String::is_empty) {
                report(IssuerProblem::EmptyText { member });
            }
        }
        let clock_leeway = parse_leeway(self.clock_leeway.as_deref(), report);
        let algorithms = match &self.introspection {
            None => parse_algorithms(&self.algorithms, report),
            Some(_) => {
                self.report_what_keys_need(report);
                Vec::new()
            }
        };
        let types = self.types.map_or(Some(TokenTypes::default()), |types| {
            TokenTypes::parse(&types).or_else(|| {
                report(IssuerProblem::Types);
                None
            })
        });
        if self.scopes.iter().any(|scope| scope.is_empty() || scope.contains(' ')) {
            report(IssuerProblem::Scopes);
        }
        let tenant = parse_tenant(self.tenant, self.claims.tenant, &self.name, report);
        let ClaimNamesTable { capabilities, roles, .. } = self.claims;
        let capabilities = capability_rules(capabilities, roles, self.grant, report);
        let sources = Sources {
            remote: RemoteTable {
                jwks_url: self.jwks_url,
                discovery: self.discovery,
                jwks_refresh: self.jwks_refresh,
                jwks_max_age: self.jwks_max_age,
                ca_file: self.ca_file.map(|path| directory.join(path)),
                allow_http_on_loopback: self.allow_http_on_loopback,
            },
            secret_file: self.hs256_secret_file,
            public_key_files: self.public_key_files,
            introspection: self.introspection,
        };
        let (verifier, fetcher) =
            sources.into_verifier(&self.name, algorithms, directory, report)?;
        let defaults = ClaimNames::default();
        let claims = ClaimNames {
            name: self.claims.name.unwrap_or(defaults.name),
            session: self.claims.session.unwrap_or(defaults.session),
        };
        let rules = Rules {
            issuer: self.name,
            audience: self.audience,
            clock_leeway: clock_leeway?,
            types: types?,
            scopes: self.scopes,
            claims,
            tenant: tenant?,
            capabilities: capabilities?,
        };
        Some((Issuer { verifier, rules }, fetcher))
    }

    fn report_what_keys_need(&self, report: &mut impl FnMut(IssuerProblem)) {
        let members =
            [("algorithms", !self.algorithms.is_empty()), ("types", self.types.is_some())];
        for (member, _) in members.into_iter().filter(|(_, is_set)| *is_set) {
            report(IssuerProblem::OnlyForKeys { member });
        }
    }
}

/// What of an issuer can verify its tokens.
struct Sources {
    remote: RemoteTable,
    secret_file: Option<PathBuf>,
    public_key_files: Vec<PathBuf>,
    introspection: Option<IntrospectionTable>,
}

impl Sources {
    /// Makes the one verifier, and who fetches its keys where it needs that.
    fn into_verifier(
        self,
        issuer: &str,
        algorithms: Vec<Algorithm>,
        directory: &Path,
        report: &mut impl FnMut(IssuerProblem),
    ) -> Option<(Verifier, Option<KeyFetcher>)> {
        let Self { remote, secret_file, public_key_files, introspection } = self;
        let has_key_files = secret_file.is_some() || !public_key_files.is_empty();
        let kinds = [has_key_files, remote.names_keys(), introspection.is_some()];
        if kinds.into_iter().filter(|is_used| *is_used).count() > 1 {
            report(IssuerProblem::SeveralSources);
        }
        if let Some(table) = introspection {
            let verifier = table.into_introspection(issuer, &remote, directory, report)?;
            return Some((Verifier::Introspection(Box::new(verifier)), None));
        }
        if remote.names_keys() {
            let (publication, client) = remote.into_publication(issuer, algorithms, report)?;
            let (keys, fetcher) = PublishedKeys::new(publication, client);
            return Some((Verifier::Published(keys), Some(fetcher)));
        }
        remote.report_unused(report);
        let secret_file = secret_file.map(|path| directory.join(path));
        let public_key_files = public_key_files.iter().map(|path| directory.join(path)).collect();
        let settings = ["hs256_secret_file", "public_key_files"];
        let mut sources =
            KeySources { secret: None, secret_file, public_key_files, settings, algorithms: None };
        let keys = read_keys(&sources, report)?;
        check_algorithms(&keys, &algorithms, report);
        sources.algorithms = Some(algorithms);
        Some((Verifier::Keys(FileKeys::new(sources, keys)), None))
    }
}

fn parse_leeway(text: Option<&str>, report: &mut impl FnMut(IssuerProblem)) -> Option<Duration> {
    let Some(text) = text else { return Some(config::CLOCK_LEEWAY_DEFAULT) };
    config::parse_clock_leeway(text)
        .map_err(|error| report(IssuerProblem::ClockLeeway { error: error.to_string() }))
        .ok()
}

/// An issuer that says nothing of tenants is one, so that names of two issuers never meet by mistake.
fn parse_tenant(
    fixed: Option<String>,
    claim: Option<String>,
    issuer: &str,
    report: &mut impl FnMut(IssuerProblem),
) -> Option<TenantRule> {
    let rule = match (fixed, claim) {
        (Some(_), Some(_)) => {
            report(IssuerProblem::SecondTenant);
            return None;
        }
        (None, Some(claim)) => return Some(TenantRule::Claim(claim)),
        (fixed, None) => fixed.unwrap_or_else(|| issuer.to_owned()),
    };
    if !rule.is_empty() && !is_tenant(&rule) {
        report(IssuerProblem::Tenant);
        return None;
    }
    Some(TenantRule::Fixed(rule))
}

fn parse_algorithms(names: &[String], report: &mut impl FnMut(IssuerProblem)) -> Vec<Algorithm> {
    if names.is_empty() {
        report(IssuerProblem::NoAlgorithm);
    }
    let mut known = Vec::new();
    for name in names {
        match Algorithm::from_name(name) {
            Some(algorithm) => known.push(algorithm),
            None => report(IssuerProblem::UnknownAlgorithm { name: name.clone() }),
        }
    }
    known
}

fn check_algorithms(
    keys: &KeySet,
    algorithms: &[Algorithm],
    report: &mut impl FnMut(IssuerProblem),
) {
    let of_keys = keys.algorithms();
    if let Some(other) = of_keys.iter().find(|algorithm| !algorithms.contains(algorithm)) {
        report(IssuerProblem::KeyOfOtherAlgorithm { name: other.name() });
    }
    if let Some(lacking) = algorithms.iter().find(|algorithm| !of_keys.contains(algorithm)) {
        report(IssuerProblem::AlgorithmWithoutKey { name: lacking.name() });
    }
}

fn read_keys(sources: &KeySources, report: &mut impl FnMut(IssuerProblem)) -> Option<KeySet> {
    let secret = match sources.secret_file.as_deref().map(config::read_secret_file) {
        None => None,
        Some(Ok(secret)) => Some(secret),
        Some(Err(error)) => {
            report(IssuerProblem::Secret { member: "hs256_secret_file", source: error });
            return None;
        }
    };
    let paths = &sources.public_key_files;
    if secret.is_none() && paths.is_empty() {
        report(IssuerProblem::NoKey);
        return None;
    }
    KeySet::load(secret.as_ref(), paths).map_err(|error| report(IssuerProblem::Keys(error))).ok()
}
