//! Many packets in one body, for clients that poll: U+001E stands between them.
//!
//! What the server sends is made once, as WebSocket frames, whichever transport a client uses; a
//! [`Payload`] takes the packets out of them.

use super::{DecodePacketError, Received, base64_text, receive as receive_packet};
use crate::websocket::{Opcode, ServerFrames};

const SEPARATOR: u8 = 0x1E;

/// Decodes the body of a POST. There is always something in it: an empty body is an empty packet,
/// and so is what stands before, between or after separators that are too many.
pub const fn receive(body: &[u8]) -> Packets<'_> {
    Packets { rest: Some(body) }
}

/// What the packets in the body of a POST mean, one after the other. It ends with
/// [`Received::Closed`] or with an error: the session must be closed, and what follows means nothing.
#[derive(Debug, Clone)]
pub struct Packets<'a> {
    /// `None` after the last packet.
    rest: Option<&'a [u8]>,
}

impl<'a> Iterator for Packets<'a> {
    type Item = Result<Received<'a>, DecodePacketError>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut parts = self.rest?.splitn(2, |&byte| byte == SEPARATOR);
        let packet = parts.next().unwrap_or_default();
        self.rest = parts.next();
        let received =
            str::from_utf8(packet).map_err(|_| DecodePacketError::NotUtf8).and_then(receive_packet);
        if matches!(received, Ok(Received::Closed) | Err(_)) {
            self.rest = None;
        }
        Some(received)
    }
}

/// The body of the answer to a poll.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Payload {
    body: Vec<u8>,
}

impl Payload {
    /// Returns a payload without a packet.
    pub const fn new() -> Self {
        Self { body: Vec::new() }
    }

    /// Returns the length of the body.
    pub const fn len(&self) -> usize {
        self.body.len()
    }

    /// Returns whether there is no packet yet.
    pub const fn is_empty(&self) -> bool {
        self.body.is_empty()
    }

    /// Returns the length that the body would have after [`push`](Self::push).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn len_with(&self, frames: &[u8]) -> Result<usize, PushFramesError> {
        packets(frames).try_fold(self.len(), |len, packet| {
            let separator_len = usize::from(len > 0);
            Ok(len.saturating_add(separator_len).saturating_add(packet?.len()))
        })
    }

    /// Appends the packets in whole frames of the server, as the encoders of this crate write them:
    /// a text frame is a packet, a binary frame is one as base64. Control frames are left out.
    ///
    /// # Errors
    ///
    /// What makes the frames no packets. The payload is as before.
    pub fn push(&mut self, frames: &[u8]) -> Result<(), PushFramesError> {
        let len_after = self.len_with(frames)?;
        self.body.reserve(len_after.saturating_sub(self.len()));
        for packet in packets(frames) {
            if !self.is_empty() {
                self.body.push(SEPARATOR);
            }
            packet?.put(&mut self.body);
        }
        debug_assert_eq!(self.len(), len_after);
        Ok(())
    }

    /// Returns the body.
    pub fn into_body(self) -> Vec<u8> {
        self.body
    }
}

/// Why frames cannot be sent to a client that polls. The server has made them, so it is at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PushFramesError {
    /// There is something else than whole, unmasked, unfragmented frames.
    #[error("frames are malformed")]
    Malformed,
    /// A frame is empty, or is text with a U+001E, which would begin another packet. No JSON holds
    /// one; a business service that does not write JSON may.
    #[error("frame is not one packet")]
    NotOnePacket,
}

#[derive(Debug, Clone, Copy)]
enum Packet<'a> {
    Text(&'a [u8]),
    Binary(&'a [u8]),
}

impl Packet<'_> {
    fn len(self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Binary(bytes) => base64_text::encoded_len(bytes).saturating_add(1),
        }
    }

    fn put(self, out: &mut Vec<u8>) {
        match self {
            Self::Text(text) => out.extend_from_slice(text),
            Self::Binary(bytes) => {
                out.push(b'b');
                base64_text::put_encoded(out, bytes);
            }
        }
    }
}

fn packets(frames: &[u8]) -> impl Iterator<Item = Result<Packet<'_>, PushFramesError>> {
    ServerFrames::new(frames).filter_map(|frame| match frame {
        Ok((Opcode::Text, text)) if text.is_empty() || text.contains(&SEPARATOR) => {
            Some(Err(PushFramesError::NotOnePacket))
        }
        Ok((Opcode::Text, text)) => Some(Ok(Packet::Text(text))),
        Ok((Opcode::Binary, bytes)) => Some(Ok(Packet::Binary(bytes))),
        Ok((Opcode::Continuation | Opcode::Close | Opcode::Ping | Opcode::Pong, _)) => None,
        Err(_) => Some(Err(PushFramesError::Malformed)),
    })
}
