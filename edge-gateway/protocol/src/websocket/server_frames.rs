//! Takes apart the frames that the server has made, for a client that cannot be sent frames.

use super::{FINAL, LENGTH, MASKED, OPCODE, Opcode, RESERVED};

/// The frames in a buffer that holds nothing but whole frames as this crate's encoders write them.
/// It ends with an error at what is none.
#[derive(Debug, Clone)]
pub(crate) struct ServerFrames<'a> {
    rest: &'a [u8],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotServerFrame;

impl<'a> ServerFrames<'a> {
    pub(crate) const fn new(frames: &'a [u8]) -> Self {
        Self { rest: frames }
    }
}

impl<'a> Iterator for ServerFrames<'a> {
    type Item = Result<(Opcode, &'a [u8]), NotServerFrame>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let frame = split_frame(self.rest);
        self.rest = frame.map_or(&[], |(_, _, rest)| rest);
        Some(frame.map(|(opcode, payload, _)| (opcode, payload)).ok_or(NotServerFrame))
    }
}

/// Splits off the opcode and the payload of an unmasked, unfragmented frame.
fn split_frame(frames: &[u8]) -> Option<(Opcode, &[u8], &[u8])> {
    let (&[first, second], rest) = frames.split_first_chunk::<2>()?;
    if first & (FINAL | RESERVED) != FINAL || second & MASKED != 0 {
        return None;
    }
    let opcode = Opcode::from_bits(first & OPCODE)?;
    if opcode == Opcode::Continuation {
        return None;
    }
    let (payload_len, rest) = match second & LENGTH {
        126 => {
            let (&len, rest) = rest.split_first_chunk::<2>()?;
            (usize::from(u16::from_be_bytes(len)), rest)
        }
        127 => {
            let (&len, rest) = rest.split_first_chunk::<8>()?;
            (usize::try_from(u64::from_be_bytes(len)).ok()?, rest)
        }
        len => (usize::from(len), rest),
    };
    let (payload, rest) = rest.split_at_checked(payload_len)?;
    Some((opcode, payload, rest))
}
