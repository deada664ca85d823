//! Owns rooms and decides who receives what.

mod audit;
mod client_error;
mod client_event;
mod client_view;
mod config;
mod declared_events;
mod deliveries;
mod edge_link;
mod event_name;
mod exclusions;
#[doc(hidden)]
pub mod fuzzing;
mod grpc;
mod namespaces;
mod request;
mod retained;
mod room;
mod room_key;
mod room_log;
mod room_rules;
mod service;
mod socket;
mod socket_registry;
mod telemetry;
mod toml_file;
mod user;
mod worker;
mod workers;

pub use self::{
    config::{Config, GrpcConfig},
    grpc::ServeError,
    room_log::{Durability, OpenStoreError},
    service::{BindError, ChatService, RunError},
    toml_file::{TomlFault, TomlFileError},
};
