//! Walks over JSON text (RFC 8259) without building anything from it.
//!
//! A gateway needs to know that a payload is JSON and where its elements begin and end, not what
//! they say. The walk keeps its own stack of open brackets, so nesting costs a byte a level and
//! never the call stack; numbers are not computed and escapes not resolved, so neither `1e400` nor
//! a lone surrogate is a problem.

use std::borrow::Cow;
use std::ops::Range;

use smallvec::SmallVec;

/// Brackets that can be open at once before the walk needs the heap.
const DEPTH_INLINE: usize = 64;

/// The text is not JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotJson;

/// Where a string stands in a JSON text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StringSpan {
    /// What is between the quotes.
    pub(crate) inside: Range<usize>,
    pub(crate) has_escapes: bool,
}

impl StringSpan {
    /// Returns what the string says. `None` if that is no Unicode text, because of a surrogate
    /// without its partner.
    pub(crate) fn resolve<'a>(&self, text: &'a str) -> Option<Cow<'a, str>> {
        if !self.has_escapes {
            return text.get(self.inside.clone()).map(Cow::Borrowed);
        }
        let quoted = self.inside.start.checked_sub(1)?..self.inside.end.checked_add(1)?;
        serde_json::from_str(text.get(quoted)?).ok().map(Cow::Owned)
    }
}

/// A position in a JSON text. What takes something takes the whitespace before it, too.
#[derive(Debug, Clone)]
pub(crate) struct Cursor<'a> {
    text_len: usize,
    rest: &'a [u8],
    deepest: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) const fn new(text: &'a [u8]) -> Self {
        Self { text_len: text.len(), rest: text, deepest: 0 }
    }

    /// Returns how many bytes are before this position.
    pub(crate) const fn offset(&self) -> usize {
        self.text_len.saturating_sub(self.rest.len())
    }

    /// Returns how many brackets were open at once in the deepest of the values that were taken.
    pub(crate) const fn depth(&self) -> usize {
        self.deepest
    }

    /// Skips whitespace and returns the byte that is next.
    pub(crate) fn peek(&mut self) -> Option<u8> {
        while let [b' ' | b'\t' | b'\n' | b'\r', rest @ ..] = self.rest {
            self.rest = rest;
        }
        self.rest.first().copied()
    }

    /// Takes `byte` if it is next.
    pub(crate) fn take(&mut self, byte: u8) -> bool {
        let is_next = self.peek() == Some(byte);
        if is_next {
            self.skip(1);
        }
        is_next
    }

    /// Takes `byte`, which must be next.
    pub(crate) fn expect(&mut self, byte: u8) -> Result<(), NotJson> {
        if self.take(byte) { Ok(()) } else { Err(NotJson) }
    }

    /// Fails unless nothing but whitespace is left.
    pub(crate) fn end(&mut self) -> Result<(), NotJson> {
        if self.peek().is_none() { Ok(()) } else { Err(NotJson) }
    }

    /// Takes one value with all that is in it, and returns where it stands.
    pub(crate) fn value(&mut self) -> Result<Range<usize>, NotJson> {
        self.peek();
        let start = self.offset();
        let mut closings: SmallVec<[u8; DEPTH_INLINE]> = SmallVec::new();
        loop {
            if self.take(b'[') {
                self.opened_in(closings.len());
                if !self.take(b']') {
                    closings.push(b']');
                    continue;
                }
            } else if self.take(b'{') {
                self.opened_in(closings.len());
                if !self.take(b'}') {
                    closings.push(b'}');
                    self.key()?;
                    continue;
                }
            } else {
                self.scalar()?;
            }

            loop {
                let Some(&closing) = closings.last() else {
                    return Ok(start..self.offset());
                };
                if self.take(b',') {
                    if closing == b'}' {
                        self.key()?;
                    }
                    break;
                }
                self.expect(closing)?;
                closings.pop();
            }
        }
    }

    /// Takes the elements of an array whose opening bracket has been taken, and its closing
    /// bracket. Returns where the elements stand; there is at least one.
    pub(crate) fn elements(&mut self) -> Result<Range<usize>, NotJson> {
        let mut elements = self.value()?;
        while self.take(b',') {
            elements.end = self.value()?.end;
        }
        self.expect(b']')?;
        Ok(elements)
    }

    /// Takes a string and the colon after it.
    pub(crate) fn key(&mut self) -> Result<StringSpan, NotJson> {
        let key = self.string()?;
        self.expect(b':')?;
        Ok(key)
    }

    /// Takes a string.
    pub(crate) fn string(&mut self) -> Result<StringSpan, NotJson> {
        self.expect(b'"')?;
        let start = self.offset();
        let mut has_escapes = false;
        loop {
            self.skip(plain_len(self.rest));
            match self.rest {
                [b'"', rest @ ..] => {
                    let inside = start..self.offset();
                    self.rest = rest;
                    return Ok(StringSpan { inside, has_escapes });
                }
                [b'\\', b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', rest @ ..] => {
                    self.rest = rest;
                }
                [b'\\', b'u', a, b, c, d, rest @ ..]
                    if [a, b, c, d].iter().all(|digit| digit.is_ascii_hexdigit()) =>
                {
                    self.rest = rest;
                }
                _ => return Err(NotJson),
            }
            has_escapes = true;
        }
    }

    /// Notes that a bracket has been opened, in so many others.
    fn opened_in(&mut self, open: usize) {
        self.deepest = self.deepest.max(open.saturating_add(1));
    }

    fn scalar(&mut self) -> Result<(), NotJson> {
        match self.peek() {
            Some(b'"') => self.string().map(drop),
            Some(b't') => self.literal(b"true"),
            Some(b'f') => self.literal(b"false"),
            Some(b'n') => self.literal(b"null"),
            _ => self.number(),
        }
    }

    fn literal(&mut self, literal: &[u8]) -> Result<(), NotJson> {
        self.rest = self.rest.strip_prefix(literal).ok_or(NotJson)?;
        Ok(())
    }

    fn number(&mut self) -> Result<(), NotJson> {
        if let [b'-', rest @ ..] = self.rest {
            self.rest = rest;
        }
        if let [b'0', rest @ ..] = self.rest {
            self.rest = rest;
        } else {
            self.digits()?;
        }
        if let [b'.', rest @ ..] = self.rest {
            self.rest = rest;
            self.digits()?;
        }
        if let [b'e' | b'E', b'+' | b'-', rest @ ..] | [b'e' | b'E', rest @ ..] = self.rest {
            self.rest = rest;
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), NotJson> {
        let digit_count = self.rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.skip(digit_count);
        if digit_count > 0 { Ok(()) } else { Err(NotJson) }
    }

    fn skip(&mut self, len: usize) {
        self.rest = self.rest.get(len..).unwrap_or_default();
    }
}

