//! Many packets in one body, for clients that poll: each stands behind its length.
//!
//! ```text
//!  text:    6:4hello10:b4AQIDBA==                 the length is in UTF-16 code units
//!  binary:  00 06 ff "4hello" 01 05 ff 04 01 02 03 04      a digit a byte, then ff
//! ```
//!
//! A binary body has texts too, after a 00. The server sends one only where it has bytes to send.

use super::{ReceiveError, Received, receive as receive_packet, receive_binary as receive_bytes};
use crate::engine_io::DecodePacketError;
use crate::engine_io::payload::PushFramesError;
use crate::websocket::{Opcode, ServerFrames};

/// Ends the length of a packet in a binary body.
const LENGTH_END: u8 = 0xFF;

/// Most digits of a length: more than any body that a server takes has bytes.
const LENGTH_DIGITS_MAX: usize = 10;

/// Decodes the body of a POST that is text.
pub fn receive(body: &[u8]) -> Packets<'_> {
    match str::from_utf8(body) {
        Ok("") => Packets(Rest::Wrong(ReceiveError::BadLength)),
        Ok(text) => Packets(Rest::Text(text)),
        Err(_) => Packets(Rest::Wrong(DecodePacketError::NotUtf8.into())),
    }
}

/// Decodes the body of a POST that is binary.
pub const fn receive_binary(body: &[u8]) -> Packets<'_> {
    Packets(Rest::Binary(body))
}

/// What the packets in the body of a POST mean, one after the other. It ends with
/// [`Received::Closed`] or with an error: the session must be closed, and what follows means nothing.
#[derive(Debug, Clone)]
pub struct Packets<'a>(Rest<'a>);

