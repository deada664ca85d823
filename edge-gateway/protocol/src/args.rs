//! Takes apart the JSON array in which a backend hands over arguments.

use crate::json::Cursor;

/// Why arguments cannot be put into a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// The arguments are not the JSON text of an array.
    #[error("arguments are not a json array")]
    NotAnArray,
    /// The arguments are not UTF-8, which a text frame must be (RFC 6455 §5.6): a client would close the connection.
    #[error("arguments are not utf-8")]
    NotUtf8,
    /// There are more attachments than clients take
    /// ([`ATTACHMENTS_MAX`](crate::socket_io::ATTACHMENTS_MAX)).
    #[error("there are too many attachments")]
    TooManyAttachments,
}

/// Returns what is between the brackets, of which only the encoding is checked.
pub(crate) fn inside(args: &[u8]) -> Result<&[u8], EncodeError> {
    if str::from_utf8(args).is_err() {
        return Err(EncodeError::NotUtf8);
    }
    match args {
        [b'[', inside @ .., b']'] => Ok(inside.trim_ascii()),
        _ => Err(EncodeError::NotAnArray),
    }
}

/// The arguments, by how many there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Args<'a> {
    None,
    One(&'a [u8]),
    /// The first one, and all of them with their brackets.
    Several {
        first: &'a [u8],
        array: &'a [u8],
    },
}

impl<'a> Args<'a> {
    pub(crate) fn split(args: &'a [u8]) -> Result<Self, EncodeError> {
        let inside = inside(args)?;
        if inside.is_empty() {
            return Ok(Self::None);
        }
        let mut cursor = Cursor::new(inside);
        let first = cursor.value().map_err(|_| EncodeError::NotAnArray)?;
        let is_only = cursor.peek().is_none();
        let first = inside.get(first).unwrap_or_default();
        if is_only {
            return Ok(Self::One(first));
        }
        cursor.expect(b',').map_err(|_| EncodeError::NotAnArray)?;
        Ok(Self::Several { first, array: args })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_counted_as_far_as_it_matters() {
        let cases: [(&[u8], Args<'_>); 8] = [
            (b"[]", Args::None),
            (b"[ ]", Args::None),
            (b"[1]", Args::One(b"1")),
            (b"[ {\"a\":[1,2]} ]", Args::One(b"{\"a\":[1,2]}")),
            (b"[[1,2]]", Args::One(b"[1,2]")),
            (b"[\"]\"]", Args::One(b"\"]\"")),
            (b"[1,2]", Args::Several { first: b"1", array: b"[1,2]" }),
            (b"[\"a,b\" , 2]", Args::Several { first: b"\"a,b\"", array: b"[\"a,b\" , 2]" }),
        ];

        for (args, expected) in cases {
            assert_eq!(Args::split(args), Ok(expected), "{}", args.escape_ascii());
        }
    }

    #[test]
    fn what_would_break_a_text_frame_is_refused() {
        assert_eq!(inside(b"[\"\xff\"]"), Err(EncodeError::NotUtf8));
        assert_eq!(Args::split(b"[\"\xc3\"]"), Err(EncodeError::NotUtf8));
    }

    #[test]
    fn what_is_not_an_array_is_refused() {
        for args in ["", "[", "]", "1", "{}", " []", "[] ", "null", "[1"] {
            assert_eq!(inside(args.as_bytes()), Err(EncodeError::NotAnArray), "{args:?}");
            assert_eq!(Args::split(args.as_bytes()), Err(EncodeError::NotAnArray), "{args:?}");
        }
        for args in ["[x]", "[1 2]", "[,]", "[\"]"] {
            assert_eq!(Args::split(args.as_bytes()), Err(EncodeError::NotAnArray), "{args:?}");
        }
    }
}
