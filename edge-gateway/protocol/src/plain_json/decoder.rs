//! Decodes what a client may send.

use std::borrow::Cow;

use bytes::Bytes;

use super::ATTACHMENTS_MAX;
use crate::event_name::{self, BadName};
use crate::json::{Cursor, NotJson};
use crate::placeholders;

/// Longest `id`, as it is written.
pub const ID_BYTES_MAX: usize = 128;

/// What a client says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message<'a> {
    /// An event.
    Request(Request<'a>),
    /// The answer to an event of ours.
    Answer(Answer<'a>),
    /// A message whose attachments are still to come. An [`Assembler`](super::Assembler) keeps it
    /// until they are there.
    Incomplete {
        /// As in the [`Request`] that it may become.
        id: Option<&'a str>,
    },
}

/// An event of the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request<'a> {
    /// What the event is called.
    pub event: Cow<'a, str>,
    /// JSON text of its argument, as the client wrote it.
    pub data: Option<&'a str>,
    /// JSON text of a string or a number, to be repeated in the answer. Present if the client
    /// wants one.
    pub id: Option<&'a str>,
    /// What the placeholders in `data` stand for.
    pub attachments: &'a [Bytes],
}

/// The answer of the client to an event that asked for one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer<'a> {
    /// Which event.
    pub id: u64,
    /// JSON text of the one argument: the data as the client wrote it, or `{"error":…}`.
    pub arg: Cow<'a, str>,
    /// What the placeholders in `arg` stand for.
    pub attachments: &'a [Bytes],
}

/// A message that is not taken, and where to say so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal<'a> {
    /// The `id` of the request, if it could be read: JSON text.
    pub id: Option<Cow<'a, str>>,
    /// What is wrong with it.
    pub error: DecodeMessageError,
}

/// Why a message is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeMessageError {
    /// The text is not JSON.
    #[error("message is not json")]
    NotJson,
    /// The text is JSON, but not an object.
    #[error("message is not an object")]
    NotAnObject,
    /// There is no `event`, and it is no answer either: that has `data` or `error`, and an `id` as
    /// ours are.
    #[error("event is missing")]
    MissingEvent,
    /// `event` is not a string, or holds half of a surrogate pair.
    #[error("event is not a string")]
    BadEvent,
    /// `event` is longer than [`EVENT_NAME_BYTES_MAX`](super::EVENT_NAME_BYTES_MAX).
    #[error("event name is too long")]
    EventTooLong,
    /// `id` is neither a string nor a number.
    #[error("id is neither a string nor a number")]
    BadId,
    /// `id` is longer than [`ID_BYTES_MAX`].
    #[error("id is too long")]
    IdTooLong,
    /// A member is nested more deeply than we take.
    #[error("json is nested too deeply")]
    TooDeep,
    /// A placeholder stands for none of the attachments.
    #[error("placeholder stands for no attachment")]
    BadPlaceholder,
    /// `attachments` is not a whole number up to [`ATTACHMENTS_MAX`], so that nobody can tell what
    /// the frames behind the message are. The connection is to be closed.
    #[error("number of attachments is out of range")]
    BadAttachmentCount,
    /// A text came in place of an attachment, or none came in time. The connection is to be closed.
    #[error("attachment is missing")]
    AttachmentMissing,
    /// A binary frame came that no message had announced, and that is no JSON.
    #[error("attachment belongs to no message")]
    AttachmentUnexpected,
    /// A message has more bytes with its attachments than we take. The connection is to be closed.
    #[error("message is too large with its attachments")]
    TooLarge,
}

/// The text of a message, and how many attachments follow it.
#[derive(Debug)]
pub(super) struct Head<'a> {
    pub(super) content: Result<Content<'a>, DecodeMessageError>,
    /// Of a request: JSON text. That of an answer is one of ours and stands for nothing the client asked.
    pub(super) id: Option<&'a str>,
    pub(super) attachment_count: usize,
}

#[derive(Debug)]
pub(super) enum Content<'a> {
    Request { event: Cow<'a, str>, data: Option<&'a str> },
    Answer { id: u64, arg: Cow<'a, str> },
}

impl<'a> Head<'a> {
    pub(super) fn decode(text: &'a str, json_depth_max: usize) -> Self {
        let members = match Members::decode(text) {
            Ok(members) => members,
            Err(error) => return Self { content: Err(error), id: None, attachment_count: 0 },
        };
        let id = members.id.map(check_id).transpose();
        let attachment_count = members.attachments.map_or(Ok(0), decode_attachment_count);
        Self {
            id: id.ok().flatten().filter(|id| members.answered_id(id).is_none()),
            attachment_count: attachment_count.unwrap_or_default(),
            content: attachment_count.and_then(|count| {
                let id = id?;
                members.within(json_depth_max)?;
                members.content(id, count)
            }),
        }
    }
}

