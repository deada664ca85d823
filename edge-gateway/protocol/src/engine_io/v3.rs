//! What differs in version 3 of Engine.IO, which the clients of Socket.IO 2 speak.
//!
//! Texts over WebSocket are packets as in version 4. Not the same are: the client pings, packets in
//! a body stand behind their lengths ([`payload`]), and a binary packet begins with its type
//! ([`BinaryForm`]).

mod binary_form;

pub mod payload;

pub use binary_form::{BinaryForm, MalformedFrames};

use super::{Base64Text, DecodePacketError, Packet};

/// The answer to a ping of the client as a whole WebSocket frame.
pub const PONG_TEXT_FRAME: [u8; 3] = [0x81, 1, b'3'];

/// The type of a message, where a packet is bytes.
const MESSAGE: u8 = 4;

/// The type of a message, where a packet is text.
const MESSAGE_DIGIT: char = '4';

/// What a packet of the client means to a session that is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received<'a> {
    /// A text for the layer above.
    Message(&'a str),
    /// Bytes for the layer above.
    Binary(&'a [u8]),
    /// Bytes for the layer above, where they could not be sent as such.
    Base64(Base64Text<'a>),
    /// The client is alive and waits for [`PONG_TEXT_FRAME`].
    Ping,
    /// Legal in another state of a session; tolerated here.
    Ignored,
    /// The client has closed the session.
    Closed,
}

/// Decodes a text of a session that is open, over WebSocket a text frame.
///
/// # Errors
///
/// Why the session must be closed.
pub fn receive(text: &str) -> Result<Received<'_>, ReceiveError> {
    match Packet::decode(text)? {
        Packet::Message(data) => Ok(Received::Message(data)),
        Packet::Binary(data) => {
            let data = data.strip_prefix(MESSAGE_DIGIT).ok_or(ReceiveError::NotMessage)?;
            Ok(Received::Base64(data))
        }
        Packet::Ping(_) => Ok(Received::Ping),
        Packet::Open | Packet::Upgrade | Packet::Noop => Ok(Received::Ignored),
        Packet::Close => Ok(Received::Closed),
        Packet::Pong(_) => Err(ReceiveError::PongFromClient),
    }
}

/// Decodes bytes of a session that is open, over WebSocket a binary frame.
///
/// # Errors
///
/// Why the session must be closed.
pub const fn receive_binary(packet: &[u8]) -> Result<Received<'_>, ReceiveError> {
    match packet {
        [MESSAGE, data @ ..] => Ok(Received::Binary(data)),
        _ => Err(ReceiveError::NotMessage),
    }
}

/// Why a packet is none that a client may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReceiveError {
    /// A text is no packet.
    #[error("text is no packet")]
    Packet(#[from] DecodePacketError),
    /// Only messages have bytes.
    #[error("binary packet is no message")]
    NotMessage,
    /// A pong in the wrong direction: in this version of the protocol the client pings.
    #[error("pong came from the client")]
    PongFromClient,
    /// In a body: the length before a packet is none, or not that of a packet that is there.
    #[error("length of a packet is wrong")]
    BadLength,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_session_takes_what_the_reference_server_takes() {
        let base64 = |text| Ok(Received::Base64(Base64Text::new(text)));
        let cases = [
            ("442", Ok(Received::Message("42"))),
            ("4", Ok(Received::Message(""))),
            ("b4AQID", base64("AQID")),
            ("b4", base64("")),
            ("2", Ok(Received::Ping)),
            ("2probe", Ok(Received::Ping)),
            ("0", Ok(Received::Ignored)),
            ("5", Ok(Received::Ignored)),
            ("6", Ok(Received::Ignored)),
            ("1", Ok(Received::Closed)),
            ("3", Err(ReceiveError::PongFromClient)),
            ("3probe", Err(ReceiveError::PongFromClient)),
            ("b", Err(ReceiveError::NotMessage)),
            ("bAQID", Err(ReceiveError::NotMessage)),
            ("b2", Err(ReceiveError::NotMessage)),
            ("", Err(ReceiveError::Packet(DecodePacketError::Empty))),
            ("7", Err(ReceiveError::Packet(DecodePacketError::UnknownType))),
            ("abc", Err(ReceiveError::Packet(DecodePacketError::UnknownType))),
        ];

        for (text, expected) in cases {
            assert_eq!(receive(text), expected, "{text:?}");
        }
    }

    #[test]
    fn bytes_begin_with_their_type() {
        let cases: [(&[u8], _); 5] = [
            (&[4, 1, 2, 255], Ok(Received::Binary(&[1, 2, 255]))),
            (&[4], Ok(Received::Binary(&[]))),
            (&[], Err(ReceiveError::NotMessage)),
            (&[2], Err(ReceiveError::NotMessage)),
            (b"4\x01", Err(ReceiveError::NotMessage)),
        ];

        for (packet, expected) in cases {
            assert_eq!(receive_binary(packet), expected, "{packet:?}");
        }
    }
}
