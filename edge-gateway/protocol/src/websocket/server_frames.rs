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

/// What a frame begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameHead {
    pub(crate) opcode: Opcode,
    pub(crate) payload_bytes: u64,
    head_len: usize,
}

/// Reads what an unmasked, unfragmented frame begins with; nothing while part of it is missing.
pub(crate) fn split_server_frame_head(input: &[u8]) -> Result<Option<FrameHead>, NotServerFrame> {
    let Some((&[first, second], rest)) = input.split_first_chunk::<2>() else { return Ok(None) };
    if first & (FINAL | RESERVED) != FINAL || second & MASKED != 0 {
        return Err(NotServerFrame);
    }
    let opcode = Opcode::from_bits(first & OPCODE).ok_or(NotServerFrame)?;
    if opcode == Opcode::Continuation {
        return Err(NotServerFrame);
    }
    let (payload_bytes, head_len) = match second & LENGTH {
        126 => match rest.first_chunk::<2>() {
            Some(&len) => (u64::from(u16::from_be_bytes(len)), 4),
            None => return Ok(None),
        },
        127 => match rest.first_chunk::<8>() {
            Some(&len) => (u64::from_be_bytes(len), 10),
            None => return Ok(None),
        },
        len => (u64::from(len), 2),
    };
    Ok(Some(FrameHead { opcode, payload_bytes, head_len }))
}

/// Splits off the opcode and the payload of an unmasked, unfragmented frame.
fn split_frame(frames: &[u8]) -> Option<(Opcode, &[u8], &[u8])> {
    let head = split_server_frame_head(frames).ok()??;
    let payload_len = usize::try_from(head.payload_bytes).ok()?;
    let (payload, rest) = frames.get(head.head_len..)?.split_at_checked(payload_len)?;
    Some((head.opcode, payload, rest))
}
