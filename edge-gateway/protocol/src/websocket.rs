//! Frames of the WebSocket protocol, seen from the server (RFC 6455).
//!
//! No extension is offered, so reserved bits are always an error. What the server sends is never
//! masked: the bytes of a frame are the same for every recipient.

mod decoder;
mod handshake;
mod partial_text;
mod server_frames;

pub use decoder::{
    DecodeFrameError, Decoded, Decoder, Message, SMALL_FRAGMENT_BYTES, SMALL_FRAGMENTS_MAX,
};
pub use handshake::{Handshake, HandshakeError, accept_key};
pub(crate) use server_frames::{FrameHead, ServerFrames, split_server_frame_head};

/// Longest payload of a control frame (RFC 6455 §5.5).
pub const CONTROL_PAYLOAD_BYTES_MAX: usize = 125;

/// An empty ping as a whole frame, for connections that have no heartbeat of their own.
pub const PING_FRAME: [u8; 2] = [0x89, 0];

/// A close frame without a code, which says nothing about why.
pub const EMPTY_CLOSE_FRAME: [u8; 2] = [0x88, 0];

const FINAL: u8 = 0x80;
const RESERVED: u8 = 0x70;
const OPCODE: u8 = 0x0F;
const MASKED: u8 = 0x80;
const LENGTH: u8 = 0x7F;

/// What a frame carries (RFC 6455 §5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opcode {
    /// A further fragment of the message begun by an earlier frame.
    Continuation,
    /// UTF-8 text, or its first fragment.
    Text,
    /// Bytes, or their first fragment.
    Binary,
    /// The last frame of a peer.
    Close,
    /// Asks for a pong with the same payload.
    Ping,
    /// Answers a ping.
    Pong,
}

impl Opcode {
    const fn from_bits(bits: u8) -> Option<Self> {
        match bits {
            0x0 => Some(Self::Continuation),
            0x1 => Some(Self::Text),
            0x2 => Some(Self::Binary),
            0x8 => Some(Self::Close),
            0x9 => Some(Self::Ping),
            0xA => Some(Self::Pong),
            _ => None,
        }
    }

    const fn bits(self) -> u8 {
        match self {
            Self::Continuation => 0x0,
            Self::Text => 0x1,
            Self::Binary => 0x2,
            Self::Close => 0x8,
            Self::Ping => 0x9,
            Self::Pong => 0xA,
        }
    }

    const fn is_control(self) -> bool {
        match self {
            Self::Close | Self::Ping | Self::Pong => true,
            Self::Continuation | Self::Text | Self::Binary => false,
        }
    }
}

/// Appends the header of an unmasked, unfragmented frame; `payload_len` bytes must follow.
pub fn put_frame_header(out: &mut Vec<u8>, opcode: Opcode, payload_len: usize) {
    out.push(FINAL | opcode.bits());
    match (u8::try_from(payload_len), u16::try_from(payload_len)) {
        (Ok(len @ ..=125), _) => out.push(len),
        (_, Ok(len)) => {
            out.push(126);
            out.extend_from_slice(&len.to_be_bytes());
        }
        (_, Err(_)) => {
            out.push(127);
            out.extend_from_slice(&(payload_len as u64).to_be_bytes());
        }
    }
}

/// Appends the header of an unfragmented frame of a client. The key of its mask is zero: the payload
/// follows as it is.
pub(crate) fn put_client_frame_header(out: &mut Vec<u8>, opcode: Opcode, payload_bytes: u64) {
    out.push(FINAL | opcode.bits());
    match (u8::try_from(payload_bytes), u16::try_from(payload_bytes)) {
        (Ok(len @ ..=125), _) => out.push(MASKED | len),
        (_, Ok(len)) => {
            out.push(MASKED | 126);
            out.extend_from_slice(&len.to_be_bytes());
        }
        (_, Err(_)) => {
            out.push(MASKED | 127);
            out.extend_from_slice(&payload_bytes.to_be_bytes());
        }
    }
    out.extend_from_slice(&[0; 4]);
}

/// Returns how many bytes [`put_frame_header`] appends.
pub const fn frame_header_len(payload_len: usize) -> usize {
    match payload_len {
        0..=125 => 2,
        126..=0xFFFF => 4,
        _ => 10,
    }
}

/// Returns a whole close frame with `code` and without a reason text.
pub const fn close_frame(code: u16) -> [u8; 4] {
    let [high, low] = code.to_be_bytes();
    [FINAL | Opcode::Close.bits(), 2, high, low]
}

/// Appends the answer to a ping. A payload that no ping can have is cut at
/// [`CONTROL_PAYLOAD_BYTES_MAX`].
pub fn put_pong(out: &mut Vec<u8>, payload: &[u8]) {
    let payload = payload.get(..CONTROL_PAYLOAD_BYTES_MAX).unwrap_or(payload);
    out.reserve(frame_header_len(payload.len()).saturating_add(payload.len()));
    put_frame_header(out, Opcode::Pong, payload.len());
    out.extend_from_slice(payload);
}
