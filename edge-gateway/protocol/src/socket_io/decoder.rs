//! Decodes what a client may send.

use std::borrow::Cow;

use bytes::Bytes;

use crate::event_name::{self, BadName, EVENT_NAME_BYTES_MAX};
use crate::json::{Cursor, NotJson};
use crate::placeholders::{self, BadPlaceholder};

/// Longest namespace, with its slash and its query.
pub const NAMESPACE_BYTES_MAX: usize = 512;

/// Most attachments that one packet may have: as many as the clients of the reference
/// implementation take.
pub const ATTACHMENTS_MAX: usize = 10;

/// Names that a client of the reference implementation uses for itself; from the wire they would
/// pass for its own events.
const RESERVED_EVENTS: [&str; 6] =
    ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"];

/// A packet of the client.
///
/// Arguments are JSON text without the brackets of the array that they stand in on the wire:
/// `1,{"a":2}`, or an empty string. They have been checked to be JSON, and are otherwise as the
/// client wrote them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet<'a> {
    /// `0` enters a namespace.
    Connect {
        /// The namespace.
        namespace: &'a str,
        /// JSON text of an object.
        auth: Option<&'a str>,
    },
    /// `1` leaves a namespace.
    Disconnect {
        /// The namespace.
        namespace: &'a str,
    },
    /// `2` is an event, or `5` if it has attachments.
    Event {
        /// The namespace.
        namespace: &'a str,
        /// Present if the client wants to be answered.
        ack_id: Option<u64>,
        /// What the event is called. Numbers are legal names; they are here as they were written.
        name: Cow<'a, str>,
        /// What follows the name.
        args: &'a str,
        /// What the placeholders in `args` stand for.
        attachments: &'a [Bytes],
    },
    /// `2` without a payload: the reference server takes it and does nothing.
    EmptyEvent {
        /// The namespace.
        namespace: &'a str,
    },
    /// `3` answers an event of ours, or `6` if the answer has attachments.
    Ack {
        /// The namespace.
        namespace: &'a str,
        /// Which event.
        ack_id: u64,
        /// The answer.
        args: &'a str,
        /// What the placeholders in `args` stand for.
        attachments: &'a [Bytes],
    },
    /// `3` without an ack id: the reference server takes it and does nothing.
    UnaddressedAck {
        /// The namespace.
        namespace: &'a str,
    },
    /// The text of `5` or `6`, whose attachments are still to come. An
    /// [`Assembler`](super::Assembler) keeps it until they are there.
    Incomplete {
        /// The namespace.
        namespace: &'a str,
    },
}

impl<'a> Packet<'a> {
    /// Decodes the text of an Engine.IO message that is a whole packet. Where binary packets are
    /// taken, an [`Assembler`](super::Assembler) does this. Each argument may be nested up to
    /// `json_depth_max` levels.
    ///
    /// # Errors
    ///
    /// Why the text is no packet that a client may send. The connection is to be closed.
    pub fn decode(text: &'a str, json_depth_max: usize) -> Result<Self, DecodePacketError> {
        let mut rest = text.chars();
        let packet_type = rest.next().ok_or(DecodePacketError::Empty)?;
        let (namespace, rest) = split_namespace(rest.as_str())?;
        let (digits, payload) = split_digits(rest);
        match packet_type {
            '0' => Ok(Self::Connect { namespace, auth: decode_auth(payload, json_depth_max)? }),
            '1' if payload.is_empty() => Ok(Self::Disconnect { namespace }),
            '1' => Err(DecodePacketError::BadPayload),
            '2' if payload.is_empty() => Ok(Self::EmptyEvent { namespace }),
            '2' => {
                let ack_id = decode_ack_id(digits)?;
                let (name, args) = decode_event(payload, json_depth_max)?;
                Ok(Self::Event { namespace, ack_id, name, args, attachments: &[] })
            }
            '3' => {
                let args = decode_ack(payload, json_depth_max)?;
                match decode_ack_id(digits)? {
                    Some(ack_id) => Ok(Self::Ack { namespace, ack_id, args, attachments: &[] }),
                    None => Ok(Self::UnaddressedAck { namespace }),
                }
            }
            '4' => Err(DecodePacketError::ConnectErrorFromClient),
            '5' | '6' => Err(DecodePacketError::AttachmentsMissing),
            _ => Err(DecodePacketError::UnknownType),
        }
    }
}

