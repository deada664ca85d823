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
use tonic::transport::Channel;

use crate::tokens::SECRET;

const DEADLINE: Duration = Duration::from_secs(30);

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
        let common =
            ["test", "--auth-listen=127.0.0.1:0", "--auth-hs256-secret-file", secret_file_path];
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

/// Asks the service about a token.
pub(crate) async fn authenticate(
    client: &mut AuthServiceClient<Channel>,
    token: &str,
) -> Result<Identity, RefusalReason> {
    let request = AuthenticateRequest { token: token.to_owned() };
    let response = client.authenticate(request).await.unwrap().into_inner();
    match response.outcome.unwrap() {
        Outcome::Identity(identity) => Ok(identity),
        Outcome::Refusal(refusal) => Err(refusal.reason()),
    }
}
