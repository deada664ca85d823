//! Packets on a stream of WebTransport: each in a frame, which says how long it is (Engine.IO 4.1).
//!
//! Inside the edge every session speaks WebSocket, whatever its client uses. [`ToWebSocket`] and
//! [`FromWebSocket`] turn one stream into the other. They hold back no more than part of a header,
//! so that limits are enforced in one place for all transports: where WebSocket frames are decoded.

use crate::websocket::{FrameHead, Opcode, put_client_frame_header, split_server_frame_head};

/// Longest header of a frame.
pub const HEADER_BYTES_MAX: usize = 9;

/// The code of a WebSocket that has served its purpose (RFC 6455 §7.4.1).
const NORMAL_CLOSURE: u16 = 1000;

const BINARY: u8 = 0x80;
const LENGTH: u8 = 0x7F;

/// What a frame holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One packet as text.
    Text,
    /// The bytes of a message.
    Binary,
}

/// What a frame begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// What the frame holds.
    pub kind: Kind,
    /// How much of it.
    pub payload_bytes: u64,
}

/// Decodes the header that `input` begins with. Returns what follows it, too; `None` while part of
/// the header is missing.
pub fn split_header(input: &[u8]) -> Option<(Header, &[u8])> {
    let (&first, rest) = input.split_first()?;
    let kind = if first & BINARY == 0 { Kind::Text } else { Kind::Binary };
    let (payload_bytes, rest) = match first & LENGTH {
        126 => {
            let (&len, rest) = rest.split_first_chunk::<2>()?;
            (u16::from_be_bytes(len).into(), rest)
        }
        127 => {
            let (&len, rest) = rest.split_first_chunk::<8>()?;
            (u64::from_be_bytes(len), rest)
        }
        len => (len.into(), rest),
    };
    Some((Header { kind, payload_bytes }, rest))
}

/// Appends the header of a frame; its payload must follow.
pub fn put_header(out: &mut Vec<u8>, header: Header) {
    let kind = match header.kind {
        Kind::Text => 0,
        Kind::Binary => BINARY,
    };
    match (u8::try_from(header.payload_bytes), u16::try_from(header.payload_bytes)) {
        (Ok(len @ ..=125), _) => out.push(kind | len),
        (_, Ok(len)) => {
            out.push(kind | 126);
            out.extend_from_slice(&len.to_be_bytes());
        }
        (_, Err(_)) => {
            out.push(kind | 127);
            out.extend_from_slice(&header.payload_bytes.to_be_bytes());
        }
    }
}

/// What a client asks for with its first packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opening {
    /// A session.
    New,
    /// To go on with the session that has this id, which has been on another transport so far.
    Upgrade {
        /// The id, as the client knows it.
        sid: String,
    },
}

/// Decodes the text that must be a client's first.
///
/// # Errors
///
/// It is something else. The WebTransport session is to be closed.
pub fn receive_opening(text: &str) -> Result<Opening, NotAnOpening> {
    match text.strip_prefix('0').ok_or(NotAnOpening)? {
        "" => Ok(Opening::New),
        data => {
            let data: serde_json::Value = serde_json::from_str(data).map_err(|_| NotAnOpening)?;
            let sid = data.get("sid").and_then(serde_json::Value::as_str).ok_or(NotAnOpening)?;
            Ok(Opening::Upgrade { sid: sid.to_owned() })
        }
    }
}

/// A client's first packet that does not open anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("packet opens no session")]
pub struct NotAnOpening;

/// Turns what a client sends into WebSocket frames as a client sends them.
///
/// An empty frame becomes an empty text, which is no packet either.
#[derive(Debug, Default)]
pub struct ToWebSocket {
    /// The part of a header that has arrived.
    header: Vec<u8>,
    payload_left: u64,
}

