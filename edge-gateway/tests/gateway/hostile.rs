//! What hostile clients and pages send.

mod origins;
mod packets;
mod smuggling;
