//! Turns the bytes of a client into WebSocket messages, in place.

use std::str;

use super::{
    CONTROL_PAYLOAD_BYTES_MAX, FINAL, LENGTH, MASKED, OPCODE, Opcode, RESERVED,
    partial_text::{PartialText, cut_character},
};

/// Most frames of one message that are smaller than [`SMALL_FRAGMENT_BYTES`]. Without it a client
/// could keep a message open for ever with empty fragments, which no bound on bytes ends.
pub const SMALL_FRAGMENTS_MAX: u32 = 1024;

/// A fragment of so many bytes is bounded by what a message may have.
pub const SMALL_FRAGMENT_BYTES: usize = 64;

pub(super) const MASK_BYTES: usize = 4;

/// A message of the client, or a control frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message<'a> {
    /// A text message.
    Text(&'a str),
    /// A binary message.
    Binary(&'a [u8]),
    /// A ping, to be answered with a pong of the same payload.
    Ping(&'a [u8]),
    /// A pong.
    Pong(&'a [u8]),
    /// The client closes, with its code if it gave one. Nothing follows.
    Close(Option<u16>),
}

/// What the beginning of the input turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub enum Decoded<'a> {
    /// The input holds only part of a frame.
    Incomplete {
        /// Bytes the input must hold before another call can tell more: the whole frame if its
        /// length is known, as much of its header as says the length otherwise.
        needed: usize,
    },
    /// The input begins with a whole frame.
    Frame {
        /// Bytes of the input that made up the frame.
        consumed: usize,
        /// The message that the frame completes; `None` after a fragment that is not the last.
        message: Option<Message<'a>>,
    },
}

/// Decodes the frames of one client.
///
/// Between calls it keeps nothing but the beginning of a fragmented message, and what it knows of a
/// text that has arrived in part; both are rare, and an idle decoder is one null pointer. Call
/// [`decode`](Self::decode) until it answers [`Decoded::Incomplete`]: a message that came in
/// fragments lives in the decoder, and the next call, even with an empty input, gives its memory
/// back.
#[derive(Debug, Default)]
pub struct Decoder {
    unfinished: Option<Box<Unfinished>>,
}

#[derive(Debug, Default)]
struct Unfinished {
    fragmented: Option<Fragmented>,
    /// What is known of the frame at the beginning of the input, a text that has arrived in part.
    partial: Option<PartialText>,
}

#[derive(Debug)]
struct Fragmented {
    is_text: bool,
    /// The caller has seen the whole message; only its borrow kept it here.
    is_delivered: bool,
    small_count: u32,
    payload: Vec<u8>,
    /// How much of a text is known to be UTF-8. The rest is at most one cut-off character.
    checked_len: usize,
}

impl Decoder {
    /// Decodes the frame at the beginning of `input` and unmasks it in place, so bytes that were
    /// consumed must not be given again. After [`Decoded::Incomplete`] the next input must begin
    /// with this one.
    ///
    /// `payload_bytes_max` bounds a message with all its fragments. It is checked as soon as a
    /// header has told the length, before the payload is there; so no call asks for more than a
    /// header and `payload_bytes_max` bytes.
    ///
    /// # Errors
    ///
    /// What the client did wrong. The connection is to be closed with
    /// [`DecodeFrameError::close_code`]; the decoder must not be used again.
    pub fn decode<'a>(
        &'a mut self,
        input: &'a mut [u8],
        payload_bytes_max: usize,
    ) -> Result<Decoded<'a>, DecodeFrameError> {
        self.unfinished.take_if(|unfinished| {
            unfinished.fragmented.as_ref().is_some_and(|message| message.is_delivered)
        });

        let header = match Header::read(input)? {
            HeaderRead::Whole(header) => header,
            HeaderRead::Part { needed } => return Ok(Decoded::Incomplete { needed }),
        };
        self.check_order(header)?;
        if !header.opcode.is_control() {
            let before = self.fragmented().map_or(0, |message| message.payload.len());
            if header.payload_len > payload_bytes_max.saturating_sub(before) {
                return Err(DecodeFrameError::TooLarge);
            }
        }

        let payload_at = header.len.saturating_add(MASK_BYTES);
        let consumed = payload_at.saturating_add(header.payload_len);
        if input.len() < consumed {
            self.check_partial(header, input.get(header.len..).unwrap_or_default())?;
            return Ok(Decoded::Incomplete { needed: consumed });
        }
        let Some((mask, payload)) = input
            .get_mut(header.len..consumed)
            .and_then(|masked| masked.split_first_chunk_mut::<MASK_BYTES>())
        else {
            return Ok(Decoded::Incomplete { needed: consumed });
        };
        unmask(*mask, payload);

        let message = self.take_payload(header, payload)?;
        Ok(Decoded::Frame { consumed, message })
    }

    fn fragmented(&self) -> Option<&Fragmented> {
        self.unfinished.as_ref()?.fragmented.as_ref()
    }

    /// Refuses a text that is no UTF-8 as far as its frame has arrived, which may be long before the
    /// rest of it does. `arrived` begins with the masking key.
    fn check_partial(&mut self, header: Header, arrived: &[u8]) -> Result<(), DecodeFrameError> {
        let is_text = match header.opcode {
            Opcode::Text => true,
            Opcode::Continuation => self.fragmented().is_some_and(|message| message.is_text),
            Opcode::Binary | Opcode::Close | Opcode::Ping | Opcode::Pong => false,
        };
        let Some((mask, masked)) = arrived.split_first_chunk::<MASK_BYTES>().filter(|_| is_text)
        else {
            return Ok(());
        };
        if masked.is_empty() {
            return Ok(());
        }
        let Unfinished { fragmented, partial } = &mut **self.unfinished.get_or_insert_default();
        let unchecked = fragmented.as_ref().map_or(&[][..], Fragmented::unchecked);
        partial.get_or_insert_with(|| PartialText::after(unchecked)).check(*mask, masked)
    }

    /// Refuses a fragment out of order (RFC 6455 §5.4).
    fn check_order(&self, header: Header) -> Result<(), DecodeFrameError> {
        match (header.opcode, self.fragmented()) {
            (Opcode::Continuation, None) => Err(DecodeFrameError::UnexpectedContinuation),
            (Opcode::Text | Opcode::Binary, Some(_)) => Err(DecodeFrameError::ExpectedContinuation),
            (Opcode::Continuation, Some(message))
                if header.is_small() && message.small_count >= SMALL_FRAGMENTS_MAX =>
            {
                Err(DecodeFrameError::TooManyFragments)
            }
            (Opcode::Continuation, Some(_))
            | (Opcode::Text | Opcode::Binary, None)
            | (Opcode::Close | Opcode::Ping | Opcode::Pong, _) => Ok(()),
        }
    }

    fn take_payload<'a>(
        &'a mut self,
        header: Header,
        payload: &'a [u8],
    ) -> Result<Option<Message<'a>>, DecodeFrameError> {
        let message = match header.opcode {
            Opcode::Text if header.is_final => {
                self.unfinished = None;
                Message::Text(text(payload)?)
            }
            Opcode::Binary if header.is_final => Message::Binary(payload),
            Opcode::Text | Opcode::Binary => {
                let mut message = Fragmented::new(header.opcode == Opcode::Text);
                message.append(payload)?;
                let fragmented = Some(message);
                self.unfinished = Some(Box::new(Unfinished { fragmented, partial: None }));
                return Ok(None);
            }
            Opcode::Continuation => {
                let Some(Unfinished { fragmented: Some(message), partial }) =
                    self.unfinished.as_deref_mut()
                else {
                    return Err(DecodeFrameError::UnexpectedContinuation);
                };
                *partial = None;
                message.append(payload)?;
                if !header.is_final {
                    return Ok(None);
                }
                message.deliver()?
            }
            Opcode::Ping => Message::Ping(payload),
            Opcode::Pong => Message::Pong(payload),
            Opcode::Close => Message::Close(close_code(payload)?),
        };
        Ok(Some(message))
    }
}

