//! Encodes what a server may send, as whole frames.

use bytes::Bytes;

use super::ATTACHMENTS_MAX;
use crate::args::{Args, EncodeError};
use crate::json::Cursor;
use crate::text_frame::{Piece, text_frame_with_attachments};

/// Encodes an event with the JSON array `args` for its arguments: `{"event":"…","data":…}`. One
/// argument is the data itself, several are an array, none is no `data`. With an `ack_id` it asks
/// for an answer: `"id":…`. Attachments are announced by `"attachments":…` and follow as frames of
/// their own, which must reach a client right behind the first.
///
/// # Errors
///
/// `args` is not an array, or is not UTF-8; or there are more than [`ATTACHMENTS_MAX`] attachments.
pub fn encode_event_frames(
    event: &str,
    args: &[u8],
    ack_id: Option<u64>,
    attachments: &[Bytes],
) -> Result<Vec<u8>, EncodeError> {
    let data = match Args::split(args)? {
        Args::None => None,
        Args::One(data) | Args::Several { array: data, .. } => Some(data),
    };
    let [announcement, count] = attachment_pieces(attachments.len())?;
    let pieces = [
        Piece::Raw(br#"{"event":"#),
        Piece::Quoted(event),
        Piece::Raw(if data.is_some() { br#","data":"# } else { b"" }),
        Piece::Raw(data.unwrap_or_default()),
        Piece::Raw(if ack_id.is_some() { br#","id":"# } else { b"" }),
        ack_id.map_or(Piece::Raw(b""), Piece::Decimal),
        announcement,
        count,
        Piece::Raw(b"}"),
    ];
    Ok(text_frame_with_attachments(&pieces, attachments))
}

/// Encodes the answer to the request with this `id` (JSON text), with its attachments. The first
/// argument is the answer: `{"id":…,"data":…}`, or `{"id":…,"error":{…}}` if it is an object with
/// an `error` object in it and nothing else.
///
/// # Errors
///
/// `args` is not an array, or is not UTF-8; or there are more than [`ATTACHMENTS_MAX`] attachments.
pub fn encode_answer_frames(
    id: &[u8],
    args: &[u8],
    attachments: &[Bytes],
) -> Result<Vec<u8>, EncodeError> {
    let answer = match Args::split(args)? {
        Args::None => b"null",
        Args::One(first) | Args::Several { first, .. } => first,
    };
    let (member, value) = match error_in(answer) {
        Some(error) => (br#","error":"#.as_slice(), error),
        None => (br#","data":"#.as_slice(), answer),
    };
    let [announcement, count] = attachment_pieces(attachments.len())?;
    let pieces = [
        Piece::Raw(br#"{"id":"#),
        Piece::Raw(id),
        Piece::Raw(member),
        Piece::Raw(value),
        announcement,
        count,
        Piece::Raw(b"}"),
    ];
    Ok(text_frame_with_attachments(&pieces, attachments))
}

fn attachment_pieces(count: usize) -> Result<[Piece<'static>; 2], EncodeError> {
    match count {
        0 => Ok([Piece::Raw(b""), Piece::Raw(b"")]),
        1..=ATTACHMENTS_MAX => {
            Ok([Piece::Raw(br#","attachments":"#), Piece::Decimal(count as u64)])
        }
        _ => Err(EncodeError::TooManyAttachments),
    }
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
