//! What a client does with frames, written from the protocol documents and without our codec: a
//! mistake made twice would hide.

use edge_protocol::MessageBounds;
use edge_protocol::websocket::{DecodeFrameError, Decoded, Decoder, Message};

pub(crate) const CONTINUATION: u8 = 0x0;
pub(crate) const TEXT: u8 = 0x1;
pub(crate) const BINARY: u8 = 0x2;
pub(crate) const CLOSE: u8 = 0x8;
pub(crate) const PING: u8 = 0x9;
pub(crate) const PONG: u8 = 0xA;

/// The masking key in the examples of RFC 6455 §5.7.
pub(crate) const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

pub(crate) const LIMIT: usize = 1_000_000;

/// What the reference parsers would take is nested no deeper in any test but those of this bound.
pub(crate) const JSON_DEPTH_MAX: usize = 64;

pub(crate) const BOUNDS: MessageBounds = bounds(LIMIT);

pub(crate) const fn bounds(bytes_max: usize) -> MessageBounds {
    MessageBounds { bytes_max, json_depth_max: JSON_DEPTH_MAX }
}

/// JSON text of so many arrays and objects in each other.
pub(crate) fn nested(depth: usize) -> String {
    let pairs = depth / 2;
    let innermost = if depth.is_multiple_of(2) { "1" } else { "[]" };
    r#"[{"a":"#.repeat(pairs) + innermost + &"}]".repeat(pairs)
}

/// A message as the server saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Seen {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>),
}

impl From<Message<'_>> for Seen {
    fn from(message: Message<'_>) -> Self {
        match message {
            Message::Text(text) => Self::Text(text.to_owned()),
            Message::Binary(bytes) => Self::Binary(bytes.to_vec()),
            Message::Ping(bytes) => Self::Ping(bytes.to_vec()),
            Message::Pong(bytes) => Self::Pong(bytes.to_vec()),
            Message::Close(code) => Self::Close(code),
        }
    }
}

/// A final, masked frame.
pub(crate) fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    frame_with(0x80 | opcode, MASK, payload)
}

/// A masked frame that is not the last of its message.
pub(crate) fn fragment(opcode: u8, payload: &[u8]) -> Vec<u8> {
    frame_with(opcode, MASK, payload)
}

pub(crate) fn frame_with(first_byte: u8, mask: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let mut frame = header(first_byte, payload.len() as u64);
    frame.extend(mask);
    frame.extend(payload.iter().enumerate().map(|(index, byte)| byte ^ mask[index % 4]));
    frame
}

/// A header up to the masking key.
pub(crate) fn header(first_byte: u8, payload_len: u64) -> Vec<u8> {
    let mut header = vec![first_byte];
    if payload_len < 126 {
        header.push(0x80 + payload_len as u8);
    } else if payload_len < 65_536 {
        header.push(0x80 + 126);
        header.extend((payload_len as u16).to_be_bytes());
    } else {
        header.push(0x80 + 127);
        header.extend(payload_len.to_be_bytes());
    }
    header
}

/// The server's end of a connection: takes bytes as they come and remembers what they meant.
#[derive(Default)]
pub(crate) struct Reader {
    decoder: Decoder,
    buffer: Vec<u8>,
    pub(crate) seen: Vec<Seen>,
}

impl Reader {
    pub(crate) fn read(&mut self, bytes: &[u8], limit: usize) -> Result<(), DecodeFrameError> {
        self.buffer.extend(bytes);
        loop {
            let buffered_len = self.buffer.len();
            match self.decoder.decode(&mut self.buffer, limit)? {
                Decoded::Frame { consumed, message } => {
                    assert!(consumed >= 6 && consumed <= buffered_len);
                    self.seen.extend(message.map(Seen::from));
                    self.buffer.drain(..consumed);
                }
                Decoded::Incomplete { needed } => {
                    assert!(needed > buffered_len);
                    assert!(needed <= limit.max(125) + 14);
                    return Ok(());
                }
            }
        }
    }
}

pub(crate) fn read_all(bytes: &[u8], limit: usize) -> Result<Vec<Seen>, DecodeFrameError> {
    let mut reader = Reader::default();
    reader.read(bytes, limit)?;
    assert!(reader.buffer.is_empty(), "the input ends with a whole frame");
    Ok(reader.seen)
}

/// The text in a whole frame of the server, which must fill its allocation.
pub(crate) fn server_text(frame: Vec<u8>) -> String {
    let (text, attachments) = server_packet(frame);
    assert_eq!(attachments, Vec::<Vec<u8>>::new());
    text
}

/// The text and the attachments in whole frames of the server, which must fill their allocation.
pub(crate) fn server_packet(frames: Vec<u8>) -> (String, Vec<Vec<u8>>) {
    assert_eq!(frames.capacity(), frames.len());
    let mut payloads = server_payloads(&frames.into_boxed_slice()).into_iter();
    let (opcode, text) = payloads.next().unwrap();
    assert_eq!(opcode, TEXT);
    let attachments = payloads.map(|(opcode, attachment)| {
        assert_eq!(opcode, BINARY);
        attachment
    });
    (String::from_utf8(text).unwrap(), attachments.collect())
}

/// The opcodes and payloads of frames of the server, which must be final, unmasked and use the
/// shortest length.
pub(crate) fn server_payloads(mut frames: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut payloads = Vec::new();
    while !frames.is_empty() {
        let (payload_len, header_len) = match frames[1] {
            126 => (u64::from(u16::from_be_bytes([frames[2], frames[3]])), 4),
            127 => (u64::from_be_bytes(frames[2..10].try_into().unwrap()), 10),
            len => (u64::from(len), 2),
        };
        let shortest_header_len = match payload_len {
            0..=125 => 2,
            126..=65_535 => 4,
            65_536.. => 10,
        };
        assert_eq!(frames[0] & 0xF0, 0x80, "final frame without reserved bits");
        assert_eq!(header_len, shortest_header_len);
        let (frame, rest) = frames.split_at(header_len + payload_len as usize);
        payloads.push((frame[0] & 0x0F, frame[header_len..].to_vec()));
        frames = rest;
    }
    payloads
}
