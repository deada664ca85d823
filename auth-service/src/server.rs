//! Serves gRPC within limits, with health and reflection, until it is told to stop.

use std::time::Duration;

use proto::auth::v1::auth_service_server::AuthServiceServer;
use proto::auth::v1::revocation_service_server::RevocationServiceServer;
use proto::auth::v1::ticket_service_server::TicketServiceServer;
use service_kit::grpc::{GrpcSecurity, Incoming};
use service_kit::shutdown::Shutdown;
use tokio::net::TcpListener;
use tokio::time;
use tonic::transport::Server;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use tonic_reflection::server::Builder as ReflectionBuilder;

use crate::callers;
use crate::grpc::Authenticator;
use crate::revocation_grpc::Revoker;
use crate::ticket_grpc::TicketIssuer;

const SERVICE_NAME: &str = "sockeye.auth.v1.AuthService";
const TICKET_SERVICE_NAME: &str = "sockeye.auth.v1.TicketService";
const REVOCATION_SERVICE_NAME: &str = "sockeye.auth.v1.RevocationService";
/// The name under which health is asked for a whole server.
const WHOLE_SERVER: &str = "";

/// For how long a call may take. Verifying takes microseconds, and a token waits less than this for its issuer.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);
/// How long calls and connections may go on after the shutdown began.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(3);
/// Larger than any event a client may send, so that an oversized token is refused and not an error of the call.
const MESSAGE_BYTES_MAX: usize = 1024 * 1024;
const HEADER_LIST_BYTES_MAX: u32 = 16 * 1024;
const STREAM_COUNT_MAX: u32 = 256;
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// Old connections end so that edges spread anew over auth services.
const CONNECTION_AGE_MAX: Duration = Duration::from_secs(3600);
const CONNECTION_AGE_GRACE: Duration = Duration::from_secs(10);
const PENDING_RESET_STREAM_COUNT_MAX: usize = 20;
const LOCAL_RESET_STREAM_COUNT_MAX: usize = 1024;

/// What answers the calls.
#[derive(Debug)]
pub(crate) struct Services {
    pub(crate) authenticator: Authenticator,
    pub(crate) ticket_issuer: TicketIssuer,
    pub(crate) revoker: Revoker,
}

/// To whom the services are open, and how much they tell of themselves.
#[derive(Debug)]
pub(crate) struct Exposure {
    pub(crate) security: GrpcSecurity,
    /// Whether callers are told the contracts.
    pub(crate) reflects: bool,
}

/// Serves until the shutdown is requested, and then until the calls under way are done.
pub(crate) async fn serve(
    listener: TcpListener,
    services: Services,
    exposure: Exposure,
    shutdown: Shutdown,
) -> Result<(), ServeError> {
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<AuthServiceServer<Authenticator>>().await;
    health.set_serving::<TicketServiceServer<TicketIssuer>>().await;
    health.set_serving::<RevocationServiceServer<Revoker>>().await;
    let Exposure { security, reflects } = exposure;
    let GrpcSecurity { tls, connections_max, .. } = &security;
    let incoming = Incoming::new(listener, crate::SERVICE, tls.clone(), *connections_max);

    let (auth_service, ticket_service, revocation_service) = limited(services);
    let v1 = reflects.then(|| reflection().build_v1()).transpose();
    let v1alpha = reflects.then(|| reflection().build_v1alpha()).transpose();
    let served = transport()
        .layer(security.layer(crate::SERVICE, callers::METHODS))
        .add_service(auth_service)
        .add_service(ticket_service)
        .add_service(revocation_service)
        .add_optional_service(v1.map_err(ServeError::Reflection)?)
        .add_optional_service(v1alpha.map_err(ServeError::Reflection)?)
        .add_service(health_service)
        .serve_with_incoming_shutdown(incoming, stop(&shutdown, &health));
    tokio::select! {
        result = served => result.map_err(ServeError::Transport),
        () = drained_too_long(&shutdown) => {
            tracing::warn!("connections were cut, because they outlasted the drain");
            Ok(())
        }
    }
}

fn limited(
    services: Services,
) -> (
    AuthServiceServer<Authenticator>,
    TicketServiceServer<TicketIssuer>,
    RevocationServiceServer<Revoker>,
) {
    let Services { authenticator, ticket_issuer, revoker } = services;
    let auth_service = AuthServiceServer::new(authenticator)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let ticket_service = TicketServiceServer::new(ticket_issuer)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let revocation_service = RevocationServiceServer::new(revoker)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    (auth_service, ticket_service, revocation_service)
}

fn reflection() -> ReflectionBuilder<'static> {
    ReflectionBuilder::configure()
        .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .with_service_name(SERVICE_NAME)
        .with_service_name(TICKET_SERVICE_NAME)
        .with_service_name(REVOCATION_SERVICE_NAME)
        .with_service_name("grpc.health.v1.Health")
}

fn transport() -> Server {
    Server::builder()
        .timeout(CALL_TIMEOUT)
        .concurrency_limit_per_connection(STREAM_COUNT_MAX as usize)
        .max_concurrent_streams(STREAM_COUNT_MAX)
        .http2_max_header_list_size(HEADER_LIST_BYTES_MAX)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .http2_max_pending_accept_reset_streams(Some(PENDING_RESET_STREAM_COUNT_MAX))
        .http2_max_local_error_reset_streams(Some(LOCAL_RESET_STREAM_COUNT_MAX))
        .max_connection_age(CONNECTION_AGE_MAX)
        .max_connection_age_grace(CONNECTION_AGE_GRACE)
}

async fn stop(shutdown: &Shutdown, health: &HealthReporter) {
    shutdown.requested().await;
    for name in [WHOLE_SERVER, SERVICE_NAME, TICKET_SERVICE_NAME, REVOCATION_SERVICE_NAME] {
        health.set_service_status(name, ServingStatus::NotServing).await;
    }
}

async fn drained_too_long(shutdown: &Shutdown) {
    shutdown.requested().await;
    time::sleep(DRAIN_TIMEOUT).await;
}

/// Why the service stopped without being told to.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("serving gRPC failed")]
    Transport(#[source] tonic::transport::Error),
    #[error("gRPC reflection cannot read our contracts")]
    Reflection(#[source] tonic_reflection::server::Error),
}
