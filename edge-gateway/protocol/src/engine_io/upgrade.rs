//! Decides what a client may say on a WebSocket to which it wants to move a session that polls.

use super::Packet;

/// The answer to [`Probe::Ask`], `3probe`, as a whole WebSocket frame.
pub const PROBE_ANSWER_TEXT_FRAME: [u8; 8] = *b"\x81\x063probe";

/// What a packet means on a WebSocket that is tried out.
///
/// ```text
///  client ── 2probe ──► Ask
///         ◄─ 3probe ───
///         ── 5 ───────► Upgrade: from now on the session is on this WebSocket
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    /// Answer with [`PROBE_ANSWER_TEXT_FRAME`], and end a waiting poll with
    /// [`NOOP_TEXT_FRAME`](super::NOOP_TEXT_FRAME).
    Ask,
    /// Move the session. As in the reference server, a client need not have asked before.
    Upgrade,
}

/// Decodes a text frame of a WebSocket that is tried out.
///
/// # Errors
///
/// The packet has no place here. The WebSocket is to be closed; the session goes on polling.
pub fn receive_probe(text: &str) -> Result<Probe, UnexpectedPacket> {
    match Packet::decode(text) {
        Ok(Packet::Ping("probe")) => Ok(Probe::Ask),
        Ok(Packet::Upgrade) => Ok(Probe::Upgrade),
        Ok(
            Packet::Open
            | Packet::Close
            | Packet::Ping(_)
            | Packet::Pong(_)
            | Packet::Message(_)
            | Packet::Noop
            | Packet::Binary(_),
        )
        | Err(_) => Err(UnexpectedPacket),
    }
}

/// A packet, or what is none, that has no place in an upgrade.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("packet has no place in an upgrade")]
pub struct UnexpectedPacket;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_is_what_the_reference_server_takes_for_one() {
        let cases = [
            ("2probe", Ok(Probe::Ask)),
            ("5", Ok(Probe::Upgrade)),
            ("5x", Ok(Probe::Upgrade)),
            ("", Err(UnexpectedPacket)),
            ("2", Err(UnexpectedPacket)),
            ("2x", Err(UnexpectedPacket)),
            ("2probe2", Err(UnexpectedPacket)),
            ("2Probe", Err(UnexpectedPacket)),
            ("3probe", Err(UnexpectedPacket)),
            ("4hello", Err(UnexpectedPacket)),
            ("40/chat,", Err(UnexpectedPacket)),
            ("0", Err(UnexpectedPacket)),
            ("1", Err(UnexpectedPacket)),
            ("6", Err(UnexpectedPacket)),
            ("7", Err(UnexpectedPacket)),
            ("abc", Err(UnexpectedPacket)),
            ("bAQID", Err(UnexpectedPacket)),
        ];

        for (text, expected) in cases {
            assert_eq!(receive_probe(text), expected, "{text:?}");
        }
    }
}