impl Fragmented {
    const fn new(is_text: bool) -> Self {
        Self { is_text, is_delivered: false, small_count: 0, payload: Vec::new(), checked_len: 0 }
    }

    /// Adds a fragment. A text that is no UTF-8 is refused here, not only at its end, so that a
    /// client cannot go on sending what will be refused anyway.
    fn append(&mut self, fragment: &[u8]) -> Result<(), DecodeFrameError> {
        if fragment.len() < SMALL_FRAGMENT_BYTES {
            self.small_count = self.small_count.saturating_add(1);
        }
        self.payload.extend_from_slice(fragment);
        if !self.is_text {
            return Ok(());
        }
        let cut_len = cut_character(self.unchecked())?.len();
        self.checked_len = self.payload.len().saturating_sub(cut_len);
        Ok(())
    }

    fn unchecked(&self) -> &[u8] {
        self.payload.get(self.checked_len..).unwrap_or_default()
    }

    fn deliver(&mut self) -> Result<Message<'_>, DecodeFrameError> {
        self.is_delivered = true;
        if self.is_text {
            Ok(Message::Text(text(&self.payload)?))
        } else {
            Ok(Message::Binary(&self.payload))
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Header {
    is_final: bool,
    opcode: Opcode,
    payload_len: usize,
    /// Bytes before the masking key.
    len: usize,
}

enum HeaderRead {
    Whole(Header),
    Part { needed: usize },
}

impl Header {
    const fn is_small(self) -> bool {
        self.payload_len < SMALL_FRAGMENT_BYTES
    }

    /// Reads a header up to its masking key (RFC 6455 §5.2), refusing it as early as possible.
    fn read(input: &[u8]) -> Result<HeaderRead, DecodeFrameError> {
        let Some((&[first, second], rest)) = input.split_first_chunk::<2>() else {
            return Ok(HeaderRead::Part { needed: 2 });
        };
        if first & RESERVED != 0 {
            return Err(DecodeFrameError::ReservedBits);
        }
        let opcode = Opcode::from_bits(first & OPCODE).ok_or(DecodeFrameError::UnknownOpcode)?;
        let is_final = first & FINAL != 0;
        if opcode.is_control() && !is_final {
            return Err(DecodeFrameError::ControlFragmented);
        }
        if opcode.is_control() && usize::from(second & LENGTH) > CONTROL_PAYLOAD_BYTES_MAX {
            return Err(DecodeFrameError::ControlTooLong);
        }
        if second & MASKED == 0 {
            return Err(DecodeFrameError::Unmasked);
        }

        let (payload_len, shortest, len) = match second & LENGTH {
            126 => match rest.first_chunk::<2>() {
                Some(&bytes) => (u64::from(u16::from_be_bytes(bytes)), 126, 4),
                None => return Ok(HeaderRead::Part { needed: 4 }),
            },
            127 => match rest.first_chunk::<8>() {
                Some(&bytes) => (u64::from_be_bytes(bytes), 0x1_0000, 10),
                None => return Ok(HeaderRead::Part { needed: 10 }),
            },
            length => (u64::from(length), 0, 2),
        };
        if payload_len < shortest {
            return Err(DecodeFrameError::NonMinimalLength);
        }
        let payload_len = usize::try_from(payload_len).map_err(|_| DecodeFrameError::TooLarge)?;
        Ok(HeaderRead::Whole(Self { is_final, opcode, payload_len, len }))
    }
}

/// What a client did against RFC 6455, or beyond our limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeFrameError {
    /// A client must mask every frame (§5.1).
    #[error("frame is not masked")]
    Unmasked,
    /// A reserved bit is set, though no extension was agreed on (§5.2).
    #[error("reserved bit is set")]
    ReservedBits,
    /// The opcode is none of the six (§5.2).
    #[error("opcode is unknown")]
    UnknownOpcode,
    /// A control frame has more than [`CONTROL_PAYLOAD_BYTES_MAX`] bytes (§5.5).
    #[error("control frame is too long")]
    ControlTooLong,
    /// A control frame is not final (§5.5).
    #[error("control frame is fragmented")]
    ControlFragmented,
    /// A continuation without a message to continue (§5.4).
    #[error("continuation of no message")]
    UnexpectedContinuation,
    /// A new message before the last fragment of the current one (§5.4).
    #[error("new message inside of a fragmented one")]
    ExpectedContinuation,
    /// The length is not written in the shortest form (§5.2).
    #[error("length is not in its shortest form")]
    NonMinimalLength,
    /// A close frame whose payload is one byte or begins with a code that must not be sent (§7.4).
    #[error("close frame is malformed")]
    BadClose,
    /// A text, or the reason in a close frame, is not UTF-8 (§8.1).
    #[error("text is not utf-8")]
    InvalidUtf8,
    /// The message has more bytes than we take.
    #[error("message is too large")]
    TooLarge,
    /// The message has more than [`SMALL_FRAGMENTS_MAX`] frames that are small.
    #[error("message has too many fragments")]
    TooManyFragments,
}

impl DecodeFrameError {
    /// Code of the close frame to answer with (RFC 6455 §7.4.1).
    pub const fn close_code(self) -> u16 {
        match self {
            Self::Unmasked
            | Self::ReservedBits
            | Self::UnknownOpcode
            | Self::ControlTooLong
            | Self::ControlFragmented
            | Self::UnexpectedContinuation
            | Self::ExpectedContinuation
            | Self::NonMinimalLength
            | Self::BadClose => 1002,
            Self::InvalidUtf8 => 1007,
            Self::TooManyFragments => 1008,
            Self::TooLarge => 1009,
        }
    }
}

/// Undoes the masking (RFC 6455 §5.3), in blocks that the compiler turns into wide operations.
pub(super) fn unmask(mask: [u8; MASK_BYTES], payload: &mut [u8]) {
    let mask = [mask; 4];
    let (blocks, rest) = payload.as_chunks_mut::<16>();
    for block in blocks {
        for (byte, key) in block.iter_mut().zip(mask.as_flattened()) {
            *byte ^= key;
        }
    }
    for (byte, key) in rest.iter_mut().zip(mask.as_flattened()) {
        *byte ^= key;
    }
}

fn text(payload: &[u8]) -> Result<&str, DecodeFrameError> {
    str::from_utf8(payload).map_err(|_| DecodeFrameError::InvalidUtf8)
}

fn close_code(payload: &[u8]) -> Result<Option<u16>, DecodeFrameError> {
    let Some((&code, reason)) = payload.split_first_chunk::<2>() else {
        return if payload.is_empty() { Ok(None) } else { Err(DecodeFrameError::BadClose) };
    };
    match u16::from_be_bytes(code) {
        // What is registered for use on the wire, and the ranges for libraries and applications.
        code @ (1000..=1003 | 1007..=1014 | 3000..=4999) => {
            text(reason)?;
            Ok(Some(code))
        }
        _ => Err(DecodeFrameError::BadClose),
    }
}
