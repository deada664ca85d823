//! Reads the file of issuers, and tells all that is wrong with it at once.

use std::collections::HashSet;
use std::error::Error;
use std::fmt::{self, Write as _};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::{Issuer, Issuers};
use crate::algorithm::Algorithm;
use crate::config::{self, ReadSecretError};
use crate::key_set::{KeySet, LoadKeysError};
use crate::rules::{ClaimNames, Rules, TokenTypes};

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
    algorithms: Vec<String>,
    types: Option<Vec<String>>,
    clock_leeway: Option<String>,
    hs256_secret_file: Option<PathBuf>,
    #[serde(default)]
    public_key_files: Vec<PathBuf>,
    #[serde(default)]
    claims: ClaimNamesTable,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ClaimNamesTable {
    name: Option<String>,
    session: Option<String>,
}

impl Issuers {
    /// Reads the file and everything that it names.
    pub(crate) fn read(path: &Path) -> Result<Self, ReadIssuersError> {
        let failed = |source| ReadIssuersError::Read { path: path.to_owned(), source };
        let text = fs::read_to_string(path).map_err(failed)?;
        let table: IssuersTable = toml::from_str(&text)
            .map_err(|source| ReadIssuersError::Parse { path: path.to_owned(), source })?;
        let directory = path.parent().unwrap_or(Path::new(""));

        let (mut issuers, mut problems, mut names) = (Vec::new(), Vec::new(), HashSet::new());
        for (index, table) in table.issuer.into_iter().enumerate() {
            let name = table.name.clone();
            let mut report = |reason| {
                problems.push(NamedProblem { number: index + 1, name: name.clone(), reason });
            };
            if !names.insert(name.clone()) {
                report(IssuerProblem::Twice);
            }
            issuers.extend(table.into_issuer(directory, &mut report));
        }
        if !problems.is_empty() {
            return Err(ReadIssuersError::Issuers { path: path.to_owned(), problems });
        }
        if issuers.is_empty() {
            return Err(ReadIssuersError::Empty { path: path.to_owned() });
        }
        Ok(Self(issuers))
    }
}

impl IssuerTable {
    /// Makes the issuer, or none and a report at least.
    fn into_issuer(
        self,
        directory: &Path,
        report: &mut impl FnMut(IssuerProblem),
    ) -> Option<Issuer> {
        for (member, text) in [
            ("name", Some(&self.name)),
            ("audience", Some(&self.audience)),
            ("claims.name", self.claims.name.as_ref()),
            ("claims.session", self.claims.session.as_ref()),
        ] {
            if text.is_some_and(String::is_empty) {
                report(IssuerProblem::EmptyText { member });
            }
        }
        let clock_leeway = parse_leeway(self.clock_leeway.as_deref(), report);
        let algorithms = parse_algorithms(&self.algorithms, report);
        let types = self.types.map_or(Some(TokenTypes::default()), |types| {
            TokenTypes::parse(&types).or_else(|| {
                report(IssuerProblem::Types);
                None
            })
        });
        let keys = read_keys(
            self.hs256_secret_file.as_deref(),
            &self.public_key_files,
            directory,
            report,
        )?;
        if let Some(name) = keys.algorithms().into_iter().find(|name| !algorithms.contains(name)) {
            report(IssuerProblem::KeyOfOtherAlgorithm { name });
        }
        if let Some(name) = algorithms.into_iter().find(|name| !keys.algorithms().contains(name)) {
            report(IssuerProblem::AlgorithmWithoutKey { name });
        }
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
            claims,
        };
        Some(Issuer { keys, rules })
    }
}

fn parse_leeway(text: Option<&str>, report: &mut impl FnMut(IssuerProblem)) -> Option<Duration> {
    let Some(text) = text else { return Some(config::CLOCK_LEEWAY_DEFAULT) };
    config::parse_clock_leeway(text)
        .map_err(|error| report(IssuerProblem::ClockLeeway { error: error.to_string() }))
        .ok()
}

fn parse_algorithms(names: &[String], report: &mut impl FnMut(IssuerProblem)) -> Vec<&'static str> {
    if names.is_empty() {
        report(IssuerProblem::NoAlgorithm);
    }
    let mut known = Vec::new();
    for name in names {
        match Algorithm::from_name(name) {
            Some(algorithm) => known.push(algorithm.name()),
            None => report(IssuerProblem::UnknownAlgorithm { name: name.clone() }),
        }
    }
    known
}

fn read_keys(
    secret_file: Option<&Path>,
    public_key_files: &[PathBuf],
    directory: &Path,
    report: &mut impl FnMut(IssuerProblem),
) -> Option<KeySet> {
    let secret = match secret_file.map(|path| config::read_secret_file(&directory.join(path))) {
        None => None,
        Some(Ok(secret)) => Some(secret),
        Some(Err(error)) => {
            report(IssuerProblem::Secret(error));
            return None;
        }
    };
    let paths: Vec<_> = public_key_files.iter().map(|path| directory.join(path)).collect();
    if secret.is_none() && paths.is_empty() {
        report(IssuerProblem::NoKey);
        return None;
    }
    KeySet::load(secret.as_ref(), &paths).map_err(|error| report(IssuerProblem::Keys(error))).ok()
}

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
    number: usize,
    name: String,
    reason: IssuerProblem,
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
    #[error("it has neither `hs256_secret_file` nor `public_key_files`")]
    NoKey,
    #[error("`hs256_secret_file`")]
    Secret(#[source] ReadSecretError),
    #[error("the keys are refused")]
    Keys(#[source] LoadKeysError),
}
