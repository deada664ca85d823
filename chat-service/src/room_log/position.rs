//! A place in a room's log.

use std::{fmt, str::FromStr};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use thiserror::Error;

/// Which life of the log, and which entry in it. Clients see an opaque text.
///
/// Offset 0 stands before the first entry. Only positions of one epoch can be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) epoch: u64,
    pub(crate) offset: u64,
}

/// The text is not a position of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("not a position")]
pub(crate) struct ParsePositionError;

const BYTES: usize = 16;
const TEXT_BYTES: usize = 22;

impl fmt::Display for Position {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = [0; BYTES];
        bytes[..8].copy_from_slice(&self.epoch.to_be_bytes());
        bytes[8..].copy_from_slice(&self.offset.to_be_bytes());
        let mut text = [0; TEXT_BYTES];
        let written =
            BASE64_URL_SAFE_NO_PAD.encode_slice(bytes, &mut text).map_err(|_| fmt::Error)?;
        formatter.write_str(str::from_utf8(&text[..written]).map_err(|_| fmt::Error)?)
    }
}

impl FromStr for Position {
    type Err = ParsePositionError;

    fn from_str(text: &str) -> Result<Self, ParsePositionError> {
        if text.len() != TEXT_BYTES {
            return Err(ParsePositionError);
        }
        let decoded = BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| ParsePositionError)?;
        let (epoch, offset) = decoded.split_first_chunk().ok_or(ParsePositionError)?;
        let offset = offset.try_into().map_err(|_| ParsePositionError)?;
        Ok(Self { epoch: u64::from_be_bytes(*epoch), offset: u64::from_be_bytes(offset) })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_as_base64url() {
        assert_eq!(Position { epoch: u64::MAX, offset: 1 }.to_string(), "__________8AAAAAAAAAAQ");
    }

    #[test]
    fn refuses_garbage() {
        for text in [
            "",
            "0",
            "__________8AAAAAAAAAAR",
            "__________8AAAAAAAAAAQ=",
            "__________8AAAAAAAAAA",
            "//////////8AAAAAAAAAAQ",
            "__________8AAAAAAAAAAé",
            " _________8AAAAAAAAAAQ",
        ] {
            assert_eq!(text.parse::<Position>(), Err(ParsePositionError), "{text}");
        }
    }

    proptest! {
        #[test]
        fn survives_its_text_form(epoch: u64, offset: u64) {
            let position = Position { epoch, offset };

            prop_assert_eq!(position.to_string().parse(), Ok(position));
        }

        #[test]
        fn has_one_text_form(text in "[A-Za-z0-9_-]{22}") {
            if let Ok(position) = text.parse::<Position>() {
                prop_assert_eq!(position.to_string(), text);
            }
        }
    }
}
