//! Names the settings of the auth service.

use std::io::{self, Read as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::builder::{BoolishValueParser, NonEmptyStringValueParser};
use clap::value_parser;
use secrecy::{ExposeSecret, SecretSlice};
use zeroize::Zeroizing;

use crate::capabilities::CapabilityRules;
use crate::hs256_secret::{Hs256Secret, WeakSecretError};
use crate::rules::{ClaimNames, Rules, TokenTypes};
use crate::tenant::TenantRule;

mod grpc;
mod secret_variable;

pub use grpc::GrpcConfig;
pub use secret_variable::SecretVariable;

/// Largest secret file that is read.
const SECRET_FILE_BYTES_MAX: u64 = 64 * 1024;

/// Longest leeway between clocks. More would be a longer life for every token.
pub(crate) const CLOCK_LEEWAY_MAX: Duration = Duration::from_secs(300);

/// Longest time that replaced keys are good. More would be no rotation.
const KEY_OVERLAP_MAX: Duration = Duration::from_secs(24 * 3600);

/// The leeway of an issuer in the file that does not say one. As that of the setting.
pub(crate) const CLOCK_LEEWAY_DEFAULT: Duration = Duration::from_secs(5);

/// Where the tokens of the one issuer that the settings name say what their users may do.
const CAPABILITIES_CLAIM: &str = "capabilities";

/// Settings of the auth service. Each one is both a flag and an environment variable.
#[derive(Debug, Clone, clap::Args)]
#[group(id = "auth-service")]
pub struct Config {
    /// Address that serves gRPC.
    #[arg(
        id = "auth-listen",
        long = "auth-listen",
        env = "AUTH_LISTEN",
        default_value = "127.0.0.1:50051",
        value_name = "ADDR"
    )]
    pub listen: SocketAddr,

    /// Address that serves health, readiness and metrics over HTTP. Off unless given.
    #[arg(
        id = "auth-ops-listen",
        long = "auth-ops-listen",
        env = "AUTH_OPS_LISTEN",
        value_name = "ADDR"
    )]
    pub ops_listen: Option<SocketAddr>,

    /// How many threads verify tokens, from 1 to 64, where the auth service is a process of its own [default: one for each two cores].
    #[arg(
        id = "auth-threads",
        long = "auth-threads",
        env = "AUTH_THREADS",
        value_name = "COUNT",
        value_parser = value_parser!(u16).range(1..=64)
    )]
    pub threads: Option<u16>,

    /// TLS with the other services, and who may call.
    #[command(flatten)]
    pub grpc: GrpcConfig,

    /// Tell callers the contracts, by gRPC reflection. For development: whoever may call anything may ask.
    #[arg(
        id = "auth-grpc-reflection",
        long = "auth-grpc-reflection",
        env = "AUTH_GRPC_REFLECTION",
        value_parser = BoolishValueParser::new()
    )]
    pub grpc_reflection: bool,

    #[command(flatten)]
    pub hs256_secret: SecretVariable,

    /// File with the secret of HS256 tokens, at least 32 bytes. A line end after it does not count.
    #[arg(
        id = "auth-hs256-secret-file",
        long = "auth-hs256-secret-file",
        env = "AUTH_HS256_SECRET_FILE",
        value_name = "PATH"
    )]
    pub hs256_secret_file: Option<PathBuf>,

    /// File with public keys of RS256, ES256 or EdDSA tokens: PEM, a JWK, or a JWK set. May be given several times; in
    /// the variable, commas separate files. A token with a `kid` needs a JWK with that `kid`: keys from PEM have none.
    #[arg(
        id = "auth-public-key-file",
        long = "auth-public-key-file",
        env = "AUTH_PUBLIC_KEY_FILES",
        value_delimiter = ',',
        value_name = "PATH"
    )]
    pub public_key_files: Vec<PathBuf>,

    /// File of issuers, each with keys and rules of its own. The settings of the one issuer must not be given then.
    #[arg(
        id = "auth-issuers-file",
        long = "auth-issuers-file",
        env = "AUTH_ISSUERS_FILE",
        value_name = "PATH",
        conflicts_with_all = ["auth-hs256-secret-file", "auth-public-key-file"]
    )]
    pub issuers_file: Option<PathBuf>,

    /// The only `iss` that is accepted in tokens.
    #[arg(
        id = "auth-issuer",
        long = "auth-issuer",
        env = "AUTH_ISSUER",
        default_value = "sockeye",
        value_name = "TEXT",
        value_parser = NonEmptyStringValueParser::new()
    )]
    pub issuer: String,

    /// What the `aud` of a token must name, alone or among others.
    #[arg(
        id = "auth-audience",
        long = "auth-audience",
        env = "AUTH_AUDIENCE",
        default_value = "sockeye",
        value_name = "TEXT",
        value_parser = NonEmptyStringValueParser::new()
    )]
    pub audience: String,

    /// How far the clock of the tokens' issuer may differ from ours. At most 5 minutes.
    #[arg(
        id = "auth-clock-leeway",
        long = "auth-clock-leeway",
        env = "AUTH_CLOCK_LEEWAY",
        default_value = "5s",
        value_name = "DURATION",
        value_parser = parse_clock_leeway
    )]
    pub clock_leeway: Duration,

    /// For how long keys and secrets out of files are good after their files were replaced. At most 24 hours.
    #[arg(
        id = "auth-key-overlap",
        long = "auth-key-overlap",
        env = "AUTH_KEY_OVERLAP",
        default_value = "10m",
        value_name = "DURATION",
        value_parser = parse_key_overlap
    )]
    pub key_overlap: Duration,

    /// File that keeps which tokens were taken back. It is made where there is none. Without it, none can be.
    #[arg(
        id = "auth-revocations-file",
        long = "auth-revocations-file",
        env = "AUTH_REVOCATIONS_FILE",
        value_name = "PATH"
    )]
    pub revocations_file: Option<PathBuf>,

    /// Sign a token for whoever asks, with the HS256 secret. For development: it makes every check of tokens void.
    #[arg(
        id = "auth-issue-tokens",
        long = "auth-issue-tokens",
        env = "AUTH_ISSUE_TOKENS",
        value_parser = BoolishValueParser::new()
    )]
    pub issue_tokens: bool,
}

