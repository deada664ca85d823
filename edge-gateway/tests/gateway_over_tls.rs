//! The tests of the gateway once more, with TLS between the clients and the edge.

#[path = "gateway/main.rs"]
mod gateway;

use gateway::support;
