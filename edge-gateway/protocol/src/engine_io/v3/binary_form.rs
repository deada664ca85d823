//! Gives the frames of version 4 the form in which a client of version 3 takes bytes.

use super::{MESSAGE, MESSAGE_DIGIT};
use crate::engine_io::base64_text;
use crate::websocket::{Opcode, ServerFrames, frame_header_len, put_frame_header};

/// How a client takes binary packets. It says so in its handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BinaryForm {
    /// As bytes, behind a byte for the type.
    Bytes,
    /// As text: `b4` and base64.
    Base64,
}

/// There is something else than whole, unmasked, unfragmented frames. The server has made them, so
/// it is at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("frames are malformed")]
pub struct MalformedFrames;

impl BinaryForm {
    /// Rewrites whole frames of the server, as the encoders of this crate write them: binary frames
    /// get this form, all others stay as they are. Frames without binary ones among them need no
    /// rewriting.
    ///
    /// # Errors
    ///
    /// `frames` holds what are none.
    pub fn rewrite(self, frames: &[u8]) -> Result<Vec<u8>, MalformedFrames> {
        let len = parts(frames).try_fold(0usize, |len, part| {
            let (opcode, payload) = part?;
            let payload_len = self.payload_len(opcode, payload);
            Ok(len.saturating_add(frame_header_len(payload_len)).saturating_add(payload_len))
        })?;
        let mut rewritten = Vec::with_capacity(len);
        for part in parts(frames) {
            let (opcode, payload) = part?;
            self.put(opcode, payload, &mut rewritten);
        }
        debug_assert_eq!(rewritten.len(), len);
        Ok(rewritten)
    }

    fn payload_len(self, opcode: Opcode, payload: &[u8]) -> usize {
        match (opcode, self) {
            (Opcode::Binary, Self::Bytes) => payload.len().saturating_add(1),
            (Opcode::Binary, Self::Base64) => base64_text::encoded_len(payload).saturating_add(2),
            _ => payload.len(),
        }
    }

    fn put(self, opcode: Opcode, payload: &[u8], out: &mut Vec<u8>) {
        let payload_len = self.payload_len(opcode, payload);
        match (opcode, self) {
            (Opcode::Binary, Self::Bytes) => {
                put_frame_header(out, Opcode::Binary, payload_len);
                out.push(MESSAGE);
                out.extend_from_slice(payload);
            }
            (Opcode::Binary, Self::Base64) => {
                put_frame_header(out, Opcode::Text, payload_len);
                out.push(b'b');
                out.push(MESSAGE_DIGIT as u8);
                base64_text::put_encoded(out, payload);
            }
            _ => {
                put_frame_header(out, opcode, payload_len);
                out.extend_from_slice(payload);
            }
        }
    }
}

fn parts(frames: &[u8]) -> impl Iterator<Item = Result<(Opcode, &[u8]), MalformedFrames>> {
    ServerFrames::new(frames).map(|frame| frame.map_err(|_| MalformedFrames))
}
