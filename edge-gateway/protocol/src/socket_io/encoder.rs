//! Encodes what a server may send, as whole frames: WebSocket header, Engine.IO type, packet.
//!
//! A frame is the same for every recipient, so one fan-out is encoded once. Payloads are opaque
//! here: of `args` only the brackets and the encoding are looked at.

use super::ATTACHMENTS_MAX;
use crate::args::{EncodeError, inside};
use crate::text_frame::{Piece, text_frame, text_frame_with_attachments};

/// Encodes an event with the JSON array `args` for its arguments: `42/chat,7["name",…]`.
///
/// # Errors
///
/// `args` is not written as an array, or is not UTF-8.
pub fn encode_event_frame(
    namespace: &str,
    event: &str,
    args: &[u8],
    ack_id: Option<u64>,
) -> Result<Vec<u8>, EncodeError> {
    encode_event_frames::<&[u8]>(namespace, event, args, ack_id, &[])
}

/// Encodes an event with attachments, for which there are placeholders in `args`, as frames that
/// must reach a client one behind the other: `451-/chat,7["name",…]` and a binary frame for each
/// attachment. Without attachments it is [`encode_event_frame`].
///
/// # Errors
///
/// `args` is not written as an array, or is not UTF-8; or there are more than [`ATTACHMENTS_MAX`]
/// attachments.
pub fn encode_event_frames<A: AsRef<[u8]>>(
    namespace: &str,
    event: &str,
    args: &[u8],
    ack_id: Option<u64>,
    attachments: &[A],
) -> Result<Vec<u8>, EncodeError> {
    event_frames((namespace, event, args), ack_id, None, attachments)
}

/// Encodes an event as [`encode_event_frames`] does, with `offset` behind its arguments: a client that recovers its
/// connection gives back the last one that it has seen.
///
/// # Errors
///
/// As there.
pub fn encode_recoverable_event_frames<A: AsRef<[u8]>>(
    namespace: &str,
    event: &str,
    args: &[u8],
    offset: &str,
    attachments: &[A],
) -> Result<Vec<u8>, EncodeError> {
    event_frames((namespace, event, args), None, Some(offset), attachments)
}

fn event_frames<A: AsRef<[u8]>>(
    (namespace, event, args): (&str, &str, &[u8]),
    ack_id: Option<u64>,
    offset: Option<&str>,
    attachments: &[A],
) -> Result<Vec<u8>, EncodeError> {
    let args = inside(args)?;
    let [packet_type, count, dash] = type_pieces([b"42", b"45"], attachments.len())?;
    let [path, comma] = namespace_pieces(namespace);
    let pieces = [
        packet_type,
        count,
        dash,
        path,
        comma,
        ack_id.map_or(Piece::Raw(b""), Piece::Decimal),
        Piece::Raw(b"["),
        Piece::Quoted(event),
        Piece::Raw(if args.is_empty() { b"" } else { b"," }),
        Piece::Raw(args),
        Piece::Raw(if offset.is_some() { b"," } else { b"" }),
        offset.map_or(Piece::Raw(b""), Piece::Quoted),
        Piece::Raw(b"]"),
    ];
    Ok(text_frame_with_attachments(&pieces, attachments))
}

/// Encodes the answer to an event, with the JSON array `args` for its arguments: `43/chat,7[…]`.
///
/// # Errors
///
/// `args` is not written as an array, or is not UTF-8.
pub fn encode_ack_frame(namespace: &str, ack_id: u64, args: &[u8]) -> Result<Vec<u8>, EncodeError> {
    encode_ack_frames::<&[u8]>(namespace, ack_id, args, &[])
}

/// Encodes the answer to an event with attachments, for which there are placeholders in `args`, as
/// frames that must reach a client one behind the other: `461-/chat,7[…]` and a binary frame for
/// each attachment. Without attachments it is [`encode_ack_frame`].
///
/// # Errors
///
/// `args` is not written as an array, or is not UTF-8; or there are more than [`ATTACHMENTS_MAX`]
/// attachments.
pub fn encode_ack_frames<A: AsRef<[u8]>>(
    namespace: &str,
    ack_id: u64,
    args: &[u8],
    attachments: &[A],
) -> Result<Vec<u8>, EncodeError> {
    inside(args)?;
    let [packet_type, count, dash] = type_pieces([b"43", b"46"], attachments.len())?;
    let [path, comma] = namespace_pieces(namespace);
    let pieces = [packet_type, count, dash, path, comma, Piece::Decimal(ack_id), Piece::Raw(args)];
    Ok(text_frame_with_attachments(&pieces, attachments))
}

/// Encodes that the client is in a namespace: `40/chat,{"sid":"…"}`, and with `"pid":"…"` that it may recover its connection
/// by that name.
pub fn encode_connect_frame(
    namespace: &str,
    socket_id: &str,
    recovery_id: Option<&str>,
) -> Vec<u8> {
    let [path, comma] = namespace_pieces(namespace);
    text_frame(&[
        Piece::Raw(b"40"),
        path,
        comma,
        Piece::Raw(br#"{"sid":"#),
        Piece::Quoted(socket_id),
        Piece::Raw(if recovery_id.is_some() { br#","pid":"# } else { b"" }),
        recovery_id.map_or(Piece::Raw(b""), Piece::Quoted),
        Piece::Raw(b"}"),
    ])
}

/// Encodes that the client is not let into a namespace: `44/chat,{"message":"…","data":…}`. `data`
/// is JSON text.
pub fn encode_connect_error_frame(namespace: &str, message: &str, data: Option<&[u8]>) -> Vec<u8> {
    let [path, comma] = namespace_pieces(namespace);
    text_frame(&[
        Piece::Raw(b"44"),
        path,
        comma,
        Piece::Raw(br#"{"message":"#),
        Piece::Quoted(message),
        Piece::Raw(if data.is_some() { br#","data":"# } else { b"" }),
        Piece::Raw(data.unwrap_or_default()),
        Piece::Raw(b"}"),
    ])
}

/// Encodes that the client is no longer in a namespace: `41/chat,`.
pub fn encode_disconnect_frame(namespace: &str) -> Vec<u8> {
    let [path, comma] = namespace_pieces(namespace);
    text_frame(&[Piece::Raw(b"41"), path, comma])
}

/// A binary packet has a type of its own and says how many attachments it has.
fn type_pieces(
    [text, binary]: [&'static [u8]; 2],
    attachment_count: usize,
) -> Result<[Piece<'static>; 3], EncodeError> {
    match attachment_count {
        0 => Ok([Piece::Raw(text), Piece::Raw(b""), Piece::Raw(b"")]),
        1..=ATTACHMENTS_MAX => {
            Ok([Piece::Raw(binary), Piece::Decimal(attachment_count as u64), Piece::Raw(b"-")])
        }
        _ => Err(EncodeError::TooManyAttachments),
    }
}

/// The main namespace goes without saying.
pub(super) fn namespace_pieces(namespace: &str) -> [Piece<'_>; 2] {
    match namespace {
        "/" => [Piece::Raw(b""), Piece::Raw(b"")],
        path => [Piece::Raw(path.as_bytes()), Piece::Raw(b",")],
    }
}