impl ToWebSocket {
    /// Appends what `input` means.
    pub fn translate(&mut self, mut input: &[u8], out: &mut Vec<u8>) {
        while !input.is_empty() {
            if self.payload_left > 0 {
                input = pass_on(input, &mut self.payload_left, out);
                continue;
            }
            let Some((&byte, rest)) = input.split_first() else { return };
            input = rest;
            self.header.push(byte);
            let Some((header, _)) = split_header(&self.header) else { continue };
            self.header.clear();
            self.payload_left = header.payload_bytes;
            let opcode = match header.kind {
                Kind::Binary if header.payload_bytes > 0 => Opcode::Binary,
                Kind::Binary | Kind::Text => Opcode::Text,
            };
            put_client_frame_header(out, opcode, header.payload_bytes);
        }
    }

    /// Appends what a client says that closes in good order. One that does so amid a frame says
    /// nothing.
    pub fn close(self, out: &mut Vec<u8>) {
        if self.header.is_empty() && self.payload_left == 0 {
            put_client_frame_header(out, Opcode::Close, 2);
            out.extend_from_slice(&NORMAL_CLOSURE.to_be_bytes());
        }
    }
}

/// Turns WebSocket frames, as the server sends them, into what the client is to get.
///
/// Control frames are left out; so are empty frames, which have no equivalent and are no packets.
#[derive(Debug, Default)]
pub struct FromWebSocket {
    header: Vec<u8>,
    payload_left: u64,
    /// What is left belongs to a control frame.
    is_control: bool,
    is_closed: bool,
}

impl FromWebSocket {
    /// Appends what `input` means. Nothing does after a close frame.
    ///
    /// # Errors
    ///
    /// The input is not what the encoders of this crate write.
    pub fn translate(
        &mut self,
        mut input: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), NotServerFrames> {
        while !input.is_empty() && !self.is_closed {
            if self.payload_left > 0 && self.is_control {
                input = skip(input, &mut self.payload_left);
                continue;
            }
            if self.payload_left > 0 {
                input = pass_on(input, &mut self.payload_left, out);
                continue;
            }
            let Some((&byte, rest)) = input.split_first() else { return Ok(()) };
            input = rest;
            self.header.push(byte);
            let Some(head) = split_server_frame_head(&self.header).map_err(|_| NotServerFrames)?
            else {
                continue;
            };
            self.header.clear();
            self.begin(head, out);
        }
        Ok(())
    }

    fn begin(&mut self, head: FrameHead, out: &mut Vec<u8>) {
        self.payload_left = head.payload_bytes;
        let kind = match head.opcode {
            Opcode::Text => Some(Kind::Text),
            Opcode::Binary => Some(Kind::Binary),
            Opcode::Close => {
                self.is_closed = true;
                None
            }
            Opcode::Ping | Opcode::Pong | Opcode::Continuation => None,
        };
        self.is_control = kind.is_none();
        if let Some(kind) = kind
            && head.payload_bytes > 0
        {
            put_header(out, Header { kind, payload_bytes: head.payload_bytes });
        }
    }

    /// Returns whether the server has closed the session.
    pub const fn is_closed(&self) -> bool {
        self.is_closed
    }
}

/// There is something else than unmasked, unfragmented frames. The server has made them, so it is at
/// fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("frames are malformed")]
pub struct NotServerFrames;

/// Appends what of `input` belongs to the payload; returns the rest.
fn pass_on<'a>(input: &'a [u8], payload_left: &mut u64, out: &mut Vec<u8>) -> &'a [u8] {
    let rest = skip(input, payload_left);
    let taken = input.len().saturating_sub(rest.len());
    out.extend_from_slice(input.get(..taken).unwrap_or_default());
    rest
}

fn skip<'a>(input: &'a [u8], payload_left: &mut u64) -> &'a [u8] {
    let len = usize::try_from(*payload_left).unwrap_or(usize::MAX).min(input.len());
    *payload_left = payload_left.saturating_sub(len as u64);
    input.get(len..).unwrap_or_default()
}
