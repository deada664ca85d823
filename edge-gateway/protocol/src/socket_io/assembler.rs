//! Puts binary packets together: their text and the attachments that follow it.

use std::borrow::Cow;

use bytes::Bytes;

use super::decoder::{BinaryKind, BinaryText};
use super::{DecodePacketError, Packet};
use crate::MessageBounds;

/// Turns the messages of one session into packets, text or binary.
///
/// ```text
///  text ──► packet
///  text of a binary packet ──► Incomplete ──► attachment ──► … ──► attachment ──► packet
/// ```
///
/// Between packets it keeps nothing and is one null pointer. How long a client may take for its
/// attachments is for the caller to bound; see [`is_idle`](Self::is_idle).
#[derive(Debug, Default)]
pub struct Assembler {
    unfinished: Option<Box<Unfinished>>,
}

#[derive(Debug)]
struct Unfinished {
    packet: BinaryPacket,
    attachment_count: usize,
    /// What its attachments may still add to the packet.
    bytes_left: usize,
}

impl Assembler {
    /// Takes the text of an Engine.IO message. That of a binary packet is checked at once, and
    /// answered with [`Packet::Incomplete`].
    ///
    /// The bytes of `bounds` are those of a binary packet, its text and its attachments together.
    ///
    /// # Errors
    ///
    /// What the client did wrong. The connection is to be closed; an unfinished packet is forgotten.
    pub fn text<'a>(
        &mut self,
        text: &'a str,
        bounds: MessageBounds,
    ) -> Result<Packet<'a>, AssembleError> {
        if self.unfinished.take().is_some() {
            return Err(AssembleError::AttachmentExpected);
        }
        let Some(binary) = BinaryText::decode(text, bounds.json_depth_max)? else {
            return Ok(Packet::decode(text, bounds.json_depth_max)?);
        };
        let bytes_left = bounds.bytes_max.checked_sub(text.len()).ok_or(AssembleError::TooLarge)?;
        let namespace = binary.namespace;
        self.unfinished = Some(Box::new(Unfinished {
            attachment_count: binary.attachment_count,
            bytes_left,
            packet: binary.into(),
        }));
        Ok(Packet::Incomplete { namespace })
    }

    /// Takes a binary Engine.IO message, an attachment. Returns the packet if it was the last one.
    ///
    /// # Errors
    ///
    /// What the client did wrong. The connection is to be closed; an unfinished packet is forgotten.
    pub fn binary(&mut self, attachment: Bytes) -> Result<Option<BinaryPacket>, AssembleError> {
        let mut unfinished = self.unfinished.take().ok_or(AssembleError::AttachmentUnexpected)?;
        unfinished.bytes_left =
            unfinished.bytes_left.checked_sub(attachment.len()).ok_or(AssembleError::TooLarge)?;
        unfinished.packet.attachments.push(attachment);
        if unfinished.packet.attachments.len() < unfinished.attachment_count {
            self.unfinished = Some(unfinished);
            return Ok(None);
        }
        Ok(Some(unfinished.packet))
    }

    /// Returns whether no packet waits for attachments.
    pub const fn is_idle(&self) -> bool {
        self.unfinished.is_none()
    }
}

/// An event or an ack with its attachments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BinaryPacket {
    namespace: Box<str>,
    kind: Kind,
    args: Box<str>,
    attachments: Vec<Bytes>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Event { ack_id: Option<u64>, name: Box<str> },
    Ack { ack_id: u64 },
}

impl BinaryPacket {
    /// Returns the packet, a [`Packet::Event`] or a [`Packet::Ack`].
    pub fn packet(&self) -> Packet<'_> {
        let Self { namespace, kind, args, attachments } = self;
        match kind {
            Kind::Event { ack_id, name } => Packet::Event {
                namespace,
                ack_id: *ack_id,
                name: Cow::Borrowed(name),
                args,
                attachments,
            },
            Kind::Ack { ack_id } => Packet::Ack { namespace, ack_id: *ack_id, args, attachments },
        }
    }
}

impl From<BinaryText<'_>> for BinaryPacket {
    fn from(text: BinaryText<'_>) -> Self {
        Self {
            namespace: text.namespace.into(),
            kind: match text.kind {
                BinaryKind::Event { ack_id, name } => Kind::Event { ack_id, name: name.into() },
                BinaryKind::Ack { ack_id } => Kind::Ack { ack_id },
            },
            args: text.args.into(),
            attachments: Vec::with_capacity(text.attachment_count),
        }
    }
}

/// Why messages make no packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AssembleError {
    /// A text is no packet.
    #[error("message is no packet")]
    Packet(#[from] DecodePacketError),
    /// A text came where an attachment had been announced.
    #[error("text came in place of an attachment")]
    AttachmentExpected,
    /// A binary message came that no packet had announced.
    #[error("attachment belongs to no packet")]
    AttachmentUnexpected,
    /// The text of a packet and its attachments have more bytes than we take.
    #[error("packet is too large with its attachments")]
    TooLarge,
}
