//! What hostile clients and pages send.

mod headers;
mod nesting;
mod origins;
mod packets;
mod sessions;
mod smuggling;
mod twice;
