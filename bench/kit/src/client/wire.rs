//! Reads and writes WebSocket frames, as a client does.

use thiserror::Error;

pub(crate) const TEXT: u8 = 0x1;
pub(crate) const CLOSE: u8 = 0x8;
pub(crate) const PING: u8 = 0x9;
pub(crate) const PONG: u8 = 0xA;

const FINAL: u8 = 0x80;
const MASKED: u8 = 0x80;
/// Servers unmask what this masks as they do any other frame; that it changes nothing saves the client the work.
const MASK: [u8; 4] = [0; 4];

/// One whole frame of a server.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    pub(crate) opcode: u8,
    pub(crate) payload: &'a [u8],
    /// Bytes from the frame's beginning to the next one's.
    pub(crate) len: usize,
}

#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum FrameError {
    #[error("a frame is masked, fragmented, or has reserved bits")]
    Unexpected,
}

/// Returns a frame with a text, as a client sends it.
pub(crate) fn text_frame(text: &str) -> Vec<u8> {
    client_frame(TEXT, text.as_bytes())
}

pub(crate) fn client_frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = header(opcode, MASKED, payload.len());
    frame.extend_from_slice(&MASK);
    frame.extend_from_slice(payload);
    frame
}

/// Returns a frame with a text, as a server sends it.
pub(crate) fn server_text_frame(text: &str) -> Vec<u8> {
    let mut frame = header(TEXT, 0, text.len());
    frame.extend_from_slice(text.as_bytes());
    frame
}

fn header(opcode: u8, masked: u8, len: usize) -> Vec<u8> {
    let mut header = vec![FINAL | opcode];
    match (u8::try_from(len), u16::try_from(len)) {
        (Ok(short), _) if short < 126 => header.push(masked | short),
        (_, Ok(medium)) => {
            header.push(masked | 126);
            header.extend(medium.to_be_bytes());
        }
        _ => {
            header.push(masked | 127);
            header.extend((len as u64).to_be_bytes());
        }
    }
    header
}

/// Returns the first frame, or nothing while it is not whole.
pub(crate) fn first_frame(bytes: &[u8]) -> Result<Option<Frame<'_>>, FrameError> {
    let [first, second, rest @ ..] = bytes else { return Ok(None) };
    let opcode = first & 0x0F;
    if *first != FINAL | opcode || second & MASKED != 0 || opcode == 0 {
        return Err(FrameError::Unexpected);
    }
    let (len, rest) = match second {
        126 => match rest.split_first_chunk() {
            Some((len, rest)) => (usize::from(u16::from_be_bytes(*len)), rest),
            None => return Ok(None),
        },
        127 => match rest.split_first_chunk() {
            Some((len, rest)) => (u64::from_be_bytes(*len) as usize, rest),
            None => return Ok(None),
        },
        short => (usize::from(*short), rest),
    };
    let Some(payload) = rest.get(..len) else { return Ok(None) };
    Ok(Some(Frame { opcode, payload, len: bytes.len() - rest.len() + len }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_a_server_writes_whole_and_in_pieces() {
        for len in [0, 1, 125, 126, 65_535, 65_536] {
            let text = "x".repeat(len);
            let mut bytes = server_text_frame(&text);
            let frame_len = bytes.len();
            bytes.extend_from_slice(b"\x81\x01");

            let frame = first_frame(&bytes).unwrap().unwrap();

            assert_eq!(
                (frame.opcode, frame.payload, frame.len),
                (TEXT, text.as_bytes(), frame_len)
            );
            for cut in 0..frame_len {
                assert_eq!(first_frame(&bytes[..cut]), Ok(None), "{cut} of {frame_len}");
            }
        }
    }

    #[test]
    fn masks_what_it_sends() {
        assert_eq!(text_frame("hi"), [0x81, 0x82, 0, 0, 0, 0, b'h', b'i']);
    }

    #[test]
    fn refuses_what_no_server_may_send() {
        for bytes in [[0x01, 0x00], [0x81, 0x80], [0xC1, 0x00], [0x80, 0x00]] {
            assert_eq!(first_frame(&bytes), Err(FrameError::Unexpected), "{bytes:?}");
        }
    }
}
