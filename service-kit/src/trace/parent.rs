//! Reads and writes `traceparent`, the W3C form of a place in a trace.

use std::fmt;

use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};

/// Length of the version that we write, `00`.
const LENGTH: usize = 55;

/// The place in a trace where the next span belongs: the trace, the span above, and whether the trace is sampled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent {
    trace_id: TraceId,
    span_id: SpanId,
    is_sampled: bool,
}

impl TraceParent {
    /// Parses a `traceparent`, of this or of a later version. Returns `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let (known, rest) = text.as_bytes().split_at_checked(LENGTH)?;
        let [v1, v0, b'-', ids_and_flags @ ..] = known else { return None };
        let version = hex::<1>(&[*v1, *v0])?[0];
        let is_whole = match version {
            0 => rest.is_empty(),
            0xff => false,
            _ => rest.is_empty() || rest.starts_with(b"-"),
        };

        let (trace_id, span_id_and_flags) = ids_and_flags.split_at_checked(32)?;
        let (dash, span_id_and_flags) = span_id_and_flags.split_at_checked(1)?;
        let (span_id, flags) = span_id_and_flags.split_at_checked(16)?;
        let [b'-', flags @ ..] = flags else { return None };

        let trace_id = TraceId::from_bytes(hex(trace_id)?);
        let span_id = SpanId::from_bytes(hex(span_id)?);
        let is_sampled = TraceFlags::new(hex::<1>(flags)?[0]).is_sampled();
        let is_valid =
            is_whole && dash == b"-" && trace_id != TraceId::INVALID && span_id != SpanId::INVALID;
        is_valid.then_some(Self { trace_id, span_id, is_sampled })
    }

    pub(super) fn of(context: &SpanContext) -> Self {
        Self {
            trace_id: context.trace_id(),
            span_id: context.span_id(),
            is_sampled: context.is_sampled(),
        }
    }

    pub(super) fn to_span_context(self) -> SpanContext {
        let flags = TraceFlags::default().with_sampled(self.is_sampled);
        SpanContext::new(self.trace_id, self.span_id, flags, true, TraceState::NONE)
    }

    /// Tells whether the trace is recorded.
    pub fn is_sampled(self) -> bool {
        self.is_sampled
    }

    /// Returns the id of the trace. Its `Display` is the 32 hex digits that trace viewers search for.
    pub fn trace_id(self) -> TraceId {
        self.trace_id
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags = u8::from(self.is_sampled);
        write!(formatter, "00-{}-{}-{flags:02x}", self.trace_id, self.span_id)
    }
}

/// Returns the bytes that `digits` spell. Upper-case digits are none: the standard forbids them.
fn hex<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let (pairs, rest) = digits.as_chunks::<2>();
    if pairs.len() != N || !rest.is_empty() {
        return None;
    }
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = (hex_digit(*high)? << 4) | hex_digit(*low)?;
    }
    Some(bytes)
}

fn hex_digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    const UNSAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";

    #[test]
    fn a_traceparent_comes_back_as_it_was_written() {
        for text in [SAMPLED, UNSAMPLED] {
            let parent = TraceParent::parse(text).unwrap();

            assert_eq!(parent.to_string(), text);
            assert_eq!(parent.is_sampled(), text == SAMPLED);
            assert_eq!(parent.trace_id().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        }
    }

    #[test]
    fn flags_and_fields_of_later_versions_are_left_aside() {
        for (text, is_sampled) in [
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-03", true),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-fe", false),
            ("01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", true),
            ("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what-comes-then", true),
        ] {
            let parent = TraceParent::parse(text).unwrap();

            assert_eq!(parent.to_string(), if is_sampled { SAMPLED } else { UNSAMPLED }, "{text}");
        }
    }

    #[test]
    fn what_the_standard_forbids_is_no_traceparent() {
        for text in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01 ",
            " 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01.what",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "0x-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473g-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7_01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-é",
        ] {
            assert_eq!(TraceParent::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,80}") {
            TraceParent::parse(&text);
        }

        #[test]
        fn near_misses_do_not_make_the_parser_panic(
            at in 0..SAMPLED.len(),
            replacement in any::<char>(),
        ) {
            let mut text = SAMPLED.to_owned();
            text.replace_range(at..=at, replacement.encode_utf8(&mut [0; 4]));

            if let Some(parent) = TraceParent::parse(&text) {
                prop_assert_eq!(TraceParent::parse(&parent.to_string()), Some(parent));
            }
        }

        #[test]
        fn every_valid_parent_survives_the_round_trip(
            trace_id in 1..=u128::MAX,
            span_id in 1..=u64::MAX,
            is_sampled: bool,
        ) {
            let parent = TraceParent {
                trace_id: TraceId::from_bytes(trace_id.to_be_bytes()),
                span_id: SpanId::from_bytes(span_id.to_be_bytes()),
                is_sampled,
            };

            prop_assert_eq!(TraceParent::parse(&parent.to_string()), Some(parent));
        }
    }
}
