//! Writes whole WebSocket frames in one allocation of the right size.

use crate::json;
use crate::websocket::{Opcode, frame_header_len, put_frame_header};

/// A part of the text in a frame.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Piece<'a> {
    /// These bytes.
    Raw(&'a [u8]),
    /// This text as a JSON string.
    Quoted(&'a str),
    /// This number.
    Decimal(u64),
}

impl Piece<'_> {
    fn len(self) -> usize {
        match self {
            Self::Raw(bytes) => bytes.len(),
            Self::Quoted(text) => json::quoted_len(text),
            Self::Decimal(number) => decimal_len(number),
        }
    }

    fn put(self, out: &mut Vec<u8>) {
        match self {
            Self::Raw(bytes) => out.extend_from_slice(bytes),
            Self::Quoted(text) => json::put_quoted(out, text),
            Self::Decimal(number) => put_decimal(out, number),
        }
    }
}

/// Returns the unmasked text frame that carries the pieces one after the other.
pub(crate) fn text_frame(pieces: &[Piece<'_>]) -> Vec<u8> {
    text_frame_with_attachments::<&[u8]>(pieces, &[])
}

/// Returns the unmasked text frame that carries the pieces one after the other, and behind it an
/// unmasked binary frame for each attachment.
pub(crate) fn text_frame_with_attachments<A: AsRef<[u8]>>(
    pieces: &[Piece<'_>],
    attachments: &[A],
) -> Vec<u8> {
    let text_len = pieces.iter().fold(0usize, |sum, piece| sum.saturating_add(piece.len()));
    let frames_len = attachments.iter().fold(frame_len(text_len), |sum, attachment| {
        sum.saturating_add(frame_len(attachment.as_ref().len()))
    });

    let mut frames = Vec::with_capacity(frames_len);
    put_frame_header(&mut frames, Opcode::Text, text_len);
    for piece in pieces {
        piece.put(&mut frames);
    }
    for attachment in attachments {
        put_frame_header(&mut frames, Opcode::Binary, attachment.as_ref().len());
        frames.extend_from_slice(attachment.as_ref());
    }
    debug_assert_eq!(frames.len(), frames_len);
    frames
}

fn frame_len(payload_len: usize) -> usize {
    frame_header_len(payload_len).saturating_add(payload_len)
}

fn decimal_len(number: u64) -> usize {
    number.checked_ilog10().map_or(1, |log| log.saturating_add(1) as usize)
}

fn put_decimal(out: &mut Vec<u8>, number: u64) {
    if number >= 10 {
        put_decimal(out, number / 10);
    }
    out.push(b'0' | (number % 10) as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_fills_its_one_allocation_at_every_length_encoding() {
        for len in [0, 1, 125, 126, 127, 65_535, 65_536, 70_000] {
            let text = "x".repeat(len);

            let frame = text_frame(&[Piece::Raw(text.as_bytes())]);

            assert_eq!(frame.capacity(), frame.len(), "{len}");
            assert!(frame.ends_with(text.as_bytes()));
        }
    }

    #[test]
    fn numbers_are_written_in_decimal() {
        for number in [0, 1, 9, 10, 11, 99, 100, 1 << 53, u64::MAX - 1, u64::MAX] {
            let frame = text_frame(&[Piece::Decimal(number)]);

            assert_eq!(&frame[2..], number.to_string().as_bytes());
            assert_eq!(frame.capacity(), frame.len());
        }
    }
}
