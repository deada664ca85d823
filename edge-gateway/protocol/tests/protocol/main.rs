//! The codecs from the client's side of the wire.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod allocations;
mod client;
mod engine_io_v3;
mod plain_json;
mod plain_json_binary;
mod polling;
mod proxy_protocol;
mod socket_io_binary;
mod socket_io_binary_streams;
mod socket_io_frames;
mod socket_io_packets;
mod socket_io_session;
mod websocket_frames;
mod websocket_streams;
mod webtransport;
