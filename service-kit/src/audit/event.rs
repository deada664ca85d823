//! Says what happened, to whom and from where, in a line that no client can forge.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::{Duration, UNIX_EPOCH};

use opentelemetry::trace::TraceId;
use serde::Serialize;

/// Longest text of somebody else's that goes into a line.
const TEXT_CHARS_MAX: usize = 256;

/// Something that those who look after security want to know. It has no place for tokens and payloads.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AuditEvent {
    service: &'static str,
    event: &'static str,
    decision: Decision,
    reason: Option<&'static str>,
    method: Option<&'static str>,
    caller: Option<String>,
    issuer: Option<String>,
    subject: Option<String>,
    address: Option<IpAddr>,
    position: Option<u64>,
    trace_id: Option<TraceId>,
}

/// What was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// It was let through, or done.
    Allowed,
    /// It was turned away, or ended.
    Denied,
    /// It was turned away since nothing could be found out.
    Undecided,
}

impl AuditEvent {
    /// Returns an event of a service, by its constant name.
    #[must_use]
    pub const fn new(service: &'static str, event: &'static str, decision: Decision) -> Self {
        Self {
            service,
            event,
            decision,
            reason: None,
            method: None,
            caller: None,
            issuer: None,
            subject: None,
            address: None,
            position: None,
            trace_id: None,
        }
    }

    /// Says why, by the name that metrics use.
    #[must_use]
    pub const fn because(mut self, reason: &'static str) -> Self {
        self.reason = Some(reason);
        self
    }

    /// Says which method was called over gRPC.
    #[must_use]
    pub const fn of_method(mut self, method: &'static str) -> Self {
        self.method = Some(method);
        self
    }

    /// Says which service called, by a name in its certificate.
    #[must_use]
    pub fn by_caller(mut self, name: &str) -> Self {
        self.caller = Some(beginning(name));
        self
    }

    /// Says whose tokens it is about.
    #[must_use]
    pub fn of_issuer(mut self, issuer: &str) -> Self {
        self.issuer = Some(beginning(issuer));
        self
    }

    /// Says who it is about, within their issuer.
    #[must_use]
    pub fn of_subject(mut self, subject: &str) -> Self {
        self.subject = Some(beginning(subject));
        self
    }

    /// Says who asked: the client, or for a call over gRPC the caller.
    #[must_use]
    pub const fn from_address(mut self, address: Option<IpAddr>) -> Self {
        self.address = address;
        self
    }

    /// Says which entry of the list of revocations it made.
    #[must_use]
    pub const fn at_position(mut self, position: u64) -> Self {
        self.position = Some(position);
        self
    }

    /// Says which trace tells more, where one is recorded.
    #[must_use]
    pub const fn in_trace(mut self, trace_id: Option<TraceId>) -> Self {
        self.trace_id = trace_id;
        self
    }

    /// Returns the same event, as it is without its trace: what repeats it is like it in all else.
    pub(super) const fn apart_from_trace(mut self) -> Self {
        self.trace_id = None;
        self
    }

    /// Returns the line for so many of these, the last of them at this time, with its end.
    pub(super) fn line(&self, unix_ms: u64, count: u64) -> String {
        let time = UNIX_EPOCH.checked_add(Duration::from_millis(unix_ms)).unwrap_or(UNIX_EPOCH);
        let line = Line {
            time: humantime::format_rfc3339_millis(time).to_string(),
            service: self.service,
            event: self.event,
            decision: self.decision,
            reason: self.reason,
            method: self.method,
            caller: self.caller.as_deref(),
            issuer: self.issuer.as_deref(),
            subject: self.subject.as_deref(),
            address: self.address,
            position: self.position,
            trace_id: self.trace_id.map(|id| id.to_string()),
            count,
        };
        // Of texts and numbers alone, which JSON can always say.
        let mut text = ascii(&serde_json::to_string(&line).unwrap_or_default());
        text.push('\n');
        text
    }
}

#[derive(Serialize)]
struct Line<'a> {
    time: String,
    service: &'a str,
    event: &'a str,
    decision: Decision,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    caller: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    issuer: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none", rename = "trace.id")]
    trace_id: Option<String>,
    count: u64,
}

fn beginning(text: &str) -> String {
    text.chars().take(TEXT_CHARS_MAX).collect()
}

/// Escapes all but printable ASCII. JSON escapes only the controls below the space: others move a terminal's cursor, too,
/// and some turn the direction of writing.
fn ascii(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for character in json.chars() {
        if matches!(character, ' '..='~') {
            text.push(character);
            continue;
        }
        for unit in character.encode_utf16(&mut [0; 2]) {
            // Writing to a string cannot fail.
            let _ = write!(text, "\\u{unit:04x}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    const NOW: u64 = 1_790_170_386_042;

    fn rejected() -> AuditEvent {
        AuditEvent::new("edge-gateway", "connect", Decision::Denied)
    }

    #[test]
    fn a_line_says_who_what_from_where_and_the_decision() {
        let event = rejected()
            .because("token_rejected")
            .of_issuer("https://id.example")
            .of_subject("ada")
            .from_address(Some([192, 0, 2, 7].into()))
            .in_trace(Some(TraceId::from(7)));

        assert_eq!(
            event.line(NOW, 3),
            concat!(
                r#"{"time":"2026-09-23T13:33:06.042Z","service":"edge-gateway","event":"connect","#,
                r#""decision":"denied","reason":"token_rejected","issuer":"https://id.example","#,
                r#""subject":"ada","address":"192.0.2.7","trace.id":"00000000000000000000000000000007","count":3}"#,
                "\n"
            )
        );
    }

    #[test]
    fn nothing_that_a_client_says_leaves_its_field() {
        let hostile = "\r\n\x1b[31m\"}\u{7f}\u{9b}2J\u{202e}\u{2028}\u{1f600}";

        let line = rejected().of_issuer(hostile).of_subject(hostile).line(NOW, 1);

        let escaped = r#""\r\n\u001b[31m\"}\u007f\u009b2J\u202e\u2028\ud83d\ude00""#;
        assert!(line.contains(&format!(r#""issuer":{escaped},"subject":{escaped},"#)), "{line}");
        assert!(line.trim_end().bytes().all(|byte| matches!(byte, b' '..=b'~')), "{line}");
        assert_eq!(line.matches('\n').count(), 1);
        let parsed: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(parsed["subject"], hostile);
        assert_eq!(parsed["issuer"], hostile);
    }

    #[test]
    fn a_long_text_is_cut() {
        let line = rejected().of_subject(&"\u{e9}".repeat(257)).line(NOW, 1);

        assert_eq!(line.matches("\\u00e9").count(), 256);
    }
}
