//! Turns tokens into identities.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use service_kit::clock;
use service_kit::exit::Failure;
use service_kit::grpc::{GrpcSecurity, GrpcSettingsError};
use service_kit::mutual_tls::HTTP_2;
use service_kit::ops::{Condition, InstallMetricsError, OpsServer, Readiness, install_metrics};
use service_kit::shutdown::Shutdown;
use service_kit::trace::Tracer;
use service_kit::watched_files::ReadFilesError;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

mod algorithm;
mod audit;
mod authenticate_each;
mod callers;
mod capabilities;
mod claims;
mod config;
mod deny_list;
mod file_keys;
#[doc(hidden)]
pub mod fuzzing;
mod grpc;
mod hs256_secret;
mod https;
mod identity;
mod introspection;
mod issue;
mod issuers;
mod json_object;
mod key_set;
mod outage;
mod published_keys;
mod refusal;
mod revocation_grpc;
mod revocation_watch;
mod rules;
mod server;
#[cfg(test)]
mod signing;
mod telemetry;
mod tenant;
mod ticket_grpc;
mod tickets;
mod token_verifier;
mod verification;
mod verify;

pub use capabilities::{CapabilityError, ParsePatternError};
pub use config::{Config, GrpcConfig, ReadSecretError, SecretVariable};
pub use deny_list::OpenDenyListError;
pub use file_keys::KeyFileError;
pub use hs256_secret::WeakSecretError;
pub use https::{ParseUrlError, TrustError};
pub use issuers::{IssuerProblem, ReadIssuersError};
pub use key_set::{LoadKeysError, ReadKeyFileError, RejectKeyError};
pub use server::ServeError as RunError;

use deny_list::DenyList;
use file_keys::{FileKeys, KeySources};
use grpc::Authenticator;
use issue::TokenIssuer;
use issuers::{Issuer, Issuers, Verifier};
use key_set::KeySet;
use published_keys::KeyFetcher;
use revocation_grpc::Revoker;
use server::{Exposure, Services};
use ticket_grpc::TicketIssuer;
use tickets::Tickets;
use token_verifier::TokenVerifier;
use verification::Verification;

const SERVICE: &str = "auth-service";

/// The auth service with its listeners bound and its keys loaded.
#[derive(Debug)]
pub struct AuthService {
    listener: TcpListener,
    address: SocketAddr,
    ops: Option<OpsServer>,
    verifier: Arc<TokenVerifier>,
    token_issuer: Option<TokenIssuer>,
    tracer: Tracer,
    fetchers: Vec<KeyFetcher>,
    serving: Condition,
    exposure: Exposure,
}

impl AuthService {
    /// Loads the keys and binds the listeners. Nobody is served before [`run`](Self::run).
    ///
    /// # Errors
    ///
    /// When a key or secret must not be used, there is none, the revocations cannot be read, or an address cannot be bound.
    pub async fn bind(
        config: Config,
        tracer: Tracer,
        readiness: Readiness,
    ) -> Result<Self, BindError> {
        let (mut issuers, mut token_issuer) = load_issuers(&config)?;
        issuers.watch_files(config.key_overlap)?;
        if let (Some(token_issuer), Some(issuer)) = (&mut token_issuer, issuers.iter().next())
            && let Verifier::Keys(keys) = &issuer.verifier
        {
            token_issuer.follow(keys.watched());
        }
        let exposure =
            Exposure { security: config.grpc_security()?, reflects: config.grpc_reflection };
        let deny_list = match config.revocations_file {
            None => DenyList::empty(),
            Some(path) => DenyList::open(path, clock::unix_ms())?,
        };
        let deny_list = Arc::new(deny_list);

        let (listener, address) = listen(config.listen).await?;
        let serving = readiness.condition("auth_grpc");
        let ops = match config.ops_listen {
            None => None,
            Some(address) => Some(bind_ops(address, readiness).await?),
        };
        telemetry::describe_metrics();
        announce(&issuers, token_issuer.is_some());
        telemetry::record_revocation_count(deny_list.len());
        let fetchers = issuers.take_fetchers();
        let verifier = Arc::new(TokenVerifier { issuers, deny_list, tickets: Tickets::default() });
        Ok(Self {
            listener,
            address,
            ops,
            verifier,
            token_issuer,
            tracer,
            fetchers,
            serving,
            exposure,
        })
    }

    /// Returns the address that serves gRPC.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until the shutdown is requested, and then until the calls under way are done.
    ///
    /// # Errors
    ///
    /// When serving fails by itself.
    pub async fn run(self, shutdown: Shutdown) -> Result<(), RunError> {
        let Self {
            listener, ops, verifier, token_issuer, tracer, fetchers, serving, exposure, ..
        } = self;
        let mut tasks = JoinSet::new();
        if let Some(ops) = ops {
            tasks.spawn(ops.run(shutdown.clone()));
        }
        for fetcher in fetchers {
            tasks.spawn(fetcher.run(shutdown.clone()));
        }
        let rules = verifier.issuers.iter().map(|issuer| issuer.rules.clone()).collect();
        let services = Services {
            ticket_issuer: TicketIssuer { verifier: verifier.clone() },
            revoker: Revoker { deny_list: verifier.deny_list.clone(), rules },
            authenticator: Authenticator {
                verification: Verification { verifier, tracer },
                token_issuer,
                shutdown: shutdown.clone(),
            },
        };
        serving.set(true);
        let result = server::serve(listener, services, exposure, shutdown).await;
        serving.set(false);
        result
    }
}

