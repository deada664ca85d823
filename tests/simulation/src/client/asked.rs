//! What a client can ask, and where that leaves it.

use serde_json::{Value, json};

use crate::history::{Message, Position};

/// Most messages of one answer to a question for the log.
const PAGE_MESSAGES: u64 = 50;

/// A question without an answer so far.
#[derive(Debug, Clone)]
pub(super) enum Asked {
    Join {
        room: String,
        since: Option<Position>,
    },
    Leave {
        room: String,
    },
    Message {
        room: String,
        id: String,
    },
    Presence {
        room: String,
    },
    /// The part of the log before what is known of it.
    Log {
        room: String,
        known: Vec<Message>,
    },
}

/// What a client knows of its place in a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Out,
    /// It has asked, and not been answered; or it has to ask again.
    Joining,
    In,
    Leaving,
}

impl Asked {
    pub(super) fn event(&self) -> &'static str {
        match self {
            Self::Join { .. } => "join",
            Self::Leave { .. } => "leave",
            Self::Message { .. } => "message",
            Self::Presence { .. } => "presence",
            Self::Log { .. } => "history",
        }
    }

    pub(super) fn room(&self) -> &str {
        match self {
            Self::Join { room, .. }
            | Self::Leave { room }
            | Self::Message { room, .. }
            | Self::Presence { room }
            | Self::Log { room, .. } => room,
        }
    }

    pub(super) fn data(&self) -> Value {
        match self {
            Self::Join { room, since: None } | Self::Leave { room } | Self::Presence { room } => {
                json!(room)
            }
            Self::Join { room, since } => json!({"room": room, "since": since}),
            Self::Message { room, id } => {
                json!({"room": room, "id": id, "text": format!("{room}/{id}")})
            }
            Self::Log { room, known } => match known.first() {
                Some(Message { position, .. }) => {
                    json!({"room": room, "limit": PAGE_MESSAGES, "before": position})
                }
                None => json!({"room": room, "limit": PAGE_MESSAGES}),
            },
        }
    }
}
