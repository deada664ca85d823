//! Events as plain JSON, one object per WebSocket text frame, for clients without a library.
//!
//! ```text
//! client  {"event":"message","data":{"room":"a"},"id":7}
//! server  {"id":7,"data":{"position":"…"}}    or    {"id":7,"error":{"code":"…"}}
//! server  {"event":"message","data":{…}}
//! ```
//!
//! The shape is that of the NestJS WebSocket adapter, with an optional `id` that asks for an
//! answer.

use std::borrow::Cow;

use crate::args::Args;
use crate::event_name::{self, BadName};
use crate::json::{Cursor, NotJson};
use crate::text_frame::{Piece, text_frame};

pub use crate::args::EncodeError;
pub use crate::event_name::EVENT_NAME_BYTES_MAX;

/// Longest `id`, as it is written.
pub const ID_BYTES_MAX: usize = 128;

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
}

/// Where the members that mean something stand. Of several with one name the last one counts, as
/// in JavaScript; what else is in the object is ignored.
#[derive(Debug, Default)]
struct Members<'a> {
    event: Option<&'a str>,
    data: Option<&'a str>,
    id: Option<&'a str>,
}

impl<'a> Request<'a> {
    /// Decodes a text frame.
    ///
    /// # Errors
    ///
    /// Why the text is no request.
    pub fn decode(text: &'a str) -> Result<Self, DecodeRequestError> {
        let members = Members::decode(text)?;
        let event = decode_event(members.event.ok_or(DecodeRequestError::MissingEvent)?)?;
        if let Some(id) = members.id {
            check_id(id)?;
        }
        Ok(Self { event, data: members.data, id: members.id })
    }
}

impl<'a> Members<'a> {
    fn decode(text: &'a str) -> Result<Self, DecodeRequestError> {
        let mut members = Self::default();
        let mut cursor = Cursor::new(text.as_bytes());
        if cursor.peek() != Some(b'{') {
            cursor.value()?;
            cursor.end()?;
            return Err(DecodeRequestError::NotAnObject);
        }
        cursor.expect(b'{')?;
        if !cursor.take(b'}') {
            loop {
                let key = cursor.key()?;
                let value = text.get(cursor.value()?);
                match key.resolve(text).as_deref() {
                    Some("event") => members.event = value,
                    Some("data") => members.data = value,
                    Some("id") => members.id = value,
                    Some(_) | None => {}
                }
                if !cursor.take(b',') {
                    break;
                }
            }
            cursor.expect(b'}')?;
        }
        cursor.end()?;
        Ok(members)
    }
}

/// Why a text frame is no request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeRequestError {
    /// The text is not JSON.
    #[error("request is not json")]
    NotJson,
    /// The text is JSON, but not an object.
    #[error("request is not an object")]
    NotAnObject,
    /// There is no `event`.
    #[error("event is missing")]
    MissingEvent,
    /// `event` is not a string, or holds half of a surrogate pair.
    #[error("event is not a string")]
    BadEvent,
    /// `event` is longer than [`EVENT_NAME_BYTES_MAX`].
    #[error("event name is too long")]
    EventTooLong,
    /// `id` is neither a string nor a number.
    #[error("id is neither a string nor a number")]
    BadId,
    /// `id` is longer than [`ID_BYTES_MAX`].
    #[error("id is too long")]
    IdTooLong,
}

impl From<NotJson> for DecodeRequestError {
    fn from(_: NotJson) -> Self {
        Self::NotJson
    }
}

impl From<BadName> for DecodeRequestError {
    fn from(bad: BadName) -> Self {
        match bad {
            BadName::TooLong => Self::EventTooLong,
            BadName::NotUnicode => Self::BadEvent,
        }
    }
}

fn decode_event(value: &str) -> Result<Cow<'_, str>, DecodeRequestError> {
    if !value.starts_with('"') {
        return Err(DecodeRequestError::BadEvent);
    }
    let name = Cursor::new(value.as_bytes()).string()?;
    Ok(event_name::resolve(&name, value)?)
}

fn check_id(value: &str) -> Result<(), DecodeRequestError> {
    if !value.starts_with(|c: char| matches!(c, '"' | '-' | '0'..='9')) {
        return Err(DecodeRequestError::BadId);
    }
    if value.len() > ID_BYTES_MAX {
        return Err(DecodeRequestError::IdTooLong);
    }
    Ok(())
}

/// Encodes an event with the JSON array `args` for its arguments, as a whole frame:
/// `{"event":"…","data":…}`. One argument is the data itself, several are an array, none is no
/// `data`.
///
/// # Errors
///
/// `args` is not an array, or is not UTF-8.
pub fn encode_event_frame(event: &str, args: &[u8]) -> Result<Vec<u8>, EncodeError> {
    let data = match Args::split(args)? {
        Args::None => None,
        Args::One(data) | Args::Several { array: data, .. } => Some(data),
    };
    Ok(text_frame(&[
        Piece::Raw(br#"{"event":"#),
        Piece::Quoted(event),
        Piece::Raw(if data.is_some() { br#","data":"# } else { b"" }),
        Piece::Raw(data.unwrap_or_default()),
        Piece::Raw(b"}"),
    ]))
}

/// Encodes the answer to the request with this `id` (JSON text), as a whole frame. The first
/// argument is the answer: `{"id":…,"data":…}`, or `{"id":…,"error":{…}}` if it is an object with
/// an `error` object in it and nothing else.
///
/// # Errors
///
/// `args` is not an array, or is not UTF-8.
pub fn encode_answer_frame(id: &[u8], args: &[u8]) -> Result<Vec<u8>, EncodeError> {
    let answer = match Args::split(args)? {
        Args::None => b"null",
        Args::One(first) | Args::Several { first, .. } => first,
    };
    let (member, value) = match error_in(answer) {
        Some(error) => (br#","error":"#.as_slice(), error),
        None => (br#","data":"#.as_slice(), answer),
    };
    Ok(text_frame(&[
        Piece::Raw(br#"{"id":"#),
        Piece::Raw(id),
        Piece::Raw(member),
        Piece::Raw(value),
        Piece::Raw(b"}"),
    ]))
}

/// Returns the object in `{"error":{…}}`.
fn error_in(answer: &[u8]) -> Option<&[u8]> {
    let mut cursor = Cursor::new(answer);
    cursor.expect(b'{').ok()?;
    let key = cursor.key().ok()?;
    if answer.get(key.inside) != Some(b"error") || cursor.peek() != Some(b'{') {
        return None;
    }
    let error = cursor.value().ok()?;
    cursor.expect(b'}').ok()?;
    answer.get(error)
}
