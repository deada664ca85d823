//! What the clients of an edge talk to above Engine.IO and WebSocket.

/// One for all connections of an edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Application {
    /// Business services, by Socket.IO or plain JSON.
    Services,
    /// Nobody: every message goes back as it came.
    Echo,
}

impl Application {
    /// Where Engine.IO is served. What follows the slash does not matter, as with the reference server.
    pub(crate) const fn engine_io_path(self) -> &'static str {
        match self {
            Self::Services => "/socket.io/",
            Self::Echo => "/engine.io/",
        }
    }

    /// Where clients connect that speak WebSocket and nothing else.
    pub(crate) const fn websocket_path(self) -> &'static str {
        match self {
            Self::Services => "/ws",
            Self::Echo => "/echo",
        }
    }
}
