//! Names a room, or the inbox of a user: its namespace and its own name.

use std::{fmt, sync::Arc};

use thiserror::Error;

/// Longest name of a room, in bytes.
pub(crate) const ROOM_NAME_BYTES_MAX: usize = 200;

/// Longest name of a namespace, in bytes.
pub(crate) const NAMESPACE_BYTES_MAX: usize = 256;

/// Longest subject of a user that something is sent to, in bytes.
pub(crate) const SUBJECT_BYTES_MAX: usize = 256;

/// What clients call their inbox, each its own.
pub(crate) const OWN_INBOX: &str = "@me";

/// The name of an inbox is this and its user's subject. No other room has a name that begins with it.
pub(crate) const INBOX_MARK: char = '@';

/// Separates the namespace from the room's name. Neither may contain it.
const SEPARATOR: char = '\0';

/// A room of a namespace. Rooms of the same name in two namespaces have nothing in common.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct RoomKey {
    text: Arc<str>,
    namespace_bytes: usize,
}

/// Why a text does not name a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum RoomKeyError {
    #[error(
        "the namespace must begin with a slash and have at most 256 bytes, none of them control characters"
    )]
    Namespace,
    #[error("the room must have from 1 to 200 bytes")]
    Length,
    #[error("the room must not contain control characters")]
    ControlCharacter,
    #[error("the room must not begin with @")]
    Inbox,
}

impl RoomKey {
    /// A room that clients and other services may name.
    pub(crate) fn parse_room(namespace: &str, name: &str) -> Result<Self, RoomKeyError> {
        let key = Self::parse(namespace, name)?;
        if key.is_inbox() { Err(RoomKeyError::Inbox) } else { Ok(key) }
    }

    /// The inbox of a user.
    pub(crate) fn inbox(namespace: &str, subject: &str) -> Result<Self, RoomKeyError> {
        if subject.is_empty() {
            return Err(RoomKeyError::Length);
        }
        Self::parse(namespace, &format!("{INBOX_MARK}{subject}"))
    }

    /// Either, by the name that it has in logs and for edges.
    pub(crate) fn parse(namespace: &str, name: &str) -> Result<Self, RoomKeyError> {
        if !is_namespace(namespace) {
            return Err(RoomKeyError::Namespace);
        }
        let bytes_max = if name.starts_with(INBOX_MARK) {
            INBOX_MARK.len_utf8() + SUBJECT_BYTES_MAX
        } else {
            ROOM_NAME_BYTES_MAX
        };
        if name.is_empty() || name.len() > bytes_max {
            return Err(RoomKeyError::Length);
        }
        if name.chars().any(char::is_control) {
            return Err(RoomKeyError::ControlCharacter);
        }

        let mut text = String::with_capacity(namespace.len() + 1 + name.len());
        text.push_str(namespace);
        text.push(SEPARATOR);
        text.push_str(name);
        Ok(Self { text: text.into(), namespace_bytes: namespace.len() })
    }

    pub(crate) fn namespace(&self) -> &str {
        &self.text[..self.namespace_bytes]
    }

    pub(crate) fn name(&self) -> &str {
        &self.text[self.namespace_bytes + SEPARATOR.len_utf8()..]
    }

    /// What clients know it by.
    pub(crate) fn name_for_clients(&self) -> &str {
        if self.is_inbox() { OWN_INBOX } else { self.name() }
    }

    pub(crate) fn is_inbox(&self) -> bool {
        self.name().starts_with(INBOX_MARK)
    }

    /// Both parts as one text, equal for equal rooms only.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for RoomKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.namespace(), self.name())
    }
}

/// Whether a text can be the name of a namespace.
pub(crate) fn is_namespace(text: &str) -> bool {
    text.starts_with('/')
        && text.len() <= NAMESPACE_BYTES_MAX
        && !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_its_namespace_and_its_name() {
        let room = RoomKey::parse("/chat", "löbby").unwrap();

        assert_eq!((room.namespace(), room.name()), ("/chat", "löbby"));
    }

    #[test]
    fn rooms_of_two_namespaces_differ() {
        assert_ne!(RoomKey::parse("/a", "b").unwrap(), RoomKey::parse("/", "b").unwrap());
    }

    #[test]
    fn refuses_what_is_not_a_name() {
        let longest = "x".repeat(ROOM_NAME_BYTES_MAX);

        assert!(RoomKey::parse("/", &longest).is_ok());
        assert_eq!(RoomKey::parse("/", &format!("{longest}x")), Err(RoomKeyError::Length));
        assert_eq!(RoomKey::parse("/", ""), Err(RoomKeyError::Length));
        assert_eq!(RoomKey::parse("/", "a\u{0}b"), Err(RoomKeyError::ControlCharacter));
        assert_eq!(RoomKey::parse("/", "a\u{85}b"), Err(RoomKeyError::ControlCharacter));
        assert_eq!(RoomKey::parse("chat", "a"), Err(RoomKeyError::Namespace));
        assert_eq!(RoomKey::parse("", "a"), Err(RoomKeyError::Namespace));
    }

    #[test]
    fn an_inbox_is_no_room_that_others_may_name() {
        let inbox = RoomKey::inbox("/chat", "ann").unwrap();
        let room = RoomKey::parse_room("/chat", "ann").unwrap();

        assert!(inbox.is_inbox() && !room.is_inbox());
        assert_eq!((inbox.name(), inbox.name_for_clients()), ("@ann", "@me"));
        assert_eq!(room.name_for_clients(), "ann");
        assert_eq!(RoomKey::parse("/chat", "@ann"), Ok(inbox));
        for name in ["@", "@me", "@ann"] {
            assert_eq!(RoomKey::parse_room("/chat", name), Err(RoomKeyError::Inbox));
        }
    }

    #[test]
    fn a_subject_may_be_longer_than_the_name_of_a_room() {
        let longest = "x".repeat(SUBJECT_BYTES_MAX);

        assert!(RoomKey::inbox("/", &longest).is_ok());
        assert_eq!(RoomKey::inbox("/", &format!("{longest}x")), Err(RoomKeyError::Length));
        assert_eq!(RoomKey::inbox("/", ""), Err(RoomKeyError::Length));
        assert_eq!(RoomKey::inbox("/", "a\nb"), Err(RoomKeyError::ControlCharacter));
    }
}
