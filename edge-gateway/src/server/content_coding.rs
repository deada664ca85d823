//! Compresses answers for clients that say they understand it (RFC 9110 §8.4, §12.5.3).

use std::io::{self, Write};

use flate2::{
    Compression,
    write::{GzEncoder, ZlibEncoder},
};
use http::{HeaderMap, HeaderValue, header};

/// How an answer is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ContentCoding {
    Gzip,
    Deflate,
}

/// A weight in thousandths.
type Weight = u16;

const WEIGHT_MAX: Weight = 1000;

impl ContentCoding {
    /// The one that a client likes best; none where it would rather have the answer as it is. Among equals it is gzip.
    pub(super) fn accepted(headers: &HeaderMap) -> Option<Self> {
        let gzip = weight(headers, "gzip").unwrap_or_default();
        let deflate = weight(headers, "deflate").unwrap_or_default();
        let (best, coding) =
            if gzip >= deflate { (gzip, Self::Gzip) } else { (deflate, Self::Deflate) };
        // An answer as it is can always be had, but is asked for only by name.
        let identity = exact_weight(headers, "identity").unwrap_or_default();
        (best > 0 && best >= identity).then_some(coding)
    }

    pub(super) const fn name(self) -> HeaderValue {
        match self {
            Self::Gzip => HeaderValue::from_static("gzip"),
            Self::Deflate => HeaderValue::from_static("deflate"),
        }
    }

    pub(super) fn encode(self, level: Compression, bytes: &[u8]) -> io::Result<Vec<u8>> {
        let out = Vec::with_capacity(bytes.len() / 2);
        match self {
            Self::Gzip => {
                let mut encoder = GzEncoder::new(out, level);
                encoder.write_all(bytes)?;
                encoder.finish()
            }
            Self::Deflate => {
                let mut encoder = ZlibEncoder::new(out, level);
                encoder.write_all(bytes)?;
                encoder.finish()
            }
        }
    }
}

/// Where a coding is not named, `*` speaks for it.
fn weight(headers: &HeaderMap, coding: &str) -> Option<Weight> {
    exact_weight(headers, coding).or_else(|| exact_weight(headers, "*"))
}

fn exact_weight(headers: &HeaderMap, coding: &str) -> Option<Weight> {
    headers
        .get_all(header::ACCEPT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .find_map(|element| {
            let mut parts = element.split(';').map(str::trim);
            let is_it = parts.next().is_some_and(|name| name.eq_ignore_ascii_case(coding));
            is_it.then(|| parts.find_map(parse_weight).unwrap_or(WEIGHT_MAX))
        })
}

/// Reads `q=0.5`. What cannot be read is no reason to send something the client may not want.
fn parse_weight(parameter: &str) -> Option<Weight> {
    let (name, value) = parameter.split_once('=')?;
    if !name.trim().eq_ignore_ascii_case("q") {
        return None;
    }
    let (whole, fraction) = value.trim().split_once('.').unwrap_or((value.trim(), ""));
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if fraction.len() > 3 || !is_digits(fraction) {
        return Some(0);
    }
    let thousandths = format!("{fraction:0<3}").parse().unwrap_or_default();
    match whole {
        "0" => Some(thousandths),
        "1" => Some(WEIGHT_MAX),
        _ => Some(0),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::{GzDecoder, ZlibDecoder};

    use super::*;

    fn accepted(values: &[&'static str]) -> Option<ContentCoding> {
        let values = values.iter().map(|&value| HeaderValue::from_static(value));
        ContentCoding::accepted(&values.map(|value| (header::ACCEPT_ENCODING, value)).collect())
    }

    #[test]
    fn a_client_gets_the_coding_it_likes_best() {
        use ContentCoding::{Deflate, Gzip};
        let cases: [(&[&str], _); 17] = [
            (&[], None),
            (&[""], None),
            (&["br"], None),
            (&["identity"], None),
            (&["gzip"], Some(Gzip)),
            (&["GZIP;Q=0.1"], Some(Gzip)),
            (&["deflate"], Some(Deflate)),
            (&["gzip, deflate, br, zstd"], Some(Gzip)),
            (&["deflate, gzip"], Some(Gzip)),
            (&["deflate", "gzip;q=0.9"], Some(Deflate)),
            (&["gzip;q=0.5, deflate ; q=0.501"], Some(Deflate)),
            (&["gzip;q=0"], None),
            (&["gzip;q=0, *"], Some(Deflate)),
            (&["*;q=0.2"], Some(Gzip)),
            (&["*;q=0, gzip"], Some(Gzip)),
            (&["gzip;q=0.5, identity;q=0.6"], None),
            (&["gzip;q=high, deflate;q=2"], None),
        ];

        for (values, expected) in cases {
            assert_eq!(accepted(values), expected, "{values:?}");
        }
    }

    #[test]
    fn what_is_compressed_can_be_had_back() {
        let bytes = b"to be or not to be, that is the question; ".repeat(100);

        let gzip = ContentCoding::Gzip.encode(Compression::fast(), &bytes).unwrap();
        let deflate = ContentCoding::Deflate.encode(Compression::fast(), &bytes).unwrap();

        assert!(gzip.len() < bytes.len() / 10 && deflate.len() < bytes.len() / 10);
        let (mut from_gzip, mut from_deflate) = (Vec::new(), Vec::new());
        GzDecoder::new(&gzip[..]).read_to_end(&mut from_gzip).unwrap();
        ZlibDecoder::new(&deflate[..]).read_to_end(&mut from_deflate).unwrap();
        assert!(from_gzip == bytes && from_deflate == bytes);
    }
}
