//! Names a room, or the inbox of a user: its tenant, its namespace and its own name.

use std::{fmt, sync::Arc};

use thiserror::Error;

/// Longest name of a room, in bytes.
pub(crate) const ROOM_NAME_BYTES_MAX: usize = 200;

/// Longest name of a namespace, in bytes.
pub(crate) const NAMESPACE_BYTES_MAX: usize = 256;

/// Longest name of a tenant, in bytes.
pub(crate) const TENANT_BYTES_MAX: usize = 128;

/// Longest subject of a user that something is sent to, in bytes.
pub(crate) const SUBJECT_BYTES_MAX: usize = 256;

/// What clients call their inbox, each its own.
pub(crate) const OWN_INBOX: &str = "@me";

/// The name of an inbox is this and its user's subject. No other room has a name that begins with it.
pub(crate) const INBOX_MARK: char = '@';

/// Separates the namespace from the room's name. Neither may contain it.
const SEPARATOR: char = '\0';

/// Stands before and behind the tenant, where it is not the default one, in front of the room's name. Neither may contain it.
pub(crate) const TENANT_MARK: char = '\u{1}';

/// A tenant's part of a namespace. A name means something within one, and something else in each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Realm<'a> {
    /// Empty: the default tenant.
    pub(crate) tenant: &'a str,
    pub(crate) namespace: &'a str,
}

#[cfg(test)]
impl<'a> Realm<'a> {
    /// The default tenant's part.
    pub(crate) fn of_default(namespace: &'a str) -> Self {
        Self { tenant: "", namespace }
    }
}

/// A room of a tenant in a namespace. Rooms of the same name in two of either have nothing in common.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct RoomKey {
    text: Arc<str>,
    namespace_bytes: u16,
    tenant_bytes: u16,
}

/// Why a text does not name a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum RoomKeyError {
    #[error(
        "the namespace must begin with a slash and have at most 256 bytes, none of them control characters"
    )]
    Namespace,
    #[error("the tenant must have at most 128 bytes, none of them control characters")]
    Tenant,
    #[error("the room must have from 1 to 200 bytes")]
    Length,
    #[error("the room must not contain control characters")]
    ControlCharacter,
    #[error("the room must not begin with @")]
    Inbox,
}

impl RoomKey {
    /// A room that clients and other services may name.
    pub(crate) fn parse_room(realm: Realm<'_>, name: &str) -> Result<Self, RoomKeyError> {
        let key = Self::new(realm, name)?;
        if key.is_inbox() { Err(RoomKeyError::Inbox) } else { Ok(key) }
    }

    /// The inbox of a user.
    pub(crate) fn inbox(realm: Realm<'_>, subject: &str) -> Result<Self, RoomKeyError> {
        if subject.is_empty() {
            return Err(RoomKeyError::Length);
        }
        Self::new(realm, &format!("{INBOX_MARK}{subject}"))
    }

    /// Either, by the name that it has for edges and in the store. It says whose the room is: who takes such a name from outside
    /// compares [`tenant`](Self::tenant) with whom it is for.
    pub(crate) fn parse(namespace: &str, name_for_edges: &str) -> Result<Self, RoomKeyError> {
        let (tenant, name) = match name_for_edges.strip_prefix(TENANT_MARK) {
            Some(marked) => match marked.split_once(TENANT_MARK) {
                // There is one way to name a room of the default tenant.
                Some(("", _)) | None => return Err(RoomKeyError::Tenant),
                Some(parts) => parts,
            },
            None => ("", name_for_edges),
        };
        Self::new(Realm { tenant, namespace }, name)
    }