#[derive(Debug, Clone, Copy)]
enum Rest<'a> {
    Text(&'a str),
    Binary(&'a [u8]),
    Wrong(ReceiveError),
}

const NOTHING: Rest<'static> = Rest::Text("");

impl<'a> Iterator for Packets<'a> {
    type Item = Result<Received<'a>, ReceiveError>;

    fn next(&mut self) -> Option<Self::Item> {
        let received = match self.0 {
            Rest::Text(text) => self.next_in_text(text)?,
            Rest::Binary([]) => return None,
            Rest::Binary(body) => self.next_in_binary(body),
            Rest::Wrong(error) => Err(error),
        };
        if matches!(received, Ok(Received::Closed) | Err(_)) {
            self.0 = NOTHING;
        }
        Some(received)
    }
}

impl<'a> Packets<'a> {
    /// As in the reference server, a packet of no length at all is skipped.
    fn next_in_text(&mut self, mut text: &'a str) -> Option<Result<Received<'a>, ReceiveError>> {
        while !text.is_empty() {
            let Some((packet, rest)) = split_text(text) else {
                return Some(Err(ReceiveError::BadLength));
            };
            self.0 = Rest::Text(rest);
            if !packet.is_empty() {
                return Some(receive_packet(packet));
            }
            text = rest;
        }
        None
    }

    fn next_in_binary(&mut self, body: &'a [u8]) -> Result<Received<'a>, ReceiveError> {
        let (is_text, packet, rest) = split_binary(body).ok_or(ReceiveError::BadLength)?;
        self.0 = Rest::Binary(rest);
        if !is_text {
            return receive_bytes(packet);
        }
        receive_packet(str::from_utf8(packet).map_err(|_| DecodePacketError::NotUtf8)?)
    }
}

/// Splits off a packet, which stands behind its length in UTF-16 code units and a colon.
fn split_text(text: &str) -> Option<(&str, &str)> {
    let (digits, rest) = text.split_once(':')?;
    if digits.len() > LENGTH_DIGITS_MAX || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let len: usize = digits.parse().ok()?;
    if rest.as_bytes().get(..len)?.is_ascii() {
        return rest.split_at_checked(len);
    }
    let mut units_left = len;
    for (at, character) in rest.char_indices() {
        if units_left == 0 {
            return rest.split_at_checked(at);
        }
        units_left = units_left.checked_sub(character.len_utf16())?;
    }
    (units_left == 0).then_some((rest, ""))
}

/// Splits off whether a packet is text, and the packet, which stands behind its length in bytes.
fn split_binary(body: &[u8]) -> Option<(bool, &[u8], &[u8])> {
    let (&kind, rest) = body.split_first()?;
    let is_text = match kind {
        0 => true,
        1 => false,
        _ => return None,
    };
    let digit_count = rest.iter().take(LENGTH_DIGITS_MAX.saturating_add(1));
    let digit_count = digit_count.take_while(|&&byte| byte <= 9).count();
    let (digits, rest) = rest.split_at_checked(digit_count)?;
    if digits.is_empty() || digits.len() > LENGTH_DIGITS_MAX {
        return None;
    }
    let len = digits.iter().try_fold(0usize, |len, &digit| {
        len.checked_mul(10).and_then(|len| len.checked_add(digit.into()))
    })?;
    let (packet, rest) = rest.strip_prefix(&[LENGTH_END])?.split_at_checked(len)?;
    Some((is_text, packet, rest))
}

/// The body of the answer to a poll, made of frames that are kept elsewhere.
#[derive(Debug, Clone, Default)]
pub struct Payload<'a> {
    frames: Vec<&'a [u8]>,
    has_bytes: bool,
}

/// A body with its kind, of which the client must be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// `text/plain` in UTF-8.
    Text(Vec<u8>),
    /// `application/octet-stream`.
    Binary(Vec<u8>),
}

impl Body {
    /// Returns whether there is no packet in it.
    pub const fn is_empty(&self) -> bool {
        match self {
            Self::Text(body) | Self::Binary(body) => body.is_empty(),
        }
    }
}

impl<'a> Payload<'a> {
    /// Returns a payload without a packet.
    pub const fn new() -> Self {
        Self { frames: Vec::new(), has_bytes: false }
    }

    /// Appends the packets in whole frames of the server, in the form that
    /// [`BinaryForm`](super::BinaryForm) gives them: each text frame and each binary frame is a
    /// packet. Control frames are left out.
    ///
    /// # Errors
    ///
    /// What makes the frames no packets. The payload is as before.
    pub fn push(&mut self, frames: &'a [u8]) -> Result<(), PushFramesError> {
        let mut has_bytes = self.has_bytes;
        for frame in ServerFrames::new(frames) {
            match frame {
                Ok((Opcode::Text | Opcode::Binary, [])) => {
                    return Err(PushFramesError::NotOnePacket);
                }
                Ok((opcode, _)) => has_bytes |= opcode == Opcode::Binary,
                Err(_) => return Err(PushFramesError::Malformed),
            }
        }
        self.has_bytes = has_bytes;
        self.frames.push(frames);
        Ok(())
    }

    /// Returns the body.
    pub fn into_body(self) -> Body {
        let len = self.packets().fold(0usize, |len, (_, packet)| {
            len.saturating_add(packet.len()).saturating_add(LENGTH_DIGITS_MAX).saturating_add(2)
        });
        let mut body = Vec::with_capacity(len);
        for (opcode, packet) in self.packets() {
            if self.has_bytes {
                body.push(u8::from(opcode == Opcode::Binary));
                put_digits(&mut body, packet.len(), 0);
                body.push(LENGTH_END);
            } else {
                put_digits(&mut body, utf16_len(packet), b'0');
                body.push(b':');
            }
            body.extend_from_slice(packet);
        }
        if self.has_bytes { Body::Binary(body) } else { Body::Text(body) }
    }

    fn packets(&self) -> impl Iterator<Item = (Opcode, &'a [u8])> {
        let frames = self.frames.iter().flat_map(|frames| ServerFrames::new(frames));
        frames.filter_map(|frame| {
            frame.ok().filter(|(opcode, _)| matches!(opcode, Opcode::Text | Opcode::Binary))
        })
    }
}

/// Returns the length of a text as JavaScript counts it.
fn utf16_len(utf8: &[u8]) -> usize {
    // Each character begins with a byte that does not continue one; beyond U+FFFF it counts twice.
    let characters = utf8.iter().filter(|&&byte| byte & 0xC0 != 0x80).count();
    let surrogate_pairs = utf8.iter().filter(|&&byte| byte >= 0xF0).count();
    characters.saturating_add(surrogate_pairs)
}

/// Appends a number in decimal, where `zero` stands for 0.
fn put_digits(out: &mut Vec<u8>, number: usize, zero: u8) {
    if number >= 10 {
        put_digits(out, number / 10, zero);
    }
    out.push(zero | (number % 10) as u8);
}
