//! Brings requests to the edge of the cluster that has their session, and takes those that other edges bring.

mod address;
mod answers;
mod call_body;
mod callers;
mod claims;
mod cluster;
mod connection;
mod forwarder;
mod listener;
mod service;
mod tunnel;

pub use self::address::{ParsePeerError, PeerAddress};
pub(crate) use self::cluster::Cluster;

/// How many polls of clients may wait at one edge for sessions of one other. Beyond, they would keep out all other requests.
const WAITING_POLLS_MAX: u32 = 15 * 1024;

/// How many posts may be on their way from one edge to one other: a client may take its time with the body of each.
const POSTS_MAX: u32 = 1024;

/// What the upgrade of a connection between two edges is called, and where it is asked for.
const TUNNEL_PROTOCOL: &str = "sockeye-tunnel";
const TUNNEL_PATH: &str = "/tunnel/";
