//! Says who a socket speaks for, and what others may know of it.

use std::{
    cmp::Ordering,
    fmt,
    hash::{Hash, Hasher},
};

use serde_json::value::RawValue;
use thiserror::Error;

/// A user as its verified token describes it.
///
/// Two values are equal when they are the same user: same issuer, same subject. What the profile says plays no part.
pub(crate) struct User {
    subject: Box<str>,
    issuer: Box<str>,
    profile: Box<RawValue>,
}

/// Why an identity is unusable. It comes from the auth service, so that either is a fault of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum UserError {
    #[error("the identity has no subject or no issuer")]
    Nameless,
    #[error("the profile is not a JSON object")]
    Profile,
}

impl User {
    pub(crate) fn parse(subject: &str, issuer: &str, profile: &[u8]) -> Result<Self, UserError> {
        if subject.is_empty() || issuer.is_empty() {
            return Err(UserError::Nameless);
        }
        let profile: Box<RawValue> =
            serde_json::from_slice(profile).map_err(|_| UserError::Profile)?;
        if !profile.get().starts_with('{') {
            return Err(UserError::Profile);
        }
        Ok(Self { subject: subject.into(), issuer: issuer.into(), profile })
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
        (&self.subject, &self.issuer) == (&other.subject, &other.issuer)
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
        self.subject.cmp(&other.subject).then_with(|| self.issuer.cmp(&other.issuer))
    }
}

impl Hash for User {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.subject.hash(state);
        self.issuer.hash(state);
    }
}

impl fmt::Debug for User {
    /// Leaves the profile out: logs hold no personal data.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("User").field("subject", &self.subject).finish_non_exhaustive()
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
    fn refuses_a_profile_that_is_not_an_object() {
        for profile in [&b""[..], b"[]", b"null", b"{", b"{}{}", b"\"x\"", b"{\"a\":\xff}"] {
            assert_eq!(User::parse("ann", "a", profile).unwrap_err(), UserError::Profile);
        }
        assert_eq!(User::parse("", "a", b"{}").unwrap_err(), UserError::Nameless);
        assert_eq!(User::parse("ann", "", b"{}").unwrap_err(), UserError::Nameless);
    }
}