/// Where the members that mean something stand. Of several with one name the last one counts, as
/// in JavaScript; what else is in the object is ignored.
#[derive(Debug, Default)]
struct Members<'a> {
    event: Option<&'a str>,
    data: Option<&'a str>,
    error: Option<&'a str>,
    id: Option<&'a str>,
    attachments: Option<&'a str>,
    /// How deep the deepest of them is nested, whatever it is called.
    depth: usize,
}

impl<'a> Members<'a> {
    fn decode(text: &'a str) -> Result<Self, DecodeMessageError> {
        let mut members = Self::default();
        let mut cursor = Cursor::new(text.as_bytes());
        if cursor.peek() != Some(b'{') {
            cursor.value()?;
            cursor.end()?;
            return Err(DecodeMessageError::NotAnObject);
        }
        cursor.expect(b'{')?;
        if !cursor.take(b'}') {
            loop {
                let key = cursor.key()?;
                let value = text.get(cursor.value()?);
                match key.resolve(text).as_deref() {
                    Some("event") => members.event = value,
                    Some("data") => members.data = value,
                    Some("error") => members.error = value,
                    Some("id") => members.id = value,
                    Some("attachments") => members.attachments = value,
                    Some(_) | None => {}
                }
                if !cursor.take(b',') {
                    break;
                }
            }
            cursor.expect(b'}')?;
        }
        cursor.end()?;
        members.depth = cursor.depth();
        Ok(members)
    }

    fn within(&self, json_depth_max: usize) -> Result<(), DecodeMessageError> {
        if self.depth > json_depth_max { Err(DecodeMessageError::TooDeep) } else { Ok(()) }
    }

    fn content(
        &self,
        id: Option<&'a str>,
        attachment_count: usize,
    ) -> Result<Content<'a>, DecodeMessageError> {
        let content = match self.event {
            Some(event) => Content::Request { event: decode_event(event)?, data: self.data },
            None => self.answer(id).ok_or(DecodeMessageError::MissingEvent)?,
        };
        // Without attachments, what looks like a placeholder is data.
        if attachment_count > 0 {
            let checked = match &content {
                Content::Request { data, .. } => data.unwrap_or_default(),
                Content::Answer { arg, .. } => arg,
            };
            placeholders::check(checked, attachment_count)
                .map_err(|_| DecodeMessageError::BadPlaceholder)?;
        }
        Ok(content)
    }

    fn answer(&self, id: Option<&'a str>) -> Option<Content<'a>> {
        let id = self.answered_id(id?)?;
        let arg = match self.error() {
            Some(error) => Cow::Owned(format!(r#"{{"error":{error}}}"#)),
            None => Cow::Borrowed(self.data?),
        };
        Some(Content::Answer { id, arg })
    }

    /// Returns which event of ours this answers, if it is an answer.
    fn answered_id(&self, id: &str) -> Option<u64> {
        let is_answer = self.event.is_none() && (self.data.is_some() || self.error().is_some());
        id.parse().ok().filter(|_| is_answer)
    }

    /// Many write out both `data` and `error`, the one that does not apply as null.
    fn error(&self) -> Option<&'a str> {
        self.error.filter(|error| *error != "null")
    }
}

impl From<NotJson> for DecodeMessageError {
    fn from(_: NotJson) -> Self {
        Self::NotJson
    }
}

impl From<BadName> for DecodeMessageError {
    fn from(bad: BadName) -> Self {
        match bad {
            BadName::TooLong => Self::EventTooLong,
            BadName::NotUnicode => Self::BadEvent,
        }
    }
}

fn decode_event(value: &str) -> Result<Cow<'_, str>, DecodeMessageError> {
    if !value.starts_with('"') {
        return Err(DecodeMessageError::BadEvent);
    }
    let name = Cursor::new(value.as_bytes()).string()?;
    Ok(event_name::resolve(&name, value)?)
}

fn decode_attachment_count(value: &str) -> Result<usize, DecodeMessageError> {
    let count = value.parse().ok().filter(|count| *count <= ATTACHMENTS_MAX);
    count.ok_or(DecodeMessageError::BadAttachmentCount)
}

fn check_id(value: &str) -> Result<&str, DecodeMessageError> {
    if !value.starts_with(|c: char| matches!(c, '"' | '-' | '0'..='9')) {
        return Err(DecodeMessageError::BadId);
    }
    if value.len() > ID_BYTES_MAX {
        return Err(DecodeMessageError::IdTooLong);
    }
    Ok(value)
}
