//! Checks patterns for names, and fills in those that depend on a token's claims.
//!
//! The chat service reads what comes out of this. Both are held against `proto/testdata/patterns.txt`.

use serde_json::{Map, Value};

use crate::refusal::Refusal;

/// Longest pattern, in bytes.
const PATTERN_BYTES_MAX: usize = 256;

/// Stand for what is the user's own. They are filled in where rooms are, so that users with equal capabilities share them.
const PLACEHOLDERS: [&str; 2] = ["{subject}", "{issuer}"];

/// What begins a placeholder for a claim; a name and a brace end it.
const CLAIM_BEGIN: &str = "{claim:";

/// What means something in a pattern, and stands for itself behind a backslash.
const SPECIAL: [char; 4] = ['\\', '*', '{', '}'];

/// Names of rooms that begin with it are inboxes.
const INBOX_MARK: char = '@';

/// What the names are of that a pattern is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NameKind {
    /// Some may be a user's own.
    Room,
    Event,
}

/// Why a text is no pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParsePatternError {
    #[error("a pattern must have from 1 to {PATTERN_BYTES_MAX} bytes")]
    Length,
    #[error("a pattern must not have control characters")]
    ControlCharacter,
    #[error("a pattern of rooms must not begin with @: inboxes are each user's own")]
    Inbox,
    #[error(
        "a brace must be part of {{subject}} or {{issuer}}, for rooms, or stand behind a backslash"
    )]
    Brace,
    #[error("a backslash must stand before a backslash, an asterisk or a brace")]
    Backslash,
    #[error(
        "{{claim:NAME}} must name a claim other than `sub` and `iss`, which are {{subject}} and {{issuer}}"
    )]
    Claim,
}

/// A pattern in which parts are what a token claims.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Template {
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    /// Part of a pattern, as it is.
    Pattern(String),
    /// The text of this claim, in which nothing means anything.
    Claim(String),
}

/// Checks a pattern that depends on no claim.
pub(super) fn check(text: &str, kind: NameKind) -> Result<(), ParsePatternError> {
    if !(1..=PATTERN_BYTES_MAX).contains(&text.len()) {
        return Err(ParsePatternError::Length);
    }
    if text.chars().any(char::is_control) {
        return Err(ParsePatternError::ControlCharacter);
    }
    if kind == NameKind::Room && text.starts_with(INBOX_MARK) {
        return Err(ParsePatternError::Inbox);
    }
    let mut rest = text;
    while let Some(at) = rest.find(['\\', '{', '}']) {
        rest = &rest[at..];
        if let Some(after) = rest.strip_prefix('\\') {
            rest = after.strip_prefix(SPECIAL).ok_or(ParsePatternError::Backslash)?;
            continue;
        }
        let placeholders = PLACEHOLDERS.iter().filter(|_| kind == NameKind::Room);
        let mut after = placeholders.filter_map(|placeholder| rest.strip_prefix(placeholder));
        rest = after.next().ok_or(ParsePatternError::Brace)?;
    }
    Ok(())
}

impl Template {
    pub(super) fn parse(text: &str, kind: NameKind) -> Result<Self, ParsePatternError> {
        let mut pieces = Vec::new();
        let (mut begin, mut at) = (0, 0);
        while let Some(found) = text[at..].find(['\\', '{']) {
            at += found;
            if text[at..].starts_with('\\') {
                // What follows is looked at when all of it is.
                let escaped = text[at + 1..].chars().next();
                at += 1 + escaped.map_or(0, char::len_utf8);
                continue;
            }
            let Some(after) = text[at..].strip_prefix(CLAIM_BEGIN) else {
                at += 1;
                continue;
            };
            let (name, after) = after.split_once('}').ok_or(ParsePatternError::Claim)?;
            if ["", "sub", "iss"].contains(&name) {
                return Err(ParsePatternError::Claim);
            }
            pieces.push(Piece::Pattern(text[begin..at].to_owned()));
            pieces.push(Piece::Claim(name.to_owned()));
            at = text.len() - after.len();
            begin = at;
        }
        pieces.push(Piece::Pattern(text[begin..].to_owned()));
        let template = Self { pieces };
        // Whatever a claim says, it is text. One byte of it tells whether the rest makes a pattern.
        check(&template.filled_with(|_| Some("x"))?, kind)?;
        Ok(template)
    }

    /// Fills in what a token claims. A claim that is not there, is no text or has nothing in it makes no pattern: the rest of it could
    /// be one for more rooms than were meant. What is too long or has control characters is noticed when all is checked.
    pub(super) fn fill(&self, claims: &Map<String, Value>) -> Result<String, Refusal> {
        let claim =
            |name: &str| claims.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        self.filled_with(claim).map_err(|_| Refusal::Capabilities)
    }

    fn filled_with<'c>(
        &self,
        claim: impl Fn(&str) -> Option<&'c str>,
    ) -> Result<String, ParsePatternError> {
        let mut filled = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Pattern(text) => filled.push_str(text),
                Piece::Claim(name) => {
                    let value = claim(name).ok_or(ParsePatternError::Claim)?;
                    for char in value.chars() {
                        if SPECIAL.contains(&char) {
                            filled.push('\\');
                        }
                        filled.push(char);
                    }
                }
            }
        }
        Ok(filled)
    }
}
