//! Encodes what a server may send, as whole frames: WebSocket header, Engine.IO type, packet.
//!
//! A frame is the same for every recipient, so one fan-out is encoded once. Payloads are opaque
//! here: of `args` only the brackets and the encoding are looked at.

use crate::args::{EncodeError, inside};
use crate::text_frame::{Piece, text_frame};

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
    let args = inside(args)?;
    let [path, comma] = namespace_pieces(namespace);
    Ok(text_frame(&[
        Piece::Raw(b"42"),
        path,
        comma,
        ack_id.map_or(Piece::Raw(b""), Piece::Decimal),
        Piece::Raw(b"["),
        Piece::Quoted(event),
        Piece::Raw(if args.is_empty() { b"" } else { b"," }),
        Piece::Raw(args),
        Piece::Raw(b"]"),
    ]))
}

/// Encodes the answer to an event, with the JSON array `args` for its arguments: `43/chat,7[…]`.
///
/// # Errors
///
/// `args` is not written as an array, or is not UTF-8.
pub fn encode_ack_frame(namespace: &str, ack_id: u64, args: &[u8]) -> Result<Vec<u8>, EncodeError> {
    inside(args)?;
    let [path, comma] = namespace_pieces(namespace);
    Ok(text_frame(&[Piece::Raw(b"43"), path, comma, Piece::Decimal(ack_id), Piece::Raw(args)]))
}

/// Encodes that the client is in a namespace: `40/chat,{"sid":"…"}`.
pub fn encode_connect_frame(namespace: &str, socket_id: &str) -> Vec<u8> {
    let [path, comma] = namespace_pieces(namespace);
    text_frame(&[
        Piece::Raw(b"40"),
        path,
        comma,
        Piece::Raw(br#"{"sid":"#),
        Piece::Quoted(socket_id),
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

/// The main namespace goes without saying.
fn namespace_pieces(namespace: &str) -> [Piece<'_>; 2] {
    match namespace {
        "/" => [Piece::Raw(b""), Piece::Raw(b"")],
        path => [Piece::Raw(path.as_bytes()), Piece::Raw(b",")],
    }
}
