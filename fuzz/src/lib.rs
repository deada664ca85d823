//! What must hold of each parser of foreign bytes, for any input: one function for each.
//!
//! The fuzzer calls them with what it makes up, and a test with the files of the corpus, so the two cannot drift apart.
#![expect(
    clippy::unwrap_used,
    reason = "what does not hold panics, which is how the fuzzer notices"
)]

pub mod protocol;

/// A parser's name, which is also the folder of its corpus, and what must hold of it. It panics where that does not hold.
pub type Target = (&'static str, fn(&[u8]));

/// All of them, in the order of the hops that the bytes come over.
pub const TARGETS: &[Target] = &[
    ("proxy_protocol", protocol::proxy_protocol),
    ("forwarded_address", edge_gateway::fuzzing::forwarded_address),
    ("http_request", edge_gateway::fuzzing::http_request),
    ("websocket_frame", protocol::websocket_frame),
    ("webtransport_stream", protocol::webtransport_stream),
    ("engine_io_packet", protocol::engine_io_packet),
    ("engine_io_payload", protocol::engine_io_payload),
    ("engine_io_v3_payload", protocol::engine_io_v3_payload),
    ("socket_io_packet", protocol::socket_io_packet),
    ("socket_io_binary", protocol::socket_io_binary),
    ("plain_json_message", protocol::plain_json_message),
    ("token", auth_service::fuzzing::token),
    ("claims", auth_service::fuzzing::claims),
    ("key_set", auth_service::fuzzing::key_set),
    ("discovery_document", auth_service::fuzzing::discovery_document),
    ("introspection_answer", auth_service::fuzzing::introspection_answer),
    ("revocations_file", auth_service::fuzzing::revocations_file),
    ("edge_frame", chat_service::fuzzing::edge_frame),
    ("client_event", chat_service::fuzzing::client_event),
    ("stored_entry", chat_service::fuzzing::stored_entry),
    ("room_journal", chat_service::fuzzing::room_journal),
];
