//! Matches names with patterns: `*` stands for any text, also none, in linear time.

use std::borrow::Cow;

use thiserror::Error;

use crate::{room_key::INBOX_MARK, user::User};

const WILDCARD: char = '*';
const SUBJECT: &str = "{subject}";
const ISSUER: &str = "{issuer}";

/// A pattern for names of rooms, some of which are a user's own.
#[derive(Debug)]
pub(super) struct RoomPattern {
    /// What stands between the wildcards.
    literals: Vec<Literal>,
}

/// A pattern for names that have nothing to do with users.
#[derive(Debug)]
pub(super) struct NamePattern {
    literals: Vec<Box<str>>,
}

/// Text in which parts are the user's.
#[derive(Debug)]
struct Literal(Vec<Piece>);

#[derive(Debug)]
enum Piece {
    Text(Box<str>),
    Subject,
    Issuer,
}

/// Why a text is no pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(super) enum ParsePatternError {
    #[error("it must not be empty")]
    Empty,
    #[error("it must not have control characters")]
    ControlCharacter,
    #[error("it must not begin with @: inboxes are each user's own")]
    Inbox,
    #[error("a brace must be part of {SUBJECT} or {ISSUER}")]
    Brace,
}

impl RoomPattern {
    pub(super) fn parse(text: &str) -> Result<Self, ParsePatternError> {
        check(text)?;
        if text.starts_with(INBOX_MARK) {
            return Err(ParsePatternError::Inbox);
        }
        let literals = text.split(WILDCARD).map(Literal::parse).collect::<Result<_, _>>()?;
        Ok(Self { literals })
    }

    pub(super) fn matches(&self, user: &User, name: &str) -> bool {
        matches(self.literals.iter().map(|literal| literal.of(user)), name)
    }
}

impl NamePattern {
    pub(super) fn parse(text: &str) -> Result<Self, ParsePatternError> {
        check(text)?;
        Ok(Self { literals: text.split(WILDCARD).map(Into::into).collect() })
    }

    pub(super) fn matches(&self, name: &str) -> bool {
        matches(self.literals.iter().map(|literal| Cow::Borrowed(&**literal)), name)
    }
}

impl Literal {
    fn parse(text: &str) -> Result<Self, ParsePatternError> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            let (before, placeholder) = rest.split_at(at);
            pieces.push(Piece::Text(before.into()));
            let (piece, after) = if let Some(after) = placeholder.strip_prefix(SUBJECT) {
                (Piece::Subject, after)
            } else if let Some(after) = placeholder.strip_prefix(ISSUER) {
                (Piece::Issuer, after)
            } else {
                return Err(ParsePatternError::Brace);
            };
            pieces.push(piece);
            rest = after;
        }
        pieces.push(Piece::Text(rest.into()));
        Ok(Self(pieces))
    }

    /// The text for a user. An asterisk in a subject is an asterisk.
    fn of(&self, user: &User) -> Cow<'_, str> {
        if let [Piece::Text(text)] = &*self.0 {
            return Cow::Borrowed(text);
        }
        let pieces = self.0.iter().map(|piece| match piece {
            Piece::Text(text) => text,
            Piece::Subject => user.subject(),
            Piece::Issuer => user.issuer(),
        });
        Cow::Owned(pieces.collect())
    }
}

fn check(text: &str) -> Result<(), ParsePatternError> {
    if text.is_empty() {
        return Err(ParsePatternError::Empty);
    }
    if text.chars().any(char::is_control) {
        return Err(ParsePatternError::ControlCharacter);
    }
    Ok(())
}

/// Whether a name begins with the first literal, ends with the last, and has the others in between, in order. Each is taken
/// where it comes first, so nothing is looked at twice.
fn matches<'l>(mut literals: impl DoubleEndedIterator<Item = Cow<'l, str>>, name: &str) -> bool {
    let Some(first) = literals.next() else { return false };
    let Some(last) = literals.next_back() else { return *first == *name };
    let Some(rest) = name.strip_prefix(&*first) else { return false };
    let Some(mut rest) = rest.strip_suffix(&*last) else { return false };
    for literal in literals {
        let Some((_, after)) = rest.split_once(&*literal) else { return false };
        rest = after;
    }
    true
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn user(subject: &str) -> User {
        User::parse(subject, "https://issuer", b"{}").unwrap()
    }

    fn is_match(pattern: &str, subject: &str, name: &str) -> bool {
        RoomPattern::parse(pattern).unwrap().matches(&user(subject), name)
    }

    /// By the definition, and as slow as that is.
    fn is_match_by_definition(pattern: &[char], name: &[char]) -> bool {
        match (pattern, name) {
            ([], []) => true,
            (['*', rest @ ..], _) => {
                (0..=name.len()).any(|taken| is_match_by_definition(rest, &name[taken..]))
            }
            ([one, pattern @ ..], [other, name @ ..]) => {
                one == other && is_match_by_definition(pattern, name)
            }
            ([], _) | (_, []) => false,
        }
    }

    proptest! {
        #[test]
        fn a_pattern_matches_what_its_definition_says(pattern in "[ab*]{1,7}", name in "[ab]{0,9}") {
            let chars = |text: &str| text.chars().collect::<Vec<_>>();

            let by_definition = is_match_by_definition(&chars(&pattern), &chars(&name));
            prop_assert_eq!(is_match(&pattern, "ann", &name), by_definition);
            prop_assert_eq!(NamePattern::parse(&pattern).unwrap().matches(&name), by_definition);
        }
    }

    #[test]
    fn a_placeholder_is_the_users_own_text_and_nothing_else() {
        assert!(is_match("user.{subject}.*", "ann", "user.ann.files"));
        assert!(!is_match("user.{subject}.*", "ann", "user.bob.files"));
        assert!(is_match("{issuer}/{subject}", "ann", "https://issuer/ann"));
        assert!(!is_match("user.{subject}", "*", "user.ann"));
        assert!(is_match("user.{subject}", "*", "user.*"));
        assert!(!is_match("user.{subject}", "{issuer}", "user.https://issuer"));
    }

    #[test]
    fn says_why_a_text_is_no_pattern() {
        for (text, error) in [
            ("", ParsePatternError::Empty),
            ("a\nb", ParsePatternError::ControlCharacter),
            ("@ann", ParsePatternError::Inbox),
            ("{sub}", ParsePatternError::Brace),
            ("{subject", ParsePatternError::Brace),
            ("a}", ParsePatternError::Brace),
        ] {
            assert_eq!(RoomPattern::parse(text).unwrap_err(), error, "{text}");
        }
    }
}
