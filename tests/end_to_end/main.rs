//! Black-box tests of the whole system: real processes, raw clients that share no code with the services.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod acks;
mod audit;
mod auth;
mod authorization;
mod bad_input;
mod callers;
mod capabilities;
mod coalescing;
mod concluded_ends;
mod deadlines;
mod deliveries;
mod descriptors;
mod echo_backend;
mod exclusions;
mod floods;
mod handshake;
mod leaks;
mod limits;
mod link;
mod mutual_tls;
mod operations;
mod overload;
mod readme;
mod reflection;
mod resume;
mod revocation;
mod rooms;
mod secrets;
mod slow_backend;
mod slow_consumer;
mod socket_ends;
mod support;
mod tenants;
mod tracing;
