//! Checks that the placeholders in JSON stand for attachments.

use smallvec::SmallVec;

use crate::json::{Cursor, NotJson};

/// Brackets that can be open at once before the check needs the heap.
const DEPTH_INLINE: usize = 64;

/// A placeholder stands for none of the attachments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BadPlaceholder;

impl From<NotJson> for BadPlaceholder {
    fn from(_: NotJson) -> Self {
        Self
    }
}

/// The member of an object whose value is next.
#[derive(Debug, Clone, Copy, Default)]
enum Member {
    #[default]
    Other,
    Placeholder,
    Num,
}

/// An object that may turn out to be a placeholder, or an array, which has no members. Of several
/// members with one name the last one counts, as in JavaScript.
#[derive(Debug, Clone, Copy, Default)]
struct Open {
    member: Member,
    is_placeholder: bool,
    is_num_in_range: bool,
}

impl Open {
    /// Takes note of the value of the current member; text of a scalar, or nothing.
    fn note(&mut self, scalar: &str, attachment_count: usize) {
        match self.member {
            Member::Other => {}
            Member::Placeholder => self.is_placeholder = scalar == "true",
            Member::Num => {
                self.is_num_in_range =
                    scalar.parse().is_ok_and(|num: usize| num < attachment_count);
            }
        }
    }
}

/// Checks every `{"_placeholder":true,"num":…}` in `elements`, the JSON text of a value or of the
/// elements of an array. An attachment may be used several times or not at all.
pub(crate) fn check(elements: &str, attachment_count: usize) -> Result<(), BadPlaceholder> {
    let mut open: SmallVec<[Open; DEPTH_INLINE]> = SmallVec::new();
    let mut cursor = Cursor::new(elements.as_bytes());
    let note = |open: &mut [Open], scalar: &str| {
        if let Some(innermost) = open.last_mut() {
            innermost.note(scalar, attachment_count);
        }
    };
    while let Some(next) = cursor.peek() {
        match next {
            b'[' | b'{' => {
                cursor.expect(next)?;
                note(&mut open, "");
                open.push(Open::default());
            }
            b']' | b'}' => {
                cursor.expect(next)?;
                if open.pop().is_some_and(|closed| closed.is_placeholder && !closed.is_num_in_range)
                {
                    return Err(BadPlaceholder);
                }
            }
            b',' => cursor.expect(next)?,
            b'"' => {
                let string = cursor.string()?;
                if !cursor.take(b':') {
                    note(&mut open, "");
                } else if let Some(object) = open.last_mut() {
                    object.member = match string.resolve(elements).as_deref() {
                        Some("_placeholder") => Member::Placeholder,
                        Some("num") => Member::Num,
                        Some(_) | None => Member::Other,
                    };
                }
            }
            _ => {
                let scalar = cursor.value()?;
                note(&mut open, elements.get(scalar).unwrap_or_default());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_for_an_attachment_are_taken() {
        let elements = [
            "",
            "1",
            r#"{"_placeholder":true,"num":0}"#,
            r#"{"_placeholder":true,"num":1},{"_placeholder":true,"num":1}"#,
            r#" { "num" : 1 , "_placeholder" : true } "#,
            r#"{"a":[[{"b":{"_placeholder":true,"num":0}}]]},"x",[]"#,
            r#"{"_placeholder":true,"num":9,"num":0}"#,
            r#"{"_placeholder":true,"_placeholder":false,"num":9}"#,
            r#"{"_placeholder":true,"num":0,"x":{"num":9}}"#,
            r#"{"_placeholder":false,"num":9}"#,
            r#"{"_placeholder":"true"}"#,
            r#"{"_placeholder":1}"#,
            r#"{"_placeholder":[true]}"#,
            r#"{"_placeholder":{"_placeholder":true,"num":0}}"#,
            r#"{"_Placeholder":true}"#,
            r#"{"a":"_placeholder","b":true}"#,
            r#"["_placeholder",true]"#,
            r#"{"num":9}"#,
            r#""{\"_placeholder\":true}""#,
        ];

        for elements in elements {
            assert_eq!(check(elements, 2), Ok(()), "{elements}");
        }
    }

    #[test]
    fn placeholders_for_nothing_are_refused() {
        let elements = [
            r#"{"_placeholder":true}"#,
            r#"{"_placeholder":true,"num":2}"#,
            r#"{"_placeholder":true,"num":-1}"#,
            r#"{"_placeholder":true,"num":-0}"#,
            r#"{"_placeholder":true,"num":1000000000}"#,
            r#"{"_placeholder":true,"num":99999999999999999999999}"#,
            r#"{"_placeholder":true,"num":0.5}"#,
            r#"{"_placeholder":true,"num":1e0}"#,
            r#"{"_placeholder":true,"num":1e400}"#,
            r#"{"_placeholder":true,"num":"0"}"#,
            r#"{"_placeholder":true,"num":"splice"}"#,
            r#"{"_placeholder":true,"num":null}"#,
            r#"{"_placeholder":true,"num":true}"#,
            r#"{"_placeholder":true,"num":[0]}"#,
            r#"{"_placeholder":true,"num":{"num":0}}"#,
            r#"{"num":0,"_placeholder":true,"num":2}"#,
            r#"{"_placeholder":false,"_placeholder":true,"num":2}"#,
            r#"{"\u005fplaceholder":true,"num":2}"#,
            r#"{"_placeholder":true,"n\u0075m":0,"num":2}"#,
            r#"1,{"a":[0,{"b":{"_placeholder":true,"num":2}}]}"#,
            r#"{"_placeholder":true,"num":0,"x":{"_placeholder":true,"num":2}}"#,
        ];

        for elements in elements {
            assert_eq!(check(elements, 2), Err(BadPlaceholder), "{elements}");
        }
    }

    #[test]
    fn a_placeholder_is_found_however_deep_it_is() {
        let depth = 100_000;
        let nested = |num| {
            let placeholder = format!(r#"{{"_placeholder":true,"num":{num}}}"#);
            r#"{"a":["#.repeat(depth) + &placeholder + &"]}".repeat(depth)
        };

        assert_eq!(check(&nested(0), 1), Ok(()));
        assert_eq!(check(&nested(1), 1), Err(BadPlaceholder));
    }
}
