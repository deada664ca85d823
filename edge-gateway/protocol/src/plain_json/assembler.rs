//! Puts messages together: their text and the attachments that follow it.

use std::borrow::Cow;

use bytes::Bytes;

use super::decoder::{Content, Head};
use super::{Answer, DecodeMessageError, Message, Refusal, Request};
use crate::MessageBounds;

/// Turns the frames of one connection into messages.
///
/// ```text
///  text ──► message
///  text that announces attachments ──► Incomplete ──► attachment ──► … ──► attachment ──► message
///                                  └─► refusal    ──► attachment ──► … ──► attachment ──► nothing
/// ```
///
/// The attachments of a refused message are skipped, so that the client is understood again behind
/// them. Between messages it keeps nothing and is one null pointer. How long a client may take for
/// its attachments is for the caller to bound; see [`is_idle`](Self::is_idle).
#[derive(Debug, Default)]
pub struct Assembler {
    unfinished: Option<Box<Unfinished>>,
}

#[derive(Debug)]
struct Unfinished {
    /// None if it was refused.
    message: Option<BinaryMessage>,
    attachments_left: usize,
    bytes_left: usize,
}

impl Assembler {
    /// Takes a text. One that announces attachments is checked at once, and answered with
    /// [`Message::Incomplete`].
    ///
    /// The bytes of `bounds` are those of a message, its text and its attachments together.
    ///
    /// # Errors
    ///
    /// What the client is to be told.
    pub fn text<'a>(
        &mut self,
        text: &'a str,
        bounds: MessageBounds,
    ) -> Result<Message<'a>, Refusal<'a>> {
        if let Some(refusal) = self.give_up() {
            return Err(refusal);
        }
        let Head { content, id, attachment_count } = Head::decode(text, bounds.json_depth_max);
        let refusal = |error| Refusal { id: id.map(Cow::Borrowed), error };
        if attachment_count == 0 {
            return match content.map_err(refusal)? {
                Content::Request { event, data } => {
                    Ok(Message::Request(Request { event, data, id, attachments: &[] }))
                }
                Content::Answer { id, arg } => {
                    Ok(Message::Answer(Answer { id, arg, attachments: &[] }))
                }
            };
        }
        let bytes_left = bounds
            .bytes_max
            .checked_sub(text.len())
            .ok_or_else(|| refusal(DecodeMessageError::TooLarge))?;
        let (message, outcome) = match content {
            Ok(content) => {
                let message = BinaryMessage::new(content, id, attachment_count);
                (Some(message), Ok(Message::Incomplete { id }))
            }
            Err(error) => (None, Err(refusal(error))),
        };
        let unfinished = Unfinished { message, attachments_left: attachment_count, bytes_left };
        self.unfinished = Some(Box::new(unfinished));
        outcome
    }

    /// Takes an attachment. Returns the message if it was the last one.
    ///
    /// # Errors
    ///
    /// What the client is to be told.
    pub fn binary(&mut self, attachment: Bytes) -> Result<Option<BinaryMessage>, Refusal<'static>> {
        let Some(mut unfinished) = self.unfinished.take() else {
            return Err(Refusal { id: None, error: DecodeMessageError::AttachmentUnexpected });
        };
        let Some(bytes_left) = unfinished.bytes_left.checked_sub(attachment.len()) else {
            return Err(unfinished.refusal(DecodeMessageError::TooLarge));
        };
        unfinished.bytes_left = bytes_left;
        unfinished.attachments_left = unfinished.attachments_left.saturating_sub(1);
        if let Some(message) = &mut unfinished.message {
            message.attachments.push(attachment);
        }
        if unfinished.attachments_left == 0 {
            return Ok(unfinished.message);
        }
        self.unfinished = Some(unfinished);
        Ok(None)
    }

    /// Gives up the message that waits for attachments, if there is one.
    pub fn give_up(&mut self) -> Option<Refusal<'static>> {
        let unfinished = self.unfinished.take()?;
        Some(unfinished.refusal(DecodeMessageError::AttachmentMissing))
    }

    /// Returns whether no message waits for attachments.
    pub const fn is_idle(&self) -> bool {
        self.unfinished.is_none()
    }
}

impl Unfinished {
    fn refusal(self, error: DecodeMessageError) -> Refusal<'static> {
        let id = self.message.and_then(|message| match message.kind {
            Kind::Request { id, .. } => id,
            Kind::Answer { .. } => None,
        });
        Refusal { id: id.map(|id| Cow::Owned(id.into())), error }
    }
}

/// A message with its attachments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BinaryMessage {
    kind: Kind,
    attachments: Vec<Bytes>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Request { event: Box<str>, data: Option<Box<str>>, id: Option<Box<str>> },
    Answer { id: u64, arg: Box<str> },
}

impl BinaryMessage {
    fn new(content: Content<'_>, id: Option<&str>, attachment_count: usize) -> Self {
        let kind = match content {
            Content::Request { event, data } => Kind::Request {
                event: event.into(),
                data: data.map(Box::from),
                id: id.map(Box::from),
            },
            Content::Answer { id, arg } => Kind::Answer { id, arg: arg.into() },
        };
        Self { kind, attachments: Vec::with_capacity(attachment_count) }
    }

    /// Returns the message, a [`Message::Request`] or a [`Message::Answer`].
    pub fn message(&self) -> Message<'_> {
        let Self { kind, attachments } = self;
        match kind {
            Kind::Request { event, data, id } => Message::Request(Request {
                event: Cow::Borrowed(event),
                data: data.as_deref(),
                id: id.as_deref(),
                attachments,
            }),
            Kind::Answer { id, arg } => {
                Message::Answer(Answer { id: *id, arg: Cow::Borrowed(arg), attachments })
            }
        }
    }
}
