//! The gateway with doubles of the auth service and of a business service, seen by raw WebSocket clients.
//!
//! `gateway_over_tls` has them once more, with TLS between the clients and the edge.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod acks;
mod address_limits;
mod client_addresses;
mod client_bundle;
mod compression;
mod confirmations;
mod connect;
mod deadlines;
mod delivery;
mod drain;
mod echo;
mod engine_io_3;
mod full_link;
mod hostile;
mod identity_limits;
mod limits;
mod link;
mod namespaces;
mod peers;
mod plain_json;
mod polling;
mod recovery;
mod reference_answers;
mod refresh;
mod repeats;
mod revocation;
mod slow_consumer;
pub(crate) mod support;
mod tenants;
mod tls;
mod webtransport;