impl Config {
    /// Whether no key is named at all, so that the service would refuse to start.
    pub fn names_no_key(&self) -> bool {
        self.issuers_file.is_none()
            && !self.hs256_secret.is_set()
            && self.hs256_secret_file.is_none()
            && self.public_key_files.is_empty()
    }

    /// Returns the rules of the one issuer that the settings name.
    pub(crate) fn rules(&self) -> Rules {
        Rules {
            issuer: self.issuer.clone(),
            audience: self.audience.clone(),
            clock_leeway: self.clock_leeway,
            types: TokenTypes::default(),
            scopes: Vec::new(),
            claims: ClaimNames::default(),
            tenant: TenantRule::Fixed(String::new()),
            capabilities: CapabilityRules::of_claim(CAPABILITIES_CLAIM),
        }
    }

    /// Makes up an HS256 secret that ends with this process, and switches issuing on so that there are tokens at all.
    ///
    /// # Errors
    ///
    /// Fails when the operating system has no randomness to give.
    pub fn use_throwaway_secret(&mut self) -> Result<(), getrandom::Error> {
        self.hs256_secret = SecretVariable::random()?;
        self.issue_tokens = true;
        Ok(())
    }

    /// Reads the HS256 secret from where the settings say, if they say so.
    pub(crate) fn read_hs256_secret(&self) -> Result<Option<Hs256Secret>, ReadSecretError> {
        match (self.hs256_secret.expose(), &self.hs256_secret_file) {
            (None, None) => Ok(None),
            (Some(_), Some(_)) => Err(ReadSecretError::Twice),
            (Some(bytes), None) => {
                Ok(Some(Hs256Secret::from_bytes(bytes).map_err(ReadSecretError::Variable)?))
            }
            (None, Some(path)) => read_secret_file(path).map(Some),
        }
    }
}

/// Reads an HS256 secret. A line end after it does not count.
pub(crate) fn read_secret_file(path: &Path) -> Result<Hs256Secret, ReadSecretError> {
    let weak = |source| ReadSecretError::File { path: path.to_owned(), source };
    Hs256Secret::from_bytes(read_secret_bytes(path)?.expose_secret()).map_err(weak)
}

/// Makes an HS256 secret of what a file holds. A line end after it does not count.
pub(crate) fn parse_secret(path: &Path, contents: &[u8]) -> Result<Hs256Secret, ReadSecretError> {
    let weak = |source| ReadSecretError::File { path: path.to_owned(), source };
    Hs256Secret::from_bytes(without_line_end(contents)).map_err(weak)
}

/// Reads a secret of any length. A line end after it does not count.
pub(crate) fn read_secret_bytes(path: &Path) -> Result<SecretSlice<u8>, ReadSecretError> {
    let read = |source| ReadSecretError::Read { path: path.to_owned(), source };
    let file = std::fs::File::open(path).map_err(read)?;
    // With room from the start: what is moved as a buffer grows is not wiped.
    let room = usize::try_from(SECRET_FILE_BYTES_MAX).unwrap_or(0);
    let mut bytes = Zeroizing::new(Vec::with_capacity(room));
    file.take(SECRET_FILE_BYTES_MAX).read_to_end(&mut bytes).map_err(read)?;
    Ok(SecretSlice::from(without_line_end(&bytes).to_vec()))
}

pub(crate) fn without_line_end(bytes: &[u8]) -> &[u8] {
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    bytes.strip_suffix(b"\r").unwrap_or(bytes)
}

pub(crate) fn parse_clock_leeway(text: &str) -> Result<Duration, ParseClockLeewayError> {
    let leeway = humantime::parse_duration(text)?;
    if leeway > CLOCK_LEEWAY_MAX { Err(ParseClockLeewayError::TooLong) } else { Ok(leeway) }
}

fn parse_key_overlap(text: &str) -> Result<Duration, ParseKeyOverlapError> {
    let overlap = humantime::parse_duration(text)?;
    if overlap > KEY_OVERLAP_MAX { Err(ParseKeyOverlapError::TooLong) } else { Ok(overlap) }
}

#[derive(Debug, thiserror::Error)]
enum ParseKeyOverlapError {
    #[error(transparent)]
    Duration(#[from] humantime::DurationError),
    #[error("it is longer than {}", humantime::format_duration(KEY_OVERLAP_MAX))]
    TooLong,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum ParseClockLeewayError {
    #[error(transparent)]
    Duration(#[from] humantime::DurationError),
    #[error("it is longer than {}", humantime::format_duration(CLOCK_LEEWAY_MAX))]
    TooLong,
}

/// Why there is no HS256 secret although the settings name one.
#[derive(Debug, thiserror::Error)]
pub enum ReadSecretError {
    #[error("AUTH_HS256_SECRET and AUTH_HS256_SECRET_FILE are both set")]
    Twice,
    #[error("the secret in AUTH_HS256_SECRET cannot be used")]
    Variable(#[source] WeakSecretError),
    #[error("the secret in {} cannot be used", path.display())]
    File { path: PathBuf, source: WeakSecretError },
    #[error("{} cannot be read", path.display())]
    Read { path: PathBuf, source: io::Error },
}

#[cfg(test)]
mod tests;