/// The text of a binary packet, checked and taken apart.
#[derive(Debug)]
pub(super) struct BinaryText<'a> {
    pub(super) attachment_count: usize,
    pub(super) namespace: &'a str,
    pub(super) kind: BinaryKind<'a>,
    pub(super) args: &'a str,
}

#[derive(Debug)]
pub(super) enum BinaryKind<'a> {
    Event { ack_id: Option<u64>, name: Cow<'a, str> },
    Ack { ack_id: u64 },
}

impl<'a> BinaryText<'a> {
    /// Decodes the text of an Engine.IO message; `None` if it is not that of a binary packet.
    pub(super) fn decode(
        text: &'a str,
        json_depth_max: usize,
    ) -> Result<Option<Self>, DecodePacketError> {
        let (is_event, rest) = match (text.strip_prefix('5'), text.strip_prefix('6')) {
            (Some(rest), _) => (true, rest),
            (None, Some(rest)) => (false, rest),
            (None, None) => return Ok(None),
        };
        let (attachment_count, rest) = split_attachment_count(rest)?;
        let (namespace, rest) = split_namespace(rest)?;
        let (digits, payload) = split_digits(rest);
        let ack_id = decode_ack_id(digits)?;
        let (kind, args) = if is_event {
            let (name, args) = decode_event(payload, json_depth_max)?;
            (BinaryKind::Event { ack_id, name }, args)
        } else {
            let args = decode_ack(payload, json_depth_max)?;
            (BinaryKind::Ack { ack_id: ack_id.ok_or(DecodePacketError::BadAckId)? }, args)
        };
        placeholders::check(args, attachment_count)?;
        Ok(Some(Self { attachment_count, namespace, kind, args }))
    }
}

/// Why a text is no Socket.IO packet that a client may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodePacketError {
    /// There is not even a packet type.
    #[error("packet is empty")]
    Empty,
    /// The type is none of the seven.
    #[error("packet type is unknown")]
    UnknownType,
    /// The text of a binary packet, where only whole packets are taken.
    #[error("packet lacks its attachments")]
    AttachmentsMissing,
    /// The number of attachments is missing, zero or above [`ATTACHMENTS_MAX`].
    #[error("number of attachments is out of range")]
    BadAttachmentCount,
    /// A placeholder stands for none of the attachments.
    #[error("placeholder stands for no attachment")]
    BadPlaceholder,
    /// Only a server refuses to connect.
    #[error("connect error came from the client")]
    ConnectErrorFromClient,
    /// The namespace is longer than [`NAMESPACE_BYTES_MAX`].
    #[error("namespace is too long")]
    BadNamespace,
    /// The ack id does not fit into 64 bits, or is missing where attachments answer an event.
    #[error("ack id is missing or too large")]
    BadAckId,
    /// The payload is not JSON, or not of the kind that the packet type calls for.
    #[error("payload does not fit the packet")]
    BadPayload,
    /// An argument is nested more deeply than we take.
    #[error("json is nested too deeply")]
    TooDeep,
    /// The event has a name that clients keep for themselves.
    #[error("event name is reserved")]
    ReservedEvent,
    /// The name is longer than [`EVENT_NAME_BYTES_MAX`].
    #[error("event name is too long")]
    EventNameTooLong,
    /// The name holds half of a surrogate pair.
    #[error("event name is not unicode")]
    EventNameNotUnicode,
}

impl From<NotJson> for DecodePacketError {
    fn from(_: NotJson) -> Self {
        Self::BadPayload
    }
}

impl From<BadPlaceholder> for DecodePacketError {
    fn from(_: BadPlaceholder) -> Self {
        Self::BadPlaceholder
    }
}