    fn new(Realm { tenant, namespace }: Realm<'_>, name: &str) -> Result<Self, RoomKeyError> {
        if !is_namespace(namespace) {
            return Err(RoomKeyError::Namespace);
        }
        if !is_tenant(tenant) {
            return Err(RoomKeyError::Tenant);
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
        let bytes_of = |text: &str| u16::try_from(text.len());
        let namespace_bytes = bytes_of(namespace).map_err(|_| RoomKeyError::Namespace)?;
        let tenant_bytes = bytes_of(tenant).map_err(|_| RoomKeyError::Tenant)?;
        let prefix = name_prefix(tenant);

        let mut text = String::with_capacity(namespace.len() + 1 + prefix.len() + name.len());
        text.push_str(namespace);
        text.push(SEPARATOR);
        text.push_str(&prefix);
        text.push_str(name);
        Ok(Self { text: text.into(), namespace_bytes, tenant_bytes })
    }

    pub(crate) fn namespace(&self) -> &str {
        &self.text[..usize::from(self.namespace_bytes)]
    }

    /// Whose it is. Empty: the default tenant's.
    pub(crate) fn tenant(&self) -> &str {
        self.parts().0
    }

    /// What tells it from all other rooms of its namespace, also those of other tenants. Nobody but edges sees it.
    pub(crate) fn name_for_edges(&self) -> &str {
        &self.text[usize::from(self.namespace_bytes) + SEPARATOR.len_utf8()..]
    }

    /// What services know it by, who say which tenant they mean. The name of an inbox says whose it is, which is nothing for other
    /// users.
    pub(crate) fn name_for_services(&self) -> &str {
        self.parts().1
    }

    /// What clients know it by.
    pub(crate) fn name_for_clients(&self) -> &str {
        if self.is_inbox() { OWN_INBOX } else { self.name_for_services() }
    }

    pub(crate) fn is_inbox(&self) -> bool {
        self.name_for_services().starts_with(INBOX_MARK)
    }

    /// Whose part of which namespace it belongs to.
    pub(crate) fn realm(&self) -> Realm<'_> {
        Realm { tenant: self.tenant(), namespace: self.namespace() }
    }

    pub(crate) fn is_in(&self, realm: Realm<'_>) -> bool {
        self.realm() == realm
    }

    /// All parts as one text, equal for equal rooms only.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// The tenant, and the name within it.
    fn parts(&self) -> (&str, &str) {
        let name = self.name_for_edges();
        if self.tenant_bytes == 0 {
            return ("", name);
        }
        let begin = TENANT_MARK.len_utf8();
        let end = begin + usize::from(self.tenant_bytes);
        (&name[begin..end], &name[end + TENANT_MARK.len_utf8()..])
    }
}

impl fmt::Debug for RoomKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (tenant, name) = self.parts();
        if tenant.is_empty() {
            return write!(formatter, "{}:{name}", self.namespace());
        }
        write!(formatter, "{}:{tenant}:{name}", self.namespace())
    }
}

/// What the names of a tenant's rooms begin with, for edges and in the store. Those of the default tenant begin with themselves.
pub(crate) fn name_prefix(tenant: &str) -> String {
    if tenant.is_empty() { String::new() } else { format!("{TENANT_MARK}{tenant}{TENANT_MARK}") }
}

/// Whether a text can be the name of a namespace.
pub(crate) fn is_namespace(text: &str) -> bool {
    text.starts_with('/')
        && text.len() <= NAMESPACE_BYTES_MAX
        && !text.chars().any(char::is_control)
}

