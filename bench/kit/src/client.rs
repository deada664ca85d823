//! Drives many clients from one thread, cheaply enough that the servers are what is measured.

mod connection;
mod dialect;
mod polling;
mod stage;
mod swarm;
mod wire;

pub(crate) use self::{
    dialect::Dialect,
    swarm::{ClientError, Login, News, Swarm, Target},
    wire::{PING, client_frame},
};
