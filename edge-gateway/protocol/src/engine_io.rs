//! Packets of Engine.IO, protocol version 4: one per WebSocket frame, or many in the body of a request.
//! [`v3`] has what differs in version 3.

mod base64_text;
mod heartbeat;
mod open_handshake;
mod upgrade;

pub mod payload;
pub mod v3;
pub mod webtransport;

pub use base64_text::{Base64Text, DecodeBase64Error};
pub use heartbeat::{Beat, Heartbeat};
pub use open_handshake::OpenHandshake;
pub use upgrade::{PROBE_ANSWER_TEXT_FRAME, Probe, UnexpectedPacket, receive_probe};

/// What a packet begins with that carries a text of the application.
pub const MESSAGE_TYPE: u8 = b'4';

/// A ping of the server as a whole WebSocket frame.
pub const PING_TEXT_FRAME: [u8; 3] = [0x81, 1, b'2'];

/// A packet that means nothing, as a whole WebSocket frame: it ends the poll of a client that moves
/// to another transport.
pub const NOOP_TEXT_FRAME: [u8; 3] = [0x81, 1, b'6'];

/// An Engine.IO packet: a digit, or a `b`, and what follows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packet<'a> {
    /// `0` opens a session; only a server sends it.
    Open,
    /// `1` closes the session.
    Close,
    /// `2` asks for a pong with the same text.
    Ping(&'a str),
    /// `3` answers a ping.
    Pong(&'a str),
    /// `4` carries a packet of the application, here of Socket.IO.
    Message(&'a str),
    /// `5` ends the upgrade from another transport.
    Upgrade,
    /// `6` means nothing; it ends a poll.
    Noop,
    /// `b` carries bytes of the application where they cannot be sent as such.
    Binary(Base64Text<'a>),
}

impl<'a> Packet<'a> {
    /// Decodes a text. As in the reference server, text after a packet that carries none is
    /// ignored.
    ///
    /// # Errors
    ///
    /// Why the text is no packet.
    pub fn decode(text: &'a str) -> Result<Self, DecodePacketError> {
        let mut rest = text.chars();
        let packet_type = rest.next().ok_or(DecodePacketError::Empty)?;
        let data = rest.as_str();
        match packet_type {
            '0' => Ok(Self::Open),
            '1' => Ok(Self::Close),
            '2' => Ok(Self::Ping(data)),
            '3' => Ok(Self::Pong(data)),
            '4' => Ok(Self::Message(data)),
            '5' => Ok(Self::Upgrade),
            '6' => Ok(Self::Noop),
            'b' => Ok(Self::Binary(Base64Text::new(data))),
            _ => Err(DecodePacketError::UnknownType),
        }
    }
}

/// What a packet of the client means to a session that is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received<'a> {
    /// A text for the layer above.
    Message(&'a str),
    /// Bytes for the layer above.
    Binary(Base64Text<'a>),
    /// The client is alive.
    Pong,
    /// Legal in another state of a session; tolerated here.
    Ignored,
    /// The client has closed the session.
    Closed,
}

/// Decodes a text of a session that is open, over WebSocket a text frame.
///
/// # Errors
///
/// Why the session must be closed. A ping is among the reasons: in this version of the protocol
/// the server pings.
pub fn receive(text: &str) -> Result<Received<'_>, DecodePacketError> {
    match Packet::decode(text)? {
        Packet::Message(data) => Ok(Received::Message(data)),
        Packet::Binary(data) => Ok(Received::Binary(data)),
        Packet::Pong(_) => Ok(Received::Pong),
        Packet::Open | Packet::Upgrade | Packet::Noop => Ok(Received::Ignored),
        Packet::Close => Ok(Received::Closed),
        Packet::Ping(_) => Err(DecodePacketError::PingFromClient),
    }
}

/// Why a text is no Engine.IO packet that a client may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodePacketError {
    /// There is not even a packet type.
    #[error("packet is empty")]
    Empty,
    /// The type is neither one of the seven nor `b`.
    #[error("packet type is unknown")]
    UnknownType,
    /// The packet is not UTF-8. Over WebSocket its frame is refused before.
    #[error("packet is not utf-8")]
    NotUtf8,
    /// A ping in the wrong direction.
    #[error("ping came from the client")]
    PingFromClient,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_packet_type_is_decoded() {
        let cases = [
            ("0", Ok(Packet::Open)),
            (r#"0{"sid":"x"}"#, Ok(Packet::Open)),
            ("1", Ok(Packet::Close)),
            ("2", Ok(Packet::Ping(""))),
            ("2probe", Ok(Packet::Ping("probe"))),
            ("3", Ok(Packet::Pong(""))),
            ("3probe", Ok(Packet::Pong("probe"))),
            ("4", Ok(Packet::Message(""))),
            ("4hello", Ok(Packet::Message("hello"))),
            ("4é\0🎈", Ok(Packet::Message("é\0🎈"))),
            ("5", Ok(Packet::Upgrade)),
            ("6", Ok(Packet::Noop)),
            ("", Err(DecodePacketError::Empty)),
            ("7", Err(DecodePacketError::UnknownType)),
            ("9", Err(DecodePacketError::UnknownType)),
            ("abc", Err(DecodePacketError::UnknownType)),
            ("é", Err(DecodePacketError::UnknownType)),
            ("٤", Err(DecodePacketError::UnknownType)),
            (" 4", Err(DecodePacketError::UnknownType)),
            ("b", Ok(Packet::Binary(Base64Text::new("")))),
            ("bAQID", Ok(Packet::Binary(Base64Text::new("AQID")))),
            ("B", Err(DecodePacketError::UnknownType)),
        ];

        for (text, expected) in cases {
            assert_eq!(Packet::decode(text), expected, "{text:?}");
        }
    }

    #[test]
    fn an_open_session_takes_what_the_reference_server_takes() {
        let cases = [
            ("442", Ok(Received::Message("42"))),
            ("bAQID", Ok(Received::Binary(Base64Text::new("AQID")))),
            ("3", Ok(Received::Pong)),
            ("3x", Ok(Received::Pong)),
            ("0", Ok(Received::Ignored)),
            ("5", Ok(Received::Ignored)),
            ("6", Ok(Received::Ignored)),
            ("1", Ok(Received::Closed)),
            ("2", Err(DecodePacketError::PingFromClient)),
            ("2probe", Err(DecodePacketError::PingFromClient)),
            ("", Err(DecodePacketError::Empty)),
            ("7", Err(DecodePacketError::UnknownType)),
        ];

        for (text, expected) in cases {
            assert_eq!(receive(text), expected, "{text:?}");
        }
    }
}
