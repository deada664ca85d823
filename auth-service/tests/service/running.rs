//! Runs the service inside the test.

use std::net::SocketAddr;
use std::time::Duration;

use auth_service::{AuthService, Config, RunError};
use clap::Parser;
use proto::auth::v1::auth_service_client::AuthServiceClient;
use proto::auth::v1::authenticate_response::Outcome;
use proto::auth::v1::{AuthenticateRequest, Identity, RefusalReason};
use service_kit::ops::Readiness;
use service_kit::shutdown::{Shutdown, ShutdownTrigger};
use service_kit::trace::Tracer;
use tempfile::NamedTempFile;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tonic::Code;
use tonic::transport::Channel;

use crate::tokens::SECRET;

pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

#[derive(Debug, Parser)]
struct Settings {
    #[command(flatten)]
    config: Config,
}

/// A service on a port of its own, which ends with the test.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    stop: ShutdownTrigger,
    run: JoinHandle<Result<(), RunError>>,
}

impl Running {
    /// Starts the service with the HS256 secret of the tests and these settings.
    pub(crate) async fn start(arguments: &[&str]) -> Self {
        Self::start_traced(arguments, Tracer::disabled()).await
    }

    pub(crate) async fn start_traced(arguments: &[&str], tracer: Tracer) -> Self {
        let secret_file = NamedTempFile::new().unwrap();
        std::fs::write(secret_file.path(), SECRET).unwrap();
        let secret_file_path = secret_file.path().to_str().unwrap();
        let secret = ["--auth-hs256-secret-file", secret_file_path];
        let arguments: Vec<_> = secret.iter().chain(arguments).copied().collect();
        Self::start_without_secret(&arguments, tracer).await
    }

    /// Starts the service with the issuers that a file with this text names.
    pub(crate) async fn start_with_issuers(issuers: &str) -> Self {
        let file = NamedTempFile::new().unwrap();
        std::fs::write(file.path(), issuers).unwrap();
        let arguments = ["--auth-issuers-file", file.path().to_str().unwrap()];
        Self::start_without_secret(&arguments, Tracer::disabled()).await
    }

    pub(crate) async fn start_without_secret(arguments: &[&str], tracer: Tracer) -> Self {
        let common = ["test", "--auth-listen=127.0.0.1:0"];
        let config = Settings::parse_from(common.iter().chain(arguments)).config;

        let service = AuthService::bind(config, tracer, Readiness::new()).await.unwrap();
        let address = service.local_addr();
        let (stop, shutdown) = Shutdown::new();
        Self { address, stop, run: tokio::spawn(service.run(shutdown)) }
    }

    pub(crate) async fn channel(&self) -> Channel {
        let endpoint = Channel::from_shared(format!("http://{}", self.address)).unwrap();
        endpoint.connect().await.unwrap()
    }

    pub(crate) async fn client(&self) -> AuthServiceClient<Channel> {
        AuthServiceClient::new(self.channel().await)
    }

    /// Asks for the shutdown and waits for the end.
    pub(crate) async fn stop(self) -> Result<(), RunError> {
        self.stop.trigger();
        timeout(DEADLINE, self.run).await.unwrap().unwrap()
    }
}

/// What became of a token.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Decision {
    Accepted(Identity),
    Refused(RefusalReason),
    /// The call failed.
    None(Code),
}

impl Decision {
    pub(crate) fn is_accepted(&self) -> bool {
        matches!(self, Self::Accepted(_))
    }
}

/// Asks the service about a token, and takes no answer for one too.
pub(crate) async fn decide(client: &mut AuthServiceClient<Channel>, token: &str) -> Decision {
    let request = AuthenticateRequest { token: token.to_owned() };
    match client.authenticate(request).await.map(|response| response.into_inner().outcome) {
        Ok(Some(Outcome::Identity(identity))) => Decision::Accepted(identity),
        Ok(Some(Outcome::Refusal(refusal))) => Decision::Refused(refusal.reason()),
        Ok(None) => panic!("an answer without an outcome"),
        Err(status) => Decision::None(status.code()),
    }
}

/// Asks the service about a token until it decides as expected.
pub(crate) async fn eventually_decides(
    client: &mut AuthServiceClient<Channel>,
    token: &str,
    expected: impl Fn(&Decision) -> bool,
) {
    let mut last = None;
    let decided = timeout(DEADLINE, async {
        loop {
            let decision = decide(client, token).await;
            if expected(&decision) {
                return;
            }
            last = Some(decision);
        }
    });
    if decided.await.is_err() {
        panic!("the last decision is {last:?}");
    }
}

/// Asks the service about a token.
pub(crate) async fn authenticate(
    client: &mut AuthServiceClient<Channel>,
    token: &str,
) -> Result<Identity, RefusalReason> {
    match decide(client, token).await {
        Decision::Accepted(identity) => Ok(identity),
        Decision::Refused(reason) => Err(reason),
        Decision::None(code) => panic!("nothing decided: {code:?}"),
    }
}
