//! Writes a whole WebSocket text frame in one allocation of the right size.

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
    let payload_len = pieces.iter().fold(0usize, |sum, piece| sum.saturating_add(piece.len()));
    let frame_len = frame_header_len(payload_len).saturating_add(payload_len);

    let mut frame = Vec::with_capacity(frame_len);
    put_frame_header(&mut frame, Opcode::Text, payload_len);
    for piece in pieces {
        piece.put(&mut frame);
    }
    debug_assert_eq!(frame.len(), frame_len);
    frame
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
