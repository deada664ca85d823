//! Names of events that mean something already.

/// Longest name of an event, in bytes.
pub(crate) const EVENT_NAME_BYTES_MAX: usize = 256;

/// Names that mean something to Socket.IO clients themselves.
pub(crate) const RESERVED_BY_CLIENTS: [&str; 6] =
    ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"];

/// Names of the chat service's own events, and of those with which plain JSON begins.
pub(crate) const OWN: [&str; 9] =
    ["auth", "connected", "exception", "history", "join", "leave", "message", "presence", "typing"];
