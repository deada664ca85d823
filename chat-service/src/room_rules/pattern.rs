//! Matches names with patterns: `*` stands for any text, also none, in linear time.
//!
//! The auth service writes such patterns, too. Both are held against `proto/testdata/patterns.txt`.

use std::borrow::Cow;

use thiserror::Error;

use crate::{room_key::INBOX_MARK, user::User};

/// Longest pattern, in bytes.
const PATTERN_BYTES_MAX: usize = 256;

const ESCAPE: char = '\\';
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
pub(crate) enum ParsePatternError {
    #[error("it must have from 1 to {PATTERN_BYTES_MAX} bytes")]
    Length,
    #[error("it must not have control characters")]
    ControlCharacter,
    #[error("it must not begin with @: inboxes are each user's own")]
    Inbox,
    #[error(
        "a brace must be part of {SUBJECT} or {ISSUER}, for rooms, or stand behind a backslash"
    )]
    Brace,
    #[error("a backslash must stand before a backslash, an asterisk or a brace")]
    Backslash,
}

impl RoomPattern {
    pub(super) fn parse(text: &str) -> Result<Self, ParsePatternError> {
        check(text)?;
        if text.starts_with(INBOX_MARK) {
            return Err(ParsePatternError::Inbox);
        }
        Ok(Self { literals: literals(text)?.into_iter().map(Literal).collect() })
    }

    pub(super) fn matches(&self, user: &User, name: &str) -> bool {
        matches(self.literals.iter().map(|literal| literal.of(user)), name)
    }
}

impl NamePattern {
    pub(super) fn parse(text: &str) -> Result<Self, ParsePatternError> {
        check(text)?;
        let literals = literals(text)?.into_iter().map(|pieces| match pieces.as_slice() {
            [] => Ok("".into()),
            [Piece::Text(text)] => Ok(text.clone()),
            [..] => Err(ParsePatternError::Brace),
        });
        Ok(Self { literals: literals.collect::<Result<_, _>>()? })
    }

    pub(super) fn matches(&self, name: &str) -> bool {
        matches(self.literals.iter().map(|literal| Cow::Borrowed(&**literal)), name)
    }
}

/// What stands between the wildcards of a pattern. Texts are not empty, and no two of them lie side by side.
fn literals(pattern: &str) -> Result<Vec<Vec<Piece>>, ParsePatternError> {
    let mut literals = vec![Vec::new()];
    let mut text = String::new();
    let mut rest = pattern;
    while let Some(next) = rest.chars().next() {
        let after = &rest[next.len_utf8()..];
        let piece = match next {
            ESCAPE => {
                let escaped =
                    after.chars().next().filter(|one| [ESCAPE, WILDCARD, '{', '}'].contains(one));
                text.push(escaped.ok_or(ParsePatternError::Backslash)?);
                rest = &after[1..];
                continue;
            }
            WILDCARD => None,
            '{' | '}' if rest.starts_with(SUBJECT) => Some((Piece::Subject, SUBJECT)),
            '{' | '}' if rest.starts_with(ISSUER) => Some((Piece::Issuer, ISSUER)),
            '{' | '}' => return Err(ParsePatternError::Brace),
            char => {
                text.push(char);
                rest = after;
                continue;
            }
        };
        let literal = literals.last_mut().expect("there is one from the beginning");
        if !text.is_empty() {
            literal.push(Piece::Text(std::mem::take(&mut text).into()));
        }
        if let Some((piece, placeholder)) = piece {
            literal.push(piece);
            rest = &rest[placeholder.len()..];
        } else {
            literals.push(Vec::new());
            rest = after;
        }
    }
    if !text.is_empty() {
        literals
            .last_mut()
            .expect("there is one from the beginning")
            .push(Piece::Text(text.into()));
    }
    Ok(literals)
}

impl Literal {
    /// The text for a user. An asterisk in a subject is an asterisk.
    fn of(&self, user: &User) -> Cow<'_, str> {
        match &*self.0 {
            [] => return Cow::Borrowed(""),
            [Piece::Text(text)] => return Cow::Borrowed(text),
            [..] => {}
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
    if !(1..=PATTERN_BYTES_MAX).contains(&text.len()) {
        return Err(ParsePatternError::Length);
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
    fn patterns_are_those_of_the_contract() {
        let user = User::parse("a*b", "i", b"{}").unwrap();
        let mut count = 0;
        for line in include_str!("../../../proto/testdata/patterns.txt").lines() {
            let fields: Vec<_> = line.splitn(3, ' ').collect();
            let (found, expected) = match fields[..] {
                ["good" | "bad", "room", text] => {
                    (RoomPattern::parse(text).is_ok(), line.starts_with("good"))
                }
                ["good" | "bad", "event", text] => {
                    (NamePattern::parse(text).is_ok(), line.starts_with("good"))
                }
                ["yes" | "no", pattern, name] => {
                    let pattern = RoomPattern::parse(pattern).unwrap();
                    (pattern.matches(&user, name), line.starts_with("yes"))
                }
                _ => continue,
            };
            assert_eq!(found, expected, "{line}");
            count += 1;
        }
        assert_eq!(count, 24 + 13);
    }

    #[test]
    fn says_why_a_text_is_no_pattern() {
        for (text, error) in [
            ("", ParsePatternError::Length),
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
