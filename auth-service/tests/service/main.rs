//! Tests the auth service from outside: over its sockets, and as a process.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod audit;
mod authenticate_each;
mod discovery;
mod grpc;
mod http;
mod introspection;
mod limits;
mod process;
mod provider;
mod published_keys;
mod revocation;
mod revocation_watch;
mod rotation;
mod running;
mod secrets;
mod span_collector;
mod telemetry;
mod tickets;
mod tokens;
