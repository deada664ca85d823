//! Every reason to end a connection, numbered.

/// Why a connection ended. Each connection has exactly one.
///
/// The code is what a WebSocket client sees: from 4500 on, and 1002 to 1009, trying again with the same input is useless.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// The edge is being stopped; another one, or the next process, takes over.
    ShuttingDown,
    /// The client did not read what was sent to it, and its outbox is full.
    SlowConsumer,
    /// No pong came within the ping timeout.
    PingTimeout,
    /// The client has come back on another connection before this one was known to be gone.
    Replaced,
    /// The client did not enter a namespace in time.
    ConnectTimeout,
    /// The token that let the client in has expired.
    TokenExpired,
    /// The token that let the client in was taken back.
    TokenRevoked,
    /// The client went on sending events while it was being refused for sending too many.
    RateLimited,
    /// A business service asked for it.
    ClosedByBackend,
    /// A business service has taken a plain JSON client out of its namespace, which was all it had.
    DisconnectedByBackend,
    /// The edge has failed with this connection, which is an error of ours.
    InternalError,
    /// The auth service could not be asked.
    Unavailable,
    /// The client closed the connection in good order.
    ClosedByClient,
    /// The connection broke, or its end came without a close frame.
    TransportClosed,
    /// A frame was not WebSocket (RFC 6455).
    BadFrame,
    /// A text frame was not UTF-8.
    BadText,
    /// A message came in too many pieces.
    TooManyFragments,
    /// A message was larger than `maxPayload`.
    PayloadTooLarge,
    /// A packet could not be decoded.
    MalformedPacket,
    /// The token was not accepted.
    TokenRejected,
    /// A packet came when it may not: an event before its namespace was entered, a second CONNECT.
    ProtocolViolation,
}

impl CloseReason {
    /// All of them, for documentation and its tests.
    pub const ALL: [Self; 21] = [
        Self::ShuttingDown,
        Self::SlowConsumer,
        Self::PingTimeout,
        Self::Replaced,
        Self::ConnectTimeout,
        Self::TokenExpired,
        Self::TokenRevoked,
        Self::RateLimited,
        Self::ClosedByBackend,
        Self::DisconnectedByBackend,
        Self::InternalError,
        Self::Unavailable,
        Self::ClosedByClient,
        Self::TransportClosed,
        Self::BadFrame,
        Self::BadText,
        Self::TooManyFragments,
        Self::PayloadTooLarge,
        Self::MalformedPacket,
        Self::TokenRejected,
        Self::ProtocolViolation,
    ];

    /// WebSocket close code; `None` where nobody is left to read one.
    #[must_use]
    pub const fn code(self) -> Option<u16> {
        match self {
            Self::ShuttingDown => Some(4000),
            Self::SlowConsumer => Some(4001),
            Self::PingTimeout => Some(4002),
            Self::ConnectTimeout => Some(4003),
            Self::TokenExpired => Some(4004),
            Self::Replaced => Some(4005),
            Self::RateLimited => Some(4006),
            Self::ClosedByBackend => Some(4007),
            Self::TokenRevoked => Some(4008),
            Self::DisconnectedByBackend => Some(4503),
            Self::InternalError => Some(1011),
            Self::Unavailable => Some(1013),
            Self::ClosedByClient => Some(1000),
            Self::TransportClosed => None,
            Self::BadFrame => Some(1002),
            Self::BadText => Some(1007),
            Self::TooManyFragments => Some(1008),
            Self::PayloadTooLarge => Some(1009),
            Self::MalformedPacket => Some(4500),
            Self::TokenRejected => Some(4501),
            Self::ProtocolViolation => Some(4502),
        }
    }

    /// Whether the client may come back as if nothing had happened: it has done nothing wrong.
    pub(crate) const fn may_recover(self) -> bool {
        match self {
            Self::ShuttingDown
            | Self::SlowConsumer
            | Self::PingTimeout
            | Self::Replaced
            | Self::TokenExpired
            | Self::ClosedByBackend
            | Self::ClosedByClient
            | Self::TransportClosed => true,
            Self::ConnectTimeout
            | Self::TokenRevoked
            | Self::RateLimited
            | Self::DisconnectedByBackend
            | Self::InternalError
            | Self::Unavailable
            | Self::BadFrame
            | Self::BadText
            | Self::TooManyFragments
            | Self::PayloadTooLarge
            | Self::MalformedPacket
            | Self::TokenRejected
            | Self::ProtocolViolation => false,
        }
    }

    /// Name in metrics, logs and `SocketClosed.reason`.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::ShuttingDown => "shutting_down",
            Self::SlowConsumer => "slow_consumer",
            Self::PingTimeout => "ping_timeout",
            Self::ConnectTimeout => "connect_timeout",
            Self::TokenExpired => "token_expired",
            Self::TokenRevoked => "token_revoked",
            Self::Replaced => "replaced",
            Self::RateLimited => "rate_limited",
            Self::ClosedByBackend => "closed_by_backend",
            Self::DisconnectedByBackend => "disconnected_by_backend",
            Self::InternalError => "internal_error",
            Self::Unavailable => "unavailable",
            Self::ClosedByClient => "closed_by_client",
            Self::TransportClosed => "transport_closed",
            Self::BadFrame => "bad_frame",
            Self::BadText => "bad_text",
            Self::TooManyFragments => "too_many_fragments",
            Self::PayloadTooLarge => "payload_too_large",
            Self::MalformedPacket => "malformed_packet",
            Self::TokenRejected => "token_rejected",
            Self::ProtocolViolation => "protocol_violation",
        }
    }
}

impl From<edge_protocol::websocket::DecodeFrameError> for CloseReason {
    fn from(error: edge_protocol::websocket::DecodeFrameError) -> Self {
        match error.close_code() {
            1007 => Self::BadText,
            1008 => Self::TooManyFragments,
            1009 => Self::PayloadTooLarge,
            _ => Self::BadFrame,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn labels_and_codes_are_unambiguous() {
        let labels: HashSet<_> = CloseReason::ALL.iter().map(|reason| reason.label()).collect();
        let codes: HashSet<_> = CloseReason::ALL.iter().map(|reason| reason.code()).collect();

        assert_eq!(labels.len(), CloseReason::ALL.len());
        assert_eq!(codes.len(), CloseReason::ALL.len());
    }
}
