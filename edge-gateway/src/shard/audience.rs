//! Whom an audience names, and whom it leaves out.

use proto::edge::v1::Audience;

use super::{NamespaceKey, Shard, SocketKey, fan_out::Marks, rooms::UserName};
use crate::socket::Identity;

/// Subject, issuer and tenant of a socket's user, if it has one.
pub(super) type Owner<'a> = Option<(&'a str, &'a str, &'a str)>;

impl Shard {
    /// The sockets of the users that an audience names.
    pub(super) fn users_of<'a>(
        &'a self,
        namespace: NamespaceKey,
        audience: &'a Audience,
    ) -> impl Iterator<Item = SocketKey> + 'a {
        let Audience { tenant, users_issuer: issuer, .. } = audience;
        let sockets = audience.users.iter().flat_map(move |subject| {
            self.rooms.of_user(namespace, UserName { tenant, subject }).iter().copied()
        });
        // Two issuers may each have a user of the same subject.
        let is_theirs = |identity: &Identity| *identity.issuer == **issuer;
        sockets.filter(move |key| {
            let identity = || self.sockets.get(key.index())?.identity.as_deref();
            issuer.is_empty() || identity().is_some_and(is_theirs)
        })
    }

    /// Marks those who must not get what the others do.
    pub(super) fn mark_exceptions(
        &self,
        namespace: NamespaceKey,
        audience: &Audience,
        marks: &mut Marks,
    ) {
        for room in &audience.except_rooms {
            for socket in self.rooms.in_room(namespace, room) {
                marks.first(*socket);
            }
        }
        for subject in &audience.except_users {
            let user = UserName { tenant: &audience.tenant, subject };
            for socket in self.rooms.of_user(namespace, user) {
                marks.first(*socket);
            }
        }
        for handle in &audience.except_sockets {
            if let Some(socket) = self.socket_by_handle(*handle) {
                marks.first(socket);
            }
        }
    }
}

/// Whether an audience names everyone of a tenant, and a socket is one of them.
pub(super) fn has_everyone_of(audience: &Audience, owner: Owner<'_>) -> bool {
    audience.everyone && *audience.tenant == *owner.map_or("", |(_, _, tenant)| tenant)
}

/// Whether an audience names a socket's user.
pub(super) fn names_user(audience: &Audience, owner: Owner<'_>) -> bool {
    let Audience { users, users_issuer, .. } = audience;
    is_one_of(users, audience, owner)
        && (users_issuer.is_empty() || owner.is_some_and(|(_, issuer, _)| *users_issuer == issuer))
}

/// Whether an audience leaves a socket's user out.
pub(super) fn excepts_user(audience: &Audience, owner: Owner<'_>) -> bool {
    is_one_of(&audience.except_users, audience, owner)
}

fn is_one_of(users: &[String], audience: &Audience, owner: Owner<'_>) -> bool {
    owner.is_some_and(|(subject, _, tenant)| {
        *audience.tenant == *tenant && users.iter().any(|user| *user == subject)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANN: Owner<'_> = Some(("ann", "https://a", "acme"));

    #[test]
    fn everyone_is_everyone_of_one_tenant() {
        let of = |tenant: &str| Audience {
            everyone: true,
            tenant: tenant.to_owned(),
            ..Audience::default()
        };

        assert!(has_everyone_of(&of("acme"), ANN) && has_everyone_of(&of(""), None));
        assert!(!has_everyone_of(&of("zinc"), ANN) && !has_everyone_of(&of(""), ANN));
        assert!(!has_everyone_of(&of("acme"), None));
        assert!(!has_everyone_of(&Audience { everyone: false, ..of("acme") }, ANN));
    }

    #[test]
    fn a_user_is_named_by_tenant_subject_and_issuer() {
        let of = |tenant: &str, subject: &str, issuer: &str| Audience {
            tenant: tenant.to_owned(),
            users: vec!["bob".to_owned(), subject.to_owned()],
            users_issuer: issuer.to_owned(),
            except_users: vec![subject.to_owned()],
            ..Audience::default()
        };

        assert!(names_user(&of("acme", "ann", "https://a"), ANN));
        assert!(names_user(&of("acme", "ann", ""), ANN), "of each issuer");
        assert!(!names_user(&of("acme", "ann", "https://b"), ANN));
        for audience in [of("zinc", "ann", ""), of("", "ann", ""), of("acme", "eve", "")] {
            assert!(!names_user(&audience, ANN) && !excepts_user(&audience, ANN));
        }
        assert!(excepts_user(&of("acme", "ann", "https://b"), ANN), "whoever the issuer is");
        assert!(!names_user(&of("", "ann", ""), None) && !excepts_user(&of("", "ann", ""), None));
    }
}