/// Whether a text can be the name of a tenant: empty names the default one.
pub(crate) fn is_tenant(text: &str) -> bool {
    text.len() <= TENANT_BYTES_MAX && !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULT: Realm<'_> = Realm { tenant: "", namespace: "/chat" };
    const ACME: Realm<'_> = Realm { tenant: "acme", namespace: "/chat" };

    #[test]
    fn knows_its_namespace_its_tenant_and_its_names() {
        let room = RoomKey::parse("/chat", "löbby").unwrap();
        assert_eq!((room.namespace(), room.tenant()), ("/chat", ""));
        assert_eq!((room.name_for_edges(), room.name_for_clients()), ("löbby", "löbby"));

        let room = RoomKey::parse_room(ACME, "löbby").unwrap();
        assert_eq!((room.namespace(), room.tenant()), ("/chat", "acme"));
        assert_eq!(room.name_for_edges(), "\u{1}acme\u{1}löbby");
        assert_eq!((room.name_for_services(), room.name_for_clients()), ("löbby", "löbby"));
        assert_eq!(RoomKey::parse("/chat", room.name_for_edges()), Ok(room));
    }

    #[test]
    fn rooms_of_two_namespaces_differ() {
        assert_ne!(RoomKey::parse("/a", "b").unwrap(), RoomKey::parse("/", "b").unwrap());
    }

    #[test]
    fn rooms_of_two_tenants_differ_in_each_form() {
        let realms = ["", "a", "ab", "acme"].map(|tenant| Realm { tenant, namespace: "/chat" });
        let names = ["a", "b", "ab", "bb", "acme"];
        let mut texts = std::collections::HashSet::new();
        let mut edge_names = std::collections::HashSet::new();
        for (realm, name) in realms.into_iter().flat_map(|realm| names.map(|name| (realm, name))) {
            let room = RoomKey::parse_room(realm, name).unwrap();
            assert!(room.is_in(realm));
            assert_eq!(realms.iter().filter(|realm| room.is_in(**realm)).count(), 1);
            assert!(edge_names.insert(room.name_for_edges().to_owned()), "{room:?}");
            assert!(texts.insert(room.as_str().to_owned()), "{room:?}");
        }
    }

    #[test]
    fn no_name_reaches_into_another_tenant() {
        for name in ["\u{1}acme\u{1}a", "\u{1}\u{1}a", "\u{1}a", "a\u{1}b"] {
            for realm in [DEFAULT, ACME] {
                assert_eq!(RoomKey::parse_room(realm, name), Err(RoomKeyError::ControlCharacter));
                assert_eq!(RoomKey::inbox(realm, name), Err(RoomKeyError::ControlCharacter));
            }
        }
        for tenant in ["\u{1}", "a\u{1}b", "a\0b", "a\nb"] {
            let realm = Realm { tenant, ..ACME };
            assert_eq!(RoomKey::parse_room(realm, "a"), Err(RoomKeyError::Tenant));
        }
    }

    #[test]
    fn a_name_for_edges_says_its_tenant_in_one_way() {
        for (name, error) in [
            ("\u{1}", RoomKeyError::Tenant),
            ("\u{1}a", RoomKeyError::Tenant),
            ("\u{1}\u{1}a", RoomKeyError::Tenant),
            ("\u{1}a\nb\u{1}a", RoomKeyError::Tenant),
            ("\u{1}acme\u{1}", RoomKeyError::Length),
            ("\u{1}acme\u{1}a\u{1}", RoomKeyError::ControlCharacter),
            ("\u{1}acme\u{1}\u{1}b\u{1}a", RoomKeyError::ControlCharacter),
        ] {
            assert_eq!(RoomKey::parse("/chat", name), Err(error), "{name:?}");
        }
    }

    #[test]
    fn a_tenant_has_at_most_128_bytes() {
        let longest = "x".repeat(TENANT_BYTES_MAX);
        assert!(RoomKey::parse_room(Realm { tenant: &longest, ..ACME }, "a").is_ok());

        let longer = format!("{longest}x");
        let room = RoomKey::parse_room(Realm { tenant: &longer, ..ACME }, "a");
        assert_eq!(room, Err(RoomKeyError::Tenant));
    }

    #[test]
    fn the_longest_name_for_edges_is_one_that_the_contract_allows() {
        let (tenant, subject) = ("x".repeat(TENANT_BYTES_MAX), "y".repeat(SUBJECT_BYTES_MAX));
        let inbox = RoomKey::inbox(Realm { tenant: &tenant, ..ACME }, &subject).unwrap();

        assert!(inbox.name_for_edges().len() <= 512, "see `Join.room`");
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
        for realm in [DEFAULT, ACME] {
            let inbox = RoomKey::inbox(realm, "ann").unwrap();
            let room = RoomKey::parse_room(realm, "ann").unwrap();

            assert!(inbox.is_inbox() && !room.is_inbox());
            assert_eq!((inbox.name_for_services(), inbox.name_for_clients()), ("@ann", "@me"));
            assert_eq!(room.name_for_clients(), "ann");
            assert_eq!(RoomKey::parse("/chat", inbox.name_for_edges()), Ok(inbox));
            for name in ["@", "@me", "@ann"] {
                assert_eq!(RoomKey::parse_room(realm, name), Err(RoomKeyError::Inbox));
            }
        }
    }

    #[test]
    fn a_subject_may_be_longer_than_the_name_of_a_room() {
        let longest = "x".repeat(SUBJECT_BYTES_MAX);

        assert!(RoomKey::inbox(DEFAULT, &longest).is_ok());
        assert_eq!(RoomKey::inbox(DEFAULT, &format!("{longest}x")), Err(RoomKeyError::Length));
        assert_eq!(RoomKey::inbox(DEFAULT, ""), Err(RoomKeyError::Length));
        assert_eq!(RoomKey::inbox(DEFAULT, "a\nb"), Err(RoomKeyError::ControlCharacter));
    }
}
