//! Brings requests to the edge of the cluster that has their session, and takes those that other edges bring.

mod address;
mod answers;
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

/// What the upgrade of a connection between two edges is called, and where it is asked for.
const TUNNEL_PROTOCOL: &str = "sockeye-tunnel";
const TUNNEL_PATH: &str = "/tunnel/";
