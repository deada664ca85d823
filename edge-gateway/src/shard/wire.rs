//! What clients speak: Socket.IO of today, Socket.IO 2, or plain JSON.

use std::time::Instant;

use edge_protocol::{engine_io::Heartbeat, plain_json, socket_io::Session};
use smallvec::SmallVec;

use super::{Limits, SocketKey, socket_io_2::OlderClient};
use crate::older_handshake::OlderHandshake;

/// What a client speaks, with what belongs to only that.
#[derive(Debug)]
pub(crate) enum Wire {
    SocketIo(Session<SocketKey>),
    /// Socket.IO 2, over Engine.IO 3.
    SocketIo2(Box<OlderClient>),
    PlainJson(JsonSession),
}

impl Wire {
    pub(crate) fn socket_io(older: Option<OlderHandshake>) -> Self {
        match older {
            None => Self::SocketIo(Session::new()),
            Some(handshake) => Self::SocketIo2(Box::new(OlderClient::new(handshake))),
        }
    }

    /// The namespaces of a Socket.IO client.
    pub(crate) fn session_mut(&mut self) -> Option<&mut Session<SocketKey>> {
        match self {
            Self::SocketIo(session) => Some(session),
            Self::SocketIo2(client) => Some(&mut client.session),
            Self::PlainJson(_) => None,
        }
    }

    /// Its sockets, in whatever namespaces.
    pub(super) fn sockets(&self) -> SmallVec<[SocketKey; 4]> {
        match self {
            Self::SocketIo(session) => session.sockets().collect(),
            Self::SocketIo2(client) => client.session.sockets().collect(),
            Self::PlainJson(session) => session.stage.socket().into_iter().collect(),
        }
    }

    pub(super) fn heartbeat(&self, now: Instant, limits: &Limits) -> Heartbeat {
        match self {
            Self::SocketIo(_) | Self::PlainJson(_) => Heartbeat::new(now, limits.ping_interval),
            Self::SocketIo2(_) => Heartbeat::of_pinging_client(now, limits.ping_patience()),
        }
    }
}

/// A plain JSON connection: one socket, in the namespace that the settings name.
#[derive(Debug, Default)]
pub(crate) struct JsonSession {
    pub(crate) stage: JsonStage,
    /// The `id` that asked for authentication, to be answered: JSON text.
    pub(crate) auth_id: Option<Box<[u8]>>,
    /// Takes in messages, and keeps the one whose attachments are under way.
    pub(crate) assembler: plain_json::Assembler,
    /// Numbers the requests that carry an `id`; the link knows them by this.
    pub(crate) next_ack_id: u64,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JsonStage {
    /// No token yet.
    #[default]
    Anonymous,
    /// The token is being verified. Nothing is read until the client is let in.
    Verifying,
    /// The business service has been asked.
    Opening(SocketKey),
    Live(SocketKey),
}

impl JsonStage {
    pub(super) fn socket(self) -> Option<SocketKey> {
        match self {
            Self::Anonymous | Self::Verifying => None,
            Self::Opening(socket) | Self::Live(socket) => Some(socket),
        }
    }
}