/// Returns how many bytes of a string come before the next quote, escape or control character.
/// Whole blocks are tested without branches, which the compiler turns into wide comparisons.
fn plain_len(bytes: &[u8]) -> usize {
    let is_special = |byte: u8| byte < b' ' || byte == b'"' || byte == b'\\';
    let (blocks, _) = bytes.as_chunks::<16>();
    let plain_blocks = blocks
        .iter()
        .take_while(|block| !block.iter().fold(false, |any, &byte| any | is_special(byte)))
        .count();
    let tail = bytes.get(plain_blocks.saturating_mul(16)..).unwrap_or_default();
    let plain_tail = tail.iter().take_while(|&&byte| !is_special(byte)).count();
    plain_blocks.saturating_mul(16).saturating_add(plain_tail)
}

/// Returns how many bytes [`put_quoted`] appends.
pub(crate) fn quoted_len(text: &str) -> usize {
    let escaped_len = |byte| match escape_letter(byte) {
        None => 1,
        Some(b'u') => 6,
        Some(_) => 2,
    };
    text.bytes().fold(2, |sum: usize, byte| sum.saturating_add(escaped_len(byte)))
}

/// Appends `text` as a JSON string.
pub(crate) fn put_quoted(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    for byte in text.bytes() {
        match escape_letter(byte) {
            None => out.push(byte),
            Some(b'u') => {
                out.extend_from_slice(b"\\u00");
                out.extend([byte >> 4, byte & 0xF].map(|digit| match digit {
                    0..=9 => b'0' | digit,
                    _ => (b'a' - 10).wrapping_add(digit),
                }));
            }
            Some(letter) => out.extend_from_slice(&[b'\\', letter]),
        }
    }
    out.push(b'"');
}

