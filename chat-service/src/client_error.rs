//! Every error a client can get from the chat service.

use std::{borrow::Cow, time::Duration};

/// What a client is told when its event is not carried out. It never repeats what the client sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClientError {
    pub(crate) code: ClientErrorCode,
    pub(crate) message: Cow<'static, str>,
    /// When the next such event is welcome, where that is known.
    pub(crate) retry_after: Option<Duration>,
}

/// Which kind of error. Clients act on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClientErrorCode {
    /// The body of the event is not what it should be.
    InvalidPayload,
    /// The user may not do this in this room.
    Forbidden,
    /// The socket is not in the room.
    NotAMember,
    /// There is no such event.
    UnknownEvent,
    /// The socket is in as many rooms as it may be.
    RoomLimit,
    /// What was missed is no longer in the log.
    Gap,
    /// The service cannot do it at present.
    Unavailable,
    /// Too many of these events.
    RateLimited,
    /// The socket was put out of the room.
    Kicked,
    /// The user may not come into the room for now.
    Banned,
}

impl ClientErrorCode {
    /// All of them, for metrics.
    pub(crate) const ALL: [Self; 10] = [
        Self::InvalidPayload,
        Self::Forbidden,
        Self::NotAMember,
        Self::UnknownEvent,
        Self::RoomLimit,
        Self::Gap,
        Self::Unavailable,
        Self::RateLimited,
        Self::Kicked,
        Self::Banned,
    ];

    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::InvalidPayload => "invalid_payload",
            Self::Forbidden => "forbidden",
            Self::NotAMember => "not_a_member",
            Self::UnknownEvent => "unknown_event",
            Self::RoomLimit => "room_limit",
            Self::Gap => "gap",
            Self::Unavailable => "unavailable",
            Self::RateLimited => "rate_limited",
            Self::Kicked => "kicked",
            Self::Banned => "banned",
        }
    }

    /// Whether the same event may succeed later, with nothing else done in between.
    pub(crate) const fn is_retryable(self) -> bool {
        match self {
            Self::InvalidPayload
            | Self::Forbidden
            | Self::NotAMember
            | Self::UnknownEvent
            | Self::RoomLimit
            | Self::Gap
            | Self::Kicked
            | Self::Banned => false,
            Self::Unavailable | Self::RateLimited => true,
        }
    }
}

impl ClientError {
    /// The same whether there is such a room or not.
    pub(crate) const FORBIDDEN: Self =
        Self::new(ClientErrorCode::Forbidden, "this is not allowed in this room");
    /// Tells a socket, unasked, that it is in a room no longer.
    pub(crate) const REMOVED: Self =
        Self::new(ClientErrorCode::Forbidden, "this room is no longer allowed");
    pub(crate) const NOT_A_MEMBER: Self =
        Self::new(ClientErrorCode::NotAMember, "join the room first");
    pub(crate) const UNKNOWN_EVENT: Self =
        Self::new(ClientErrorCode::UnknownEvent, "there is no such event");
    pub(crate) const ROOM_LIMIT: Self =
        Self::new(ClientErrorCode::RoomLimit, "a socket may be in at most 256 rooms");
    /// Answers what was to be logged.
    pub(crate) const LOG_FAILED: Self =
        Self::new(ClientErrorCode::Unavailable, "nothing can be logged at present");
    /// Answers what cannot be done without the room's log, which is there and cannot be read.
    pub(crate) const UNREADABLE: Self =
        Self::new(ClientErrorCode::Unavailable, "the room's history cannot be read at present");
    /// Answers what an earlier life of the service may have carried out.
    pub(crate) const UNCERTAIN: Self =
        Self::new(ClientErrorCode::Unavailable, "the service was restarted meanwhile; try again");
    /// Answers a request for history.
    pub(crate) const HISTORY_GAP: Self =
        Self::new(ClientErrorCode::Gap, "entries after this position are gone");
    /// Tells a socket, unasked, that events passed it by.
    pub(crate) const MISSED_EVENTS: Self =
        Self::new(ClientErrorCode::Gap, "events of this room were missed: join it again");

    /// Tells a socket, unasked, that it was put out of a room, or answers a join that came before that.
    pub(crate) const KICKED: Self =
        Self::new(ClientErrorCode::Kicked, "you were put out of this room");
    /// Tells a socket, unasked, that its user was banned from a room, and answers what it sends there then.
    pub(crate) const BANNED: Self =
        Self::new(ClientErrorCode::Banned, "you are banned from this room");

    /// Answers an event that only other services may send.
    pub(crate) const NOT_FROM_CLIENTS: Self =
        Self::new(ClientErrorCode::UnknownEvent, "clients do not send this event");

    const fn new(code: ClientErrorCode, message: &'static str) -> Self {
        Self { code, message: Cow::Borrowed(message), retry_after: None }
    }

    pub(crate) fn invalid_payload(message: impl Into<Cow<'static, str>>) -> Self {
        Self { message: message.into(), ..Self::new(ClientErrorCode::InvalidPayload, "") }
    }

    pub(crate) fn rate_limited(retry_after: Duration) -> Self {
        let retry_after = Some(retry_after);
        Self { retry_after, ..Self::new(ClientErrorCode::RateLimited, "too many of these events") }
    }
}