async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), BindError> {
    let failed = |source| BindError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    tracing::info!(service = SERVICE, listener = "grpc", %address, "listening");
    Ok((listener, address))
}

async fn bind_ops(address: SocketAddr, readiness: Readiness) -> Result<OpsServer, BindError> {
    let metrics = install_metrics().map_err(BindError::Metrics)?;
    let ops = OpsServer::bind(address, readiness, metrics)
        .await
        .map_err(|source| BindError::Listen { address, source })?;
    tracing::info!(service = SERVICE, listener = "ops", address = %ops.local_addr(), "listening");
    Ok(ops)
}

impl Config {
    /// Looks at keys, secrets, certificates and the file of issuers, without starting anything.
    ///
    /// # Errors
    ///
    /// When the service would refuse to start because of them.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn check(&self) -> Result<(), BindError> {
        load_issuers(self)?;
        self.grpc_security()?;
        Ok(())
    }

    fn grpc_security(&self) -> Result<GrpcSecurity, GrpcSettingsError> {
        let listen = Some(("AUTH_LISTEN", self.listen));
        self.grpc.settings().open("auth_grpc", listen, &[HTTP_2], false)
    }
}

/// Loads the issuers of the file, or the one of the settings, and who signs tokens for development.
fn load_issuers(config: &Config) -> Result<(Issuers, Option<TokenIssuer>), BindError> {
    let secret = config.read_hs256_secret()?;
    let rules = config.rules();
    let token_issuer = match (config.issue_tokens, &secret) {
        (false, _) => None,
        (true, None) => return Err(BindError::IssuingWithoutSecret),
        (true, Some(secret)) => Some(TokenIssuer::new(secret, &rules)),
    };
    let issuers = match &config.issuers_file {
        Some(_) if secret.is_some() => return Err(BindError::SecretBesideIssuers),
        Some(path) => Issuers::read(path)?,
        None => {
            let keys = KeySet::load(secret.as_ref(), &config.public_key_files)?;
            let sources = KeySources {
                // One that is in a file is read from there.
                secret: secret.filter(|_| config.hs256_secret_file.is_none()),
                secret_file: config.hs256_secret_file.clone(),
                public_key_files: config.public_key_files.clone(),
                settings: ["AUTH_HS256_SECRET_FILE", "AUTH_PUBLIC_KEY_FILES"],
                algorithms: None,
            };
            let verifier = Verifier::Keys(FileKeys::new(sources, keys));
            Issuers::single(Issuer { verifier, rules })
        }
    };
    Ok((issuers, token_issuer))
}

fn announce(issuers: &Issuers, issues_tokens: bool) {
    for issuer in issuers.iter() {
        tracing::info!(
            algorithms = ?issuer.algorithms(),
            issuer = issuer.rules.issuer,
            audience = issuer.rules.audience,
            "verifying tokens"
        );
    }
    if issues_tokens {
        tracing::warn!(
            "ISSUING TOKENS IS ON: whoever reaches the gRPC listener can be anyone. Never do this in production"
        );
    }
}

/// Why the service cannot start.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error("the HS256 secret is refused")]
    Secret(#[from] ReadSecretError),
    #[error("the keys are refused")]
    Keys(#[from] LoadKeysError),
    #[error("the issuers cannot be used")]
    Issuers(#[from] ReadIssuersError),
    #[error("a file of keys or secrets cannot be used")]
    KeyFiles(#[from] ReadFilesError<KeyFileError>),
    #[error("AUTH_HS256_SECRET and AUTH_ISSUERS_FILE are both set")]
    SecretBesideIssuers,
    #[error("AUTH_ISSUE_TOKENS needs an HS256 secret to sign with")]
    IssuingWithoutSecret,
    #[error(
        "the revocations cannot be used, and without them tokens that were taken back would pass"
    )]
    Revocations(#[from] OpenDenyListError),
    #[error("gRPC cannot be served")]
    Grpc(#[from] GrpcSettingsError),
    #[error("cannot listen on {address}")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("cannot record metrics")]
    Metrics(#[source] InstallMetricsError),
}

impl From<BindError> for Failure {
    fn from(error: BindError) -> Self {
        match error {
            BindError::Secret(_)
            | BindError::Keys(_)
            | BindError::Issuers(_)
            | BindError::KeyFiles(_)
            | BindError::SecretBesideIssuers
            | BindError::IssuingWithoutSecret
            | BindError::Grpc(_)
            | BindError::Revocations(_) => Self::configuration(error),
            BindError::Listen { .. } => Self::unavailable(error),
            BindError::Metrics(_) => Self::internal(error),
        }
    }
}
