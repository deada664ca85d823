//! Engine.IO, Socket.IO, WebSocket and plain JSON framing, without I/O.
//!
//! Bytes go in, messages come out, and the other way round. Nothing here opens a socket, starts a
//! task or reads a clock: time is an argument. What a message means is for the gateway to decide;
//! what it looks like on the wire is known only here.
//!
//! ```text
//!  bytes ─► websocket::Decoder ─► text ─┬─► engine_io::receive ─► socket_io::Assembler ─► socket_io::Session
//!                                       └─► plain_json::Assembler
//!  body of a POST ─► engine_io::payload::receive ─► as after engine_io::receive
//!  stream of WebTransport ─► engine_io::webtransport::ToWebSocket ─► as from the beginning
//!
//!  bytes ◄────────────────────── whole frames ◄── socket_io::encode_*, plain_json::encode_*
//!  body of a poll ◄── engine_io::payload::Payload ◄──┤
//!  stream of WebTransport ◄── engine_io::webtransport::FromWebSocket ◄──┘
//! ```
//!
//! Arguments of events are carried as JSON text. It is checked once, when it arrives, and never
//! built as a tree: what a client wrote is what the other clients get.
#![forbid(unsafe_code)]
#![warn(missing_docs)]
#![cfg_attr(
    not(test),
    warn(
        clippy::arithmetic_side_effects,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::string_slice,
        clippy::unreachable
    )
)]

mod args;
mod bounds;
mod event_name;
mod json;
mod placeholders;
mod text_frame;

pub use bounds::MessageBounds;

pub mod engine_io;
pub mod plain_json;
pub mod proxy_protocol;
pub mod socket_io;
pub mod websocket;
