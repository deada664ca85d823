//! A place in a room's log.

use std::{fmt, str::FromStr};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use thiserror::Error;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::{Author, Publication, PublicationId};

/// Which life of the log, which entry in it, and what was said up to there. Clients see an opaque text.
///
/// Offset 0 stands before the first entry. Only positions of one epoch can be compared.
///
/// The tag is a hash of the entry and of the tag before it. So a position is good only in a log that has said the same up
/// to there: one that was set back, and has said other things at the same offsets since, does not take it for its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) epoch: u64,
    pub(crate) offset: u64,
    pub(crate) tag: u32,
}

impl Position {
    /// The one before the first entry.
    pub(crate) fn start(epoch: u64) -> Self {
        Self { epoch, offset: 0, tag: tag(xxh3_64(&epoch.to_be_bytes())) }
    }

    /// Where something stands that is said after this position.
    pub(super) fn next(self, publication: &Publication, at_ms: u64) -> Self {
        let Publication { author, id, repeated_since_ms: _, event, payload, except_users } =
            publication;
        let offset = self.offset + 1;
        let mut seed = self.epoch ^ offset.rotate_left(32) ^ u64::from(self.tag);
        let mut add = |part: &[u8]| seed = xxh3_64_with_seed(part, seed);
        add(&at_ms.to_be_bytes());
        match author {
            Author::User(user) => {
                add(user.subject().as_bytes());
                add(user.issuer().as_bytes());
            }
            Author::Service => add(&[]),
        }
        match id {
            Some(PublicationId::Own(id)) => add(id.as_bytes()),
            Some(PublicationId::Event(name)) => add(name),
            None => add(&[0]),
        }
        add(event.as_bytes());
        add(payload);
        for user in except_users {
            add(user.as_bytes());
        }
        Self { epoch: self.epoch, offset, tag: tag(seed) }
    }
}

/// Half of a hash. Positions go over the network with every event: this is enough to find what went wrong, and no proof
/// against who looks for a collision.
fn tag(hash: u64) -> u32 {
    (hash >> 32) as u32
}

/// The text is not a position of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("not a position")]
pub(crate) struct ParsePositionError;

const BYTES: usize = 20;
const TEXT_BYTES: usize = 27;

impl fmt::Display for Position {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = [0; BYTES];
        bytes[..8].copy_from_slice(&self.epoch.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.offset.to_be_bytes());
        bytes[16..].copy_from_slice(&self.tag.to_be_bytes());
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
        let (epoch, rest) = decoded.split_first_chunk().ok_or(ParsePositionError)?;
        let (offset, tag) = rest.split_first_chunk().ok_or(ParsePositionError)?;
        let tag = tag.try_into().map_err(|_| ParsePositionError)?;
        Ok(Self {
            epoch: u64::from_be_bytes(*epoch),
            offset: u64::from_be_bytes(*offset),
            tag: u32::from_be_bytes(tag),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::{room_log::contract::publication, user::User};

    #[test]
    fn reads_as_base64url() {
        let position = Position { epoch: u64::MAX, offset: 1, tag: 2 };

        assert_eq!(position.to_string(), "__________8AAAAAAAAAAQAAAAI");
    }

    #[test]
    fn refuses_garbage() {
        for text in [
            "",
            "0",
            "__________8AAAAAAAAAAQAAAAJ",
            "__________8AAAAAAAAAAQAAAAI=",
            "__________8AAAAAAAAAAQAAAA",
            "__________8AAAAAAAAAAQ",
            "//////////8AAAAAAAAAAQAAAAI",
            "__________8AAAAAAAAAAQAAAé",
            " _________8AAAAAAAAAAQAAAAI",
        ] {
            assert_eq!(text.parse::<Position>(), Err(ParsePositionError), "{text}");
        }
    }

    #[test]
    fn differs_from_another_where_anything_else_was_said() {
        let user = |subject: &str, issuer: &str| {
            Author::User(Arc::new(User::parse(subject, issuer, b"{}").unwrap()))
        };
        let own = |id: &str| Some(PublicationId::Own(id.into()));
        let said = Publication { author: user("ann", "x"), id: own("1"), ..publication("a") };
        let start = Position::start(7);
        let others = [
            (start, Publication { author: user("an", "nx"), ..said.clone() }, 5),
            (start, Publication { author: Author::Service, ..said.clone() }, 5),
            (start, Publication { id: None, ..said.clone() }, 5),
            (start, Publication { id: own("2"), ..said.clone() }, 5),
            (start, Publication { event: "other".into(), ..said.clone() }, 5),
            (start, Publication { payload: "{}".into(), ..said.clone() }, 5),
            (start, Publication { except_users: ["bob".into()].into(), ..said.clone() }, 5),
            (start, said.clone(), 6),
            (Position { tag: start.tag + 1, ..start }, said.clone(), 5),
        ];

        let position = start.next(&said, 5);

        assert_eq!((position.epoch, position.offset), (7, 1));
        assert_eq!(position, start.next(&said, 5));
        for (before, publication, at_ms) in others {
            let other = before.next(&publication, at_ms);
            assert_ne!(other.tag, position.tag, "{publication:?}");
            // It stays so, whatever follows.
            assert_ne!(other.next(&said, 9).tag, position.next(&said, 9).tag);
        }
    }

    proptest! {
        #[test]
        fn survives_its_text_form(epoch: u64, offset: u64, tag: u32) {
            let position = Position { epoch, offset, tag };

            prop_assert_eq!(position.to_string().parse(), Ok(position));
        }

        #[test]
        fn has_one_text_form(text in "[A-Za-z0-9_-]{27}") {
            if let Ok(position) = text.parse::<Position>() {
                prop_assert_eq!(position.to_string(), text);
            }
        }
    }
}
