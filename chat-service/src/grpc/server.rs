//! The gRPC server: both services, health and reflection, with limits.

use std::io;

use proto::{
    chat::v1::chat_service_server::ChatServiceServer, edge::v1::edge_link_server::EdgeLinkServer,
};
use service_kit::shutdown::Shutdown;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_stream::Stream;
use tonic::transport::{Server as Transport, server::Connected};
use tonic_health::server::HealthReporter;

use super::ChatGrpc;
use crate::edge_link::{EdgeLinkService, Lease};

const STREAM_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 8 * 1024 * 1024;
const STREAMS_PER_CONNECTION_MAX: u32 = 256;
const CALLS_PER_CONNECTION_MAX: usize = 256;
const HEADERS_BYTES_MAX: u32 = 16 * 1024;

type EdgeLinks = EdgeLinkServer<EdgeLinkService>;
type Chat = ChatServiceServer<ChatGrpc>;

/// Serves everything that speaks gRPC.
#[derive(Debug)]
pub(crate) struct Server {
    edge_links: EdgeLinks,
    chat: Chat,
    lease: Lease,
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
    pub(crate) fn new(chat: ChatGrpc) -> Self {
        let links = chat.links.clone();
        let lease = links.lease();
        let edge_links = EdgeLinkServer::new(EdgeLinkService::new(links))
            .max_decoding_message_size(proto::MESSAGE_BYTES_MAX)
            .max_encoding_message_size(proto::MESSAGE_BYTES_MAX);
        let chat = ChatServiceServer::new(chat)
            .max_decoding_message_size(proto::MESSAGE_BYTES_MAX)
            .max_encoding_message_size(proto::MESSAGE_BYTES_MAX);
        Self { edge_links, chat, lease }
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

        Transport::builder()
            .concurrency_limit_per_connection(CALLS_PER_CONNECTION_MAX)
            .http2_keepalive_interval(Some(self.lease.ping_interval()))
            .http2_keepalive_timeout(Some(self.lease.ping_timeout()))
            .http2_max_header_list_size(HEADERS_BYTES_MAX)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
            .add_service(health_service)
            .add_service(reflection().build_v1()?)
            .add_service(reflection().build_v1alpha()?)
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
