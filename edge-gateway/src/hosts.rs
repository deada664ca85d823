//! The hosts that clients may know the edge by.

use std::str::FromStr;

use http::uri::Authority;
use metrics::Counter;

use crate::telemetry;

/// A host that clients may ask for, such as `chat.example`, or with its port `chat.example:8443`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowedHost(Authority);

/// A text is no host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a host is written as in a URL: chat.example, chat.example:8443 or [::1]")]
pub struct ParseHostError;

impl FromStr for AllowedHost {
    type Err = ParseHostError;

    fn from_str(text: &str) -> Result<Self, ParseHostError> {
        let authority: Authority = text.parse().map_err(|_| ParseHostError)?;
        let is_host = !authority.host().is_empty() && !text.contains('*');
        if is_host && is_host_and_port(&authority) {
            Ok(Self(authority))
        } else {
            Err(ParseHostError)
        }
    }
}

/// The hosts that are served.
#[derive(Debug)]
pub(crate) struct Hosts {
    /// None for every host.
    listed: Option<Vec<AllowedHost>>,
    refused: Counter,
}

impl Hosts {
    pub(crate) fn of(allowed: &[AllowedHost]) -> Self {
        let listed = (!allowed.is_empty()).then(|| allowed.to_vec());
        Self { listed, refused: telemetry::hosts_refused() }
    }

    /// Whether to serve a request for this host. A listed host without a port is meant on every port, and one with a usual port
    /// also where none is asked for: clients leave it out, and which one they mean only whoever ends TLS can tell.
    pub(crate) fn admit(&self, asked: &str) -> bool {
        let Some(listed) = &self.listed else { return true };
        let is_admitted = asked.parse::<Authority>().is_ok_and(|asked| {
            is_host_and_port(&asked)
                && listed.iter().any(|AllowedHost(one)| {
                    let port = one.port_u16();
                    let is_left_out = asked.port().is_none() && matches!(port, Some(80 | 443));
                    one.host().eq_ignore_ascii_case(asked.host())
                        && (port.is_none() || port == asked.port_u16() || is_left_out)
                })
        });
        if !is_admitted {
            self.refused.increment(1);
        }
        is_admitted
    }
}

/// Whether there is nothing else: the type also takes users, and ports that are no numbers.
fn is_host_and_port(authority: &Authority) -> bool {
    let rest = authority.as_str().strip_prefix(authority.host());
    rest.is_some_and(|rest| rest.is_empty() || authority.port_u16().is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admits(listed: &[&str], asked: &str) -> bool {
        let listed: Vec<_> = listed.iter().map(|one| one.parse().unwrap()).collect();
        Hosts::of(&listed).admit(asked)
    }

    #[test]
    fn only_listed_hosts_are_served_once_some_are_listed() {
        let ours = &["chat.example", "other.example:8443", "[::1]"];
        for asked in
            ["chat.example", "chat.example:443", "CHAT.example", "other.example:8443", "[::1]:3000"]
        {
            assert!(admits(ours, asked), "{asked}");
        }
        for asked in [
            "",
            "evil.example",
            "chat.example.evil.example",
            "evilchat.example",
            "chat.example.",
            "me@chat.example",
            "other.example",
            "other.example:443",
            "[::2]",
            "chat.example:x",
        ] {
            assert!(!admits(ours, asked), "{asked}");
        }
        assert!(admits(&[], "whatever"));
    }

    #[test]
    fn clients_leave_the_usual_port_out() {
        for port in [80, 443] {
            let ours = &[&format!("chat.example:{port}")[..]];
            assert!(admits(ours, "chat.example"), "{port}");
            assert!(admits(ours, &format!("chat.example:{port}")), "{port}");
            for asked in ["chat.example:8443", "other.example", "chat.example:"] {
                assert!(!admits(ours, asked), "{port}, {asked}");
            }
        }
        assert!(!admits(&["chat.example:443"], "chat.example:80"));
        assert!(!admits(&["chat.example:8443"], "chat.example"));
    }

    #[test]
    fn a_host_is_written_as_in_a_url() {
        for wrong in ["", "https://a", "a/b", "me@a", "*.example", "a b"] {
            assert_eq!(wrong.parse::<AllowedHost>(), Err(ParseHostError), "{wrong}");
        }
    }
}
