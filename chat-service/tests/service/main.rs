//! The chat service from outside: over gRPC, with an edge written by hand from the contract.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod authorization;
mod capabilities;
mod catch_up;
mod damaged_directory;
mod data_directory;
mod declared;
mod deliveries;
mod edge;
mod events;
mod exclusions;
mod inboxes;
mod large_rooms;
mod limits;
mod link;
mod presence;
mod process;
mod publish;
mod read_only;
mod reentries;
mod refill;
mod repeats;
mod returns;
mod running;
mod script;
mod silence;
mod span_collector;
mod tenants;
mod traces;
mod watch;
