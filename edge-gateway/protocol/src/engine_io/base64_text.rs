//! Bytes that a client has to send as text.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

/// The base64 in a `b` packet, not decoded yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Base64Text<'a>(&'a str);

impl<'a> Base64Text<'a> {
    /// Returns `text` as what it claims to be.
    pub const fn new(text: &'a str) -> Self {
        Self(text)
    }

    /// Returns the text without its first character, if that is `first`.
    pub(super) fn strip_prefix(self, first: char) -> Option<Self> {
        self.0.strip_prefix(first).map(Self)
    }

    /// Returns the bytes. The alphabet is the standard one (RFC 4648 §4), with padding. Line feeds
    /// are skipped: the Java client puts them after every 76 characters.
    ///
    /// # Errors
    ///
    /// The text is not base64, or stands for more than `bytes_max` bytes, which is checked first.
    pub fn decode(self, bytes_max: usize) -> Result<Bytes, DecodeBase64Error> {
        if !self.0.contains('\n') {
            return decode(self.0.as_bytes(), bytes_max);
        }
        let joined: String = self.0.split('\n').collect();
        decode(joined.as_bytes(), bytes_max)
    }
}

/// Why a `b` packet has no bytes for us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeBase64Error {
    /// The text is not base64.
    #[error("text is not base64")]
    NotBase64,
    /// There are more bytes than we take.
    #[error("binary message is too large")]
    TooLarge,
}

/// Returns how many bytes [`put_encoded`] appends.
pub(super) const fn encoded_len(bytes: &[u8]) -> usize {
    bytes.len().div_ceil(3).saturating_mul(4)
}

/// Appends bytes as text.
pub(super) fn put_encoded(out: &mut Vec<u8>, bytes: &[u8]) {
    let text_at = out.len();
    out.resize(text_at.saturating_add(encoded_len(bytes)), 0);
    let text = out.get_mut(text_at..).unwrap_or_default();
    let encoded = STANDARD.encode_slice(bytes, text);
    debug_assert!(encoded.is_ok());
}

fn decode(text: &[u8], bytes_max: usize) -> Result<Bytes, DecodeBase64Error> {
    let (quads, &[]) = text.as_chunks::<4>() else { return Err(DecodeBase64Error::NotBase64) };
    let padding = match quads.last() {
        Some([.., b'=', b'=']) => 2,
        Some([.., b'=']) => 1,
        Some(_) | None => 0,
    };
    let len = quads.len().saturating_mul(3).saturating_sub(padding);
    if len > bytes_max {
        return Err(DecodeBase64Error::TooLarge);
    }
    let mut bytes = vec![0; len];
    let decoded = STANDARD.decode_slice(text, &mut bytes);
    decoded.map_err(|_| DecodeBase64Error::NotBase64)?;
    Ok(bytes.into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode(text: &str) -> Result<Bytes, DecodeBase64Error> {
        Base64Text::new(text).decode(100)
    }

    #[test]
    fn bytes_are_decoded() {
        let cases: [(&str, &[u8]); 8] = [
            ("", &[]),
            ("AA==", &[0]),
            ("AQI=", &[1, 2]),
            ("AQID", &[1, 2, 3]),
            ("+/+/", &[0xFB, 0xFF, 0xBF]),
            ("AQL/", &[1, 2, 255]),
            // As the Java client writes them.
            ("AQID\n", &[1, 2, 3]),
            (concat!("AQID", "\n", "AQI=", "\n"), &[1, 2, 3, 1, 2]),
        ];

        for (text, bytes) in cases {
            assert_eq!(decode(text).as_deref(), Ok(bytes), "{text:?}");
        }
    }

    #[test]
    fn what_is_not_base64_is_refused() {
        let texts = [
            "!!!", "!!!!", "A", "AA", "AAA", "AQ", "AR==", "AQJ=", "=", "==", "===", "====",
            "A===", "AQ=A", "AQ==AQID", "-_-_", " AQID", "AQID ", "AQ\r\nID", "AQID\r\n", "AQI\0",
            "AQIé", "AQI",
        ];

        for text in texts {
            assert_eq!(decode(text), Err(DecodeBase64Error::NotBase64), "{text:?}");
        }
    }

    #[test]
    fn the_limit_is_for_the_bytes() {
        let text = |len| STANDARD.encode(vec![7; len]);

        for len in 98..=100 {
            assert_eq!(decode(&text(len)).map(|bytes| bytes.len()), Ok(len));
        }
        for len in [101, 102, 103, 1_000_000] {
            assert_eq!(decode(&text(len)), Err(DecodeBase64Error::TooLarge));
        }
        assert_eq!(Base64Text::new("").decode(0), Ok(Bytes::new()));
    }

    proptest! {
        #[test]
        fn any_bytes_survive_however_their_text_is_wrapped(
            bytes in prop::collection::vec(any::<u8>(), 0..300),
            line_len in 1usize..100,
        ) {
            let text = STANDARD.encode(&bytes);
            let lines: Vec<_> = text.as_bytes().chunks(line_len).map(<[u8]>::to_vec).collect();
            let wrapped = String::from_utf8(lines.join(&b'\n')).unwrap();

            for text in [text, wrapped] {
                let decoded = Base64Text::new(&text).decode(bytes.len());
                prop_assert_eq!(decoded.as_deref(), Ok(bytes.as_slice()));
            }
        }

        #[test]
        fn arbitrary_text_is_base64_or_refused(text in "[A-D+/=\n]{0,12}") {
            if let Ok(bytes) = decode(&text) {
                prop_assert_eq!(STANDARD.encode(bytes), text.replace('\n', ""));
            }
        }
    }
}
