//! Owns rooms and decides who receives what.

mod client_error;
mod client_event;
mod client_view;
mod config;
mod edge_link;
mod grpc;
mod namespaces;
mod request;
mod room;
mod room_key;
mod room_log;
mod service;
mod socket;
mod socket_registry;
mod telemetry;
mod user;
mod worker;
mod workers;

pub use self::{
    config::Config,
    grpc::ServeError,
    namespaces::ReadNamespacesError,
    room_log::{Durability, OpenStoreError},
    service::{BindError, ChatService, RunError},
};
