//! What the tests stand on: processes, clients, tokens, a span collector, and waiting with a deadline.

mod authority;
mod cluster;
mod eventually;
mod http;
mod json_client;
mod loopback;
mod otlp_collector;
mod process;
mod socket_io_client;
mod token_mint;
mod web_socket;

pub(crate) use authority::{Authority, CertificateFiles};
pub(crate) use cluster::{Cluster, ClusterBuilder};
pub(crate) use eventually::{eventually, within};
pub(crate) use http::{HttpResponse, exchange, get};
pub(crate) use json_client::JsonClient;
pub(crate) use loopback::own_host;
pub(crate) use otlp_collector::{OtlpCollector, RecordedSpan};
pub(crate) use process::{Process, Program};
pub(crate) use socket_io_client::{Packet, SOCKET_IO_PATH, SocketIoClient};
pub(crate) use token_mint::{
    AUDIENCE, ISSUER, KeyPair, TokenMint, sign_with_secret, unix_seconds, unsigned,
};
pub(crate) use web_socket::{Incoming, WebSocket};