impl From<BadName> for DecodePacketError {
    fn from(bad: BadName) -> Self {
        match bad {
            BadName::TooLong => Self::EventNameTooLong,
            BadName::NotUnicode => Self::EventNameNotUnicode,
        }
    }
}

/// Splits off `1-`.
fn split_attachment_count(text: &str) -> Result<(usize, &str), DecodePacketError> {
    let (digits, rest) = split_digits(text);
    let rest = rest.strip_prefix('-').ok_or(DecodePacketError::BadAttachmentCount)?;
    match digits.parse() {
        Ok(count @ 1..=ATTACHMENTS_MAX) => Ok((count, rest)),
        Ok(_) | Err(_) => Err(DecodePacketError::BadAttachmentCount),
    }
}

/// Splits off `/name,`. The comma may be missing at the end of the text, the whole for `/`.
fn split_namespace(text: &str) -> Result<(&str, &str), DecodePacketError> {
    if !text.starts_with('/') {
        return Ok(("/", text));
    }
    let (namespace, rest) = text.split_once(',').unwrap_or((text, ""));
    if namespace.len() > NAMESPACE_BYTES_MAX {
        return Err(DecodePacketError::BadNamespace);
    }
    Ok((namespace, rest))
}

fn split_digits(text: &str) -> (&str, &str) {
    let after_digits = text.trim_start_matches(|c: char| c.is_ascii_digit());
    text.split_at_checked(text.len().saturating_sub(after_digits.len())).unwrap_or(("", text))
}

fn decode_ack_id(digits: &str) -> Result<Option<u64>, DecodePacketError> {
    if digits.is_empty() {
        return Ok(None);
    }
    digits.parse().map(Some).map_err(|_| DecodePacketError::BadAckId)
}

fn decode_auth(payload: &str, json_depth_max: usize) -> Result<Option<&str>, DecodePacketError> {
    if payload.is_empty() {
        return Ok(None);
    }
    let mut cursor = Cursor::new(payload.as_bytes());
    if cursor.peek() != Some(b'{') {
        return Err(DecodePacketError::BadPayload);
    }
    let object = cursor.value()?;
    end_within(&mut cursor, json_depth_max)?;
    Ok(payload.get(object))
}

fn decode_event(
    payload: &str,
    json_depth_max: usize,
) -> Result<(Cow<'_, str>, &str), DecodePacketError> {
    let mut cursor = Cursor::new(payload.as_bytes());
    cursor.expect(b'[')?;
    let name = match cursor.peek() {
        Some(b'"') => event_name::resolve(&cursor.string()?, payload)?,
        Some(b'-' | b'0'..=b'9') => {
            let number = payload.get(cursor.value()?).unwrap_or_default();
            if number.len() > EVENT_NAME_BYTES_MAX {
                return Err(DecodePacketError::EventNameTooLong);
            }
            Cow::Borrowed(number)
        }
        _ => return Err(DecodePacketError::BadPayload),
    };
    if RESERVED_EVENTS.contains(&name.as_ref()) {
        return Err(DecodePacketError::ReservedEvent);
    }
    let args = if cursor.take(b',') {
        cursor.elements()?
    } else {
        cursor.expect(b']')?;
        0..0
    };
    end_within(&mut cursor, json_depth_max)?;
    Ok((name, payload.get(args).unwrap_or_default()))
}

fn decode_ack(payload: &str, json_depth_max: usize) -> Result<&str, DecodePacketError> {
    if payload.is_empty() {
        return Ok("");
    }
    let mut cursor = Cursor::new(payload.as_bytes());
    cursor.expect(b'[')?;
    let args = if cursor.take(b']') { 0..0 } else { cursor.elements()? };
    end_within(&mut cursor, json_depth_max)?;
    Ok(payload.get(args).unwrap_or_default())
}

/// Fails unless nothing is left, and nothing was nested more deeply than we take.
fn end_within(cursor: &mut Cursor<'_>, json_depth_max: usize) -> Result<(), DecodePacketError> {
    cursor.end()?;
    if cursor.depth() > json_depth_max { Err(DecodePacketError::TooDeep) } else { Ok(()) }
}