const fn escape_letter(byte: u8) -> Option<u8> {
    match byte {
        b'"' | b'\\' => Some(byte),
        0x08 => Some(b'b'),
        b'\t' => Some(b't'),
        b'\n' => Some(b'n'),
        0x0C => Some(b'f'),
        b'\r' => Some(b'r'),
        0x00..=0x1F => Some(b'u'),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::value::RawValue;

    use super::*;

    fn is_json(text: &str) -> bool {
        let mut cursor = Cursor::new(text.as_bytes());
        cursor.value().is_ok() && cursor.end().is_ok()
    }

    fn is_json_to_serde(text: &str) -> bool {
        serde_json::from_str::<&RawValue>(text).is_ok()
    }

    #[test]
    fn json_is_taken() {
        let json = [
            "null",
            "true",
            "false",
            "0",
            "-0",
            "12",
            "1.0",
            "-1.5e-3",
            "1E+2",
            "1e400",
            "\"\"",
            "[]",
            "{}",
            " [ ] ",
            "\t{\r\n}",
            "[1,2,[3,{}],{\"a\":[]}]",
            "{\"a\":1,\"a\":2}",
            "{\"\":{\"b\":[null]}}",
            r#""\"\\\/\b\f\n\r\t\u00e9\uD800""#,
            "\"é🎈\u{7f}\u{2028}\"",
        ];

        for text in json {
            assert!(is_json(text), "{text:?}");
            assert!(is_json_to_serde(text), "{text:?}");
        }
    }

    #[test]
    fn what_only_looks_like_json_is_refused() {
        let no_json = [
            "",
            " ",
            "nul",
            "nulll",
            "True",
            "01",
            "-",
            "+1",
            "1.",
            ".5",
            "1e",
            "1e+",
            "0x1",
            "NaN",
            "Infinity",
            "\"",
            "\"a",
            "'a'",
            r#""\x""#,
            r#""\u12""#,
            r#""\u12g4""#,
            r#""\"#,
            "\"\n\"",
            "\"\0\"",
            "[",
            "]",
            "[1",
            "[1,",
            "[1,]",
            "[,1]",
            "[1 2]",
            "[1}",
            "{",
            "}",
            "{1:2}",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{\"a\":1]",
            "{,}",
            "[]]",
            "1 2",
            "// x",
            "\u{feff}1",
            "\u{a0}1",
            "[\u{c}]",
        ];

        for text in no_json {
            assert!(!is_json(text), "{text:?}");
            assert!(!is_json_to_serde(text), "{text:?}");
        }
    }

    #[test]
    fn nesting_is_bounded_by_the_text_alone() {
        for depth in [DEPTH_INLINE, DEPTH_INLINE + 1, 10_000, 100_000] {
            let arrays = "[".repeat(depth) + &"]".repeat(depth);
            let objects = r#"{"a":"#.repeat(depth) + "1" + &"}".repeat(depth);

            assert!(is_json(&arrays));
            assert!(is_json(&objects));
            assert!(!is_json(&arrays[..arrays.len() - 1]));
            assert!(!is_json(&(objects + "}")));
        }
    }

    #[test]
    fn depth_is_that_of_the_deepest_value() {
        let cases = [
            ("1", 0),
            (r#""[[""#, 0),
            ("[]", 1),
            ("{}", 1),
            ("[1,[2],3]", 2),
            (r#"{"a":[],"b":{"c":[1]}}"#, 3),
            ("[[[]],[],[[]]]", 3),
            (r#"[[],{"a":1},[],{}]"#, 2),
        ];

        for (text, depth) in cases {
            let mut cursor = Cursor::new(text.as_bytes());
            cursor.value().unwrap();
            assert_eq!(cursor.depth(), depth, "{text}");
        }
        let mut cursor = Cursor::new(b"[[1]],[]");
        assert!(cursor.value().is_ok() && cursor.take(b',') && cursor.value().is_ok());
        assert_eq!(cursor.depth(), 2);
    }

    #[test]
    fn a_special_character_is_found_at_every_place_of_a_block() {
        for len in 0..40 {
            let plain = "x".repeat(len);
            assert!(is_json(&format!("\"{plain}\"")), "{len}");
            assert!(is_json(&format!("\"{plain}\\n{plain}\"")), "{len}");
            assert!(!is_json(&format!("\"{plain}\u{1f}{plain}\"")), "{len}");
        }
    }

    #[test]
    fn a_value_is_found_between_its_whitespace() {
        let text = " [ 1 , {\"a\" : 2} ] ";
        let mut cursor = Cursor::new(text.as_bytes());

        assert!(cursor.take(b'['));
        let elements = cursor.elements().unwrap();

        assert_eq!(&text[elements], "1 , {\"a\" : 2}");
        assert_eq!(cursor.end(), Ok(()));
    }

    #[test]
    fn a_string_is_resolved_only_if_it_has_escapes() {
        let resolve =
            |text: &'static str| Cursor::new(text.as_bytes()).string().unwrap().resolve(text);

        assert!(matches!(resolve("\"é\""), Some(Cow::Borrowed("é"))));
        assert_eq!(resolve(r#""\u0061\n\ud83c\udf88""#), Some(Cow::Owned("a\n🎈".to_owned())));
        assert_eq!(resolve(r#""\ud800""#), None);
    }

    /// Text that is often JSON and more often nearly so.
    fn nearly_json() -> impl Strategy<Value = String> {
        let token = prop::sample::select(vec![
            "[", "]", "{", "}", ",", ":", " ", "\n", "\"", "\\", "\\u", "\"a\"", "\"a\":", "\\\"",
            "0", "1", "-", ".", "e", "E+", "true", "null", "false", "d800", "é",
        ]);
        prop::collection::vec(token, 0..24).prop_map(|tokens| tokens.concat())
    }

    fn any_json() -> impl Strategy<Value = String> {
        let scalar = prop_oneof![
            Just("null".to_owned()),
            any::<bool>().prop_map(|value| value.to_string()),
            any::<i64>().prop_map(|value| value.to_string()),
            any::<f64>()
                .prop_map(|value| format!("{value:e}").replace("NaN", "0").replace("inf", "1e999")),
            any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap()),
        ];
        scalar.prop_recursive(6, 64, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6)
                    .prop_map(|items| format!("[{}]", items.join(" ,"))),
                prop::collection::vec((any::<String>(), inner), 0..6).prop_map(|members| {
                    let members: Vec<_> = members
                        .iter()
                        .map(|(key, value)| {
                            format!("{}: {value}", serde_json::to_string(key).unwrap())
                        })
                        .collect();
                    format!("{{{}}}", members.join(","))
                }),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_json_is_taken(text in any_json()) {
            prop_assert!(is_json(&text));
        }

        #[test]
        fn serde_draws_the_line_at_the_same_place(text in nearly_json()) {
            prop_assert_eq!(is_json(&text), is_json_to_serde(&text));
        }

        #[test]
        fn serde_draws_the_line_at_the_same_place_in_damaged_json(
            (text, at, byte) in any_json().prop_flat_map(|text| {
                let len = text.len();
                (Just(text), 0..=len, 0u8..0x80)
            })
        ) {
            let mut bytes = text.into_bytes();
            bytes.truncate(at);
            bytes.push(byte);
            if let Ok(text) = String::from_utf8(bytes) {
                prop_assert_eq!(is_json(&text), is_json_to_serde(&text));
            }
        }

        #[test]
        fn quoting_is_what_serde_does(text in any::<String>()) {
            let mut quoted = Vec::new();
            put_quoted(&mut quoted, &text);

            prop_assert_eq!(quoted_len(&text), quoted.len());
            prop_assert_eq!(String::from_utf8(quoted).unwrap(), serde_json::to_string(&text).unwrap());
        }
    }

    #[test]
    fn every_control_character_is_quoted_as_serde_does() {
        let text: String = (0..0x80u8).map(char::from).collect();
        let mut quoted = Vec::new();

        put_quoted(&mut quoted, &text);

        assert_eq!(String::from_utf8(quoted).unwrap(), serde_json::to_string(&text).unwrap());
    }
}
