//! What differs for clients of Socket.IO 2: how they enter a namespace.
//!
//! Such a client is taken into the main namespace without asking. For any other it sends CONNECT,
//! with a query behind the namespace in place of a payload. It computes the id of its socket itself.

use super::NAMESPACE_BYTES_MAX;
use super::encoder::namespace_pieces;
use crate::text_frame::{Piece, text_frame};

/// The CONNECT of such a client, `0/chat` or `0/chat?token=x`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connect<'a> {
    /// The namespace, at most [`NAMESPACE_BYTES_MAX`] long.
    pub namespace: &'a str,
    /// The query, with its percent-encoding and without its question mark; empty where there is
    /// none. It may be as long as the message.
    pub query: &'a str,
}

impl<'a> Connect<'a> {
    /// Decodes the text of an Engine.IO message; `None` if it is no such packet. All others are as
    /// in protocol version 5.
    pub fn decode(text: &'a str) -> Option<Self> {
        let rest = text.strip_prefix('0')?;
        if rest.is_empty() {
            return Some(Self { namespace: "/", query: "" });
        }
        let (path, payload) = rest.split_once(',').unwrap_or((rest, ""));
        let (namespace, query) = path.split_once('?').unwrap_or((path, ""));
        let is_ours = namespace.starts_with('/')
            && namespace.len() <= NAMESPACE_BYTES_MAX
            && payload.is_empty();
        is_ours.then_some(Self { namespace, query })
    }
}

/// Encodes that the client is in a namespace: `40/chat,`.
pub fn encode_connect_frame(namespace: &str) -> Vec<u8> {
    let [path, comma] = namespace_pieces(namespace);
    text_frame(&[Piece::Raw(b"40"), path, comma])
}

/// Encodes that the client is not let into a namespace. It gets one value, as from the reference
/// server: `data`, JSON text, if it says anything, otherwise `message`.
pub fn encode_connect_error_frame(namespace: &str, message: &str, data: Option<&[u8]>) -> Vec<u8> {
    let [path, comma] = namespace_pieces(namespace);
    let data = data.map(<[u8]>::trim_ascii);
    let value = match data {
        None | Some(b"null" | b"false" | b"0" | b"\"\"" | b"") => Piece::Quoted(message),
        Some(data) => Piece::Raw(data),
    };
    text_frame(&[Piece::Raw(b"44"), path, comma, value])
}
