//! The gRPC server: both services, health and reflection, with limits.

use std::{io, time::Duration};

use proto::{
    chat::v1::chat_service_server::ChatServiceServer,
    edge::encoded::edge_link_server::EdgeLinkServer,
};
use service_kit::{grpc::GrpcSecurity, shutdown::Shutdown};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_stream::Stream;
use tonic::transport::{Server as Transport, server::Connected};
use tonic_health::server::HealthReporter;

use super::{ChatGrpc, callers};
use crate::edge_link::{EdgeLinkService, Lease};

const STREAM_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 8 * 1024 * 1024;
const STREAMS_PER_CONNECTION_MAX: u32 = 256;
const CALLS_PER_CONNECTION_MAX: usize = 256;
const HEADERS_BYTES_MAX: u32 = 16 * 1024;
const PENDING_RESET_STREAMS_MAX: usize = 20;
const LOCAL_RESET_STREAMS_MAX: usize = 1024;

/// How long a call may take until it is answered, or its stream begins. A disk that hangs is told as such before.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

type EdgeLinks = EdgeLinkServer<EdgeLinkService>;
type Chat = ChatServiceServer<ChatGrpc>;

/// Serves everything that speaks gRPC.
#[derive(Debug)]
pub(crate) struct Server {
    edge_links: EdgeLinks,
    chat: Chat,
    lease: Lease,
    exposure: Exposure,
}

/// To whom the services are open, and how much they tell of themselves.
#[derive(Debug)]
pub(crate) struct Exposure {
    pub(crate) security: GrpcSecurity,
    /// Whether callers are told the contracts.
    pub(crate) reflects: bool,
}

/// Why serving ended by itself.
#[derive(Debug, Error)]
pub enum ServeError {
    /// The listener failed.
    #[error("the listener failed")]
    Transport(#[from] tonic::transport::Error),
    /// Reflection has nothing to tell.
    #[error("the contracts cannot be described to clients")]
    Reflection(#[from] tonic_reflection::server::Error),
}

impl Server {
    pub(crate) fn new(chat: ChatGrpc, exposure: Exposure) -> Self {
        let links = chat.links.clone();
        let lease = links.lease();
        let edge_links = EdgeLinkServer::new(EdgeLinkService::new(links))
            .max_decoding_message_size(proto::MESSAGE_BYTES_MAX)
            .max_encoding_message_size(proto::MESSAGE_BYTES_MAX);
        let chat = ChatServiceServer::new(chat)
            .max_decoding_message_size(proto::MESSAGE_BYTES_MAX)
            .max_encoding_message_size(proto::MESSAGE_BYTES_MAX);
        Self { edge_links, chat, lease, exposure }
    }

    /// Serves until the shutdown is asked for and the last call is answered.
    pub(crate) async fn serve<C, S>(
        self,
        connections: C,
        shutdown: Shutdown,
    ) -> Result<(), ServeError>
    where
        C: Stream<Item = io::Result<S>>,
        S: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
    {
        let (health, health_service) = tonic_health::server::health_reporter();
        health.set_serving::<EdgeLinks>().await;
        health.set_serving::<Chat>().await;
        let reflection = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        };

        let Exposure { security, reflects } = self.exposure;
        let v1 = reflects.then(|| reflection().build_v1()).transpose()?;
        let v1alpha = reflects.then(|| reflection().build_v1alpha()).transpose()?;

        // Connections have no greatest age: at its end the streams of edges would be cut, and each brings all sockets of a
        // shard, which would attach again for nothing. An edge leaves by itself when its service moves.
        Transport::builder()
            .timeout(CALL_TIMEOUT)
            .concurrency_limit_per_connection(CALLS_PER_CONNECTION_MAX)
            .http2_keepalive_interval(Some(self.lease.ping_interval()))
            .http2_keepalive_timeout(Some(self.lease.ping_timeout()))
            .http2_max_header_list_size(HEADERS_BYTES_MAX)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
            .http2_max_pending_accept_reset_streams(Some(PENDING_RESET_STREAMS_MAX))
            .http2_max_local_error_reset_streams(Some(LOCAL_RESET_STREAMS_MAX))
            .layer(security.layer(super::SERVICE, callers::METHODS))
            .add_service(health_service)
            .add_optional_service(v1)
            .add_optional_service(v1alpha)
            .add_service(self.edge_links)
            .add_service(self.chat)
            .serve_with_incoming_shutdown(connections, stop(health, shutdown))
            .await?;
        Ok(())
    }
}

/// Waits for the shutdown and tells whoever watches the service's health.
async fn stop(health: HealthReporter, shutdown: Shutdown) {
    shutdown.requested().await;
    health.set_not_serving::<EdgeLinks>().await;
    health.set_not_serving::<Chat>().await;
}
