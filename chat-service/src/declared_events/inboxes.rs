//! Says which users of a namespace have inboxes.

use std::ops::Range;

use toml::Spanned;

use super::DeclaredEvent;
use crate::{
    room_key::{Realm, RoomKey},
    toml_file::{Fields, TomlFile},
    user::User,
};

/// Those of one issuer, or none. Services and clients name users by subject, and the same subject of another issuer is another
/// user.
#[derive(Debug, Default)]
pub(crate) struct Inboxes {
    issuer: Option<Spanned<Box<str>>>,
}

impl Inboxes {
    pub(super) fn read(file: &mut TomlFile<'_>, namespace: &mut Fields<'_>) -> Self {
        let issuer = namespace.read::<Box<str>>(file, "inbox_issuer");
        if let Some(issuer) = &issuer
            && issuer.get_ref().is_empty()
        {
            file.add(&issuer.span(), "inbox_issuer must not be empty");
        }
        Self { issuer }
    }

    /// Notes an event that is kept where nobody has an inbox.
    pub(super) fn check_kept(&self, file: &mut TomlFile<'_>, logged: &Range<usize>) {
        if self.issuer.is_none() {
            let problem =
                "logged needs the namespace to say inbox_issuer: whose users have an inbox";
            file.add(logged, problem);
        }
    }

    /// Notes inboxes into which nothing would ever come.
    pub(super) fn check_use(&self, file: &mut TomlFile<'_>, events: &[DeclaredEvent]) {
        if let Some(issuer) = &self.issuer
            && !events.iter().any(DeclaredEvent::goes_to_inbox)
        {
            let problem = "inbox_issuer means nothing without a logged event for a user";
            file.add(&issuer.span(), problem);
        }
    }

    pub(crate) fn are_kept(&self) -> bool {
        self.issuer.is_some()
    }

    /// Whether the users of an issuer have inboxes.
    pub(crate) fn are_of(&self, issuer: &str) -> bool {
        self.issuer.as_ref().is_some_and(|ours| **ours.get_ref() == *issuer)
    }

    /// The inbox of a user, if it has one.
    pub(crate) fn of(&self, namespace: &str, user: &User) -> Option<RoomKey> {
        let realm = Realm { tenant: user.tenant(), namespace };
        self.are_of(user.issuer()).then(|| RoomKey::inbox(realm, user.subject()).ok())?
    }
}
