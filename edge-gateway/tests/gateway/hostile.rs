//! What hostile clients and pages send.

mod origins;
mod smuggling;
