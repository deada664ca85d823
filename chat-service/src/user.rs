//! Says who a socket speaks for, and what others may know of it.

use std::{
    cmp::Ordering,
    fmt,
    hash::{Hash, Hasher},
};

use serde_json::value::RawValue;
use thiserror::Error;

use crate::room_key::is_tenant;

/// A user as its verified token describes it.
///
/// Two values are equal when they are the same user: same tenant, same issuer, same subject. What the profile says plays no part.
pub(crate) struct User {
    tenant: Box<str>,
    subject: Box<str>,
    issuer: Box<str>,
    profile: Box<RawValue>,
}

/// Why an identity is unusable. It comes from the auth service, so that either is a fault of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum UserError {
    #[error("the identity has no subject or no issuer")]
    Nameless,
    #[error("the tenant has more than 128 bytes, or control characters")]
    Tenant,
    #[error("the profile is not a JSON object")]
    Profile,
}

impl User {
    /// Whose it is comes first: empty is the default tenant.
    pub(crate) fn parse_of(
        tenant: &str,
        (subject, issuer): (&str, &str),
        profile: &[u8],
    ) -> Result<Self, UserError> {
        if subject.is_empty() || issuer.is_empty() {
            return Err(UserError::Nameless);
        }
        if !is_tenant(tenant) {
            return Err(UserError::Tenant);
        }
        let profile: Box<RawValue> =
            serde_json::from_slice(profile).map_err(|_| UserError::Profile)?;
        if !profile.get().starts_with('{') {
            return Err(UserError::Profile);
        }
        let (subject, issuer) = (subject.into(), issuer.into());
        Ok(Self { tenant: tenant.into(), subject, issuer, profile })
    }

    /// One of the default tenant.
    #[cfg(test)]
    pub(crate) fn parse(subject: &str, issuer: &str, profile: &[u8]) -> Result<Self, UserError> {
        Self::parse_of("", (subject, issuer), profile)
    }

    /// Whose it is. Empty: the default tenant's.
    pub(crate) fn tenant(&self) -> &str {
        &self.tenant
    }

    /// Its name within its issuer. Not for other users.
    pub(crate) fn subject(&self) -> &str {
        &self.subject
    }

    /// Who says so. Not for other users.
    pub(crate) fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Whether it is the same, whatever others see of it.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self == other
    }

    /// What other users may see of it: a JSON object.
    pub(crate) fn profile(&self) -> &RawValue {
        &self.profile
    }
}

impl PartialEq for User {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for User {}

impl PartialOrd for User {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for User {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_subject = self.subject.cmp(&other.subject);
        by_subject
            .then_with(|| self.issuer.cmp(&other.issuer))
            .then_with(|| self.tenant.cmp(&other.tenant))
    }
}

impl Hash for User {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.subject.hash(state);
        self.issuer.hash(state);
        self.tenant.hash(state);
    }
}

impl fmt::Debug for User {
    /// Leaves the profile out: logs hold no personal data.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut user = formatter.debug_struct("User");
        user.field("subject", &self.subject).field("tenant", &self.tenant).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_subject_of_another_issuer_is_another_user() {
        let ann = User::parse("ann", "a", b"{}").unwrap();

        assert_eq!(ann, User::parse("ann", "a", br#"{"name":"Ann"}"#).unwrap());
        assert_ne!(ann, User::parse("ann", "b", b"{}").unwrap());
    }

    #[test]
    fn the_same_subject_of_another_tenant_is_another_user() {
        let of = |tenant: &str| User::parse_of(tenant, ("ann", "a"), b"{}").unwrap();

        assert_eq!(of("acme"), of("acme"));
        assert_ne!(of("acme"), of("zinc"));
        assert_ne!(of("acme"), User::parse("ann", "a", b"{}").unwrap());
        assert!(!of("acme").is_same(&of("zinc")) && of("zinc").is_same(&of("zinc")));
    }

    #[test]
    fn refuses_what_is_no_tenant() {
        for tenant in ["a\u{1}b", "\0", &"x".repeat(129)] {
            let user = User::parse_of(tenant, ("ann", "a"), b"{}");
            assert_eq!(user.unwrap_err(), UserError::Tenant);
        }
        assert!(User::parse_of(&"x".repeat(128), ("ann", "a"), b"{}").is_ok());
    }

    #[test]
    fn refuses_a_profile_that_is_not_an_object() {
        for profile in [&b""[..], b"[]", b"null", b"{", b"{}{}", b"\"x\"", b"{\"a\":\xff}"] {
            assert_eq!(User::parse("ann", "a", profile).unwrap_err(), UserError::Profile);
        }
        assert_eq!(User::parse("", "a", b"{}").unwrap_err(), UserError::Nameless);
        assert_eq!(User::parse("ann", "", b"{}").unwrap_err(), UserError::Nameless);
    }
}
