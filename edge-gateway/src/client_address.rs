//! Finds out where a client is, also behind proxies that say so.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue, header};
use ipnet::IpNet;

use crate::config::{ClientAddressConfig, ForwardedHeader};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The most proxies on a way. What is further left in a header than so many addresses of ours is a client's invention.
const HOPS_MAX: usize = 32;

/// Whose word counts on where a client is.
#[derive(Debug)]
pub(crate) struct ClientAddresses {
    trusted: Vec<IpNet>,
    header: ForwardedHeader,
    /// Whether each connection begins with a header of PROXY protocol.
    pub(crate) are_announced: bool,
}

impl ClientAddresses {
    pub(crate) fn of(config: &ClientAddressConfig) -> Self {
        let ClientAddressConfig { trusted_proxies, forwarded_header, proxy_protocol } = config;
        Self {
            trusted: trusted_proxies.clone(),
            header: *forwarded_header,
            are_announced: *proxy_protocol,
        }
    }

    /// Whether the word of whoever has this address counts.
    pub(crate) fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(&address))
    }

    /// Where the client is whose request came from `peer`.
    ///
    /// Read from the right: each proxy adds on the right what it has seen itself, and what is left of the first address that
    /// is not a trusted proxy's may be anybody's invention. So may be all that stands left of something that is no address.
    pub(crate) fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        // A listener for both families sees IPv4 inside IPv6.
        let mut client = peer.to_canonical();
        if !self.trusts(client) {
            return client;
        }
        let (name, address_in): (_, fn(&str) -> Option<IpAddr>) = match self.header {
            ForwardedHeader::XForwardedFor => (X_FORWARDED_FOR, address),
            ForwardedHeader::Forwarded => (header::FORWARDED, address_in_element),
        };
        let values: Vec<_> = headers.get_all(name).iter().collect();
        let elements = values.into_iter().rev().flat_map(elements_from_the_right);
        for element in elements.take(HOPS_MAX) {
            let Some(next) = element.and_then(address_in) else { return client };
            client = next;
            if !self.trusts(client) {
                return client;
            }
        }
        client
    }
}

/// The elements of a header's list, the last one first; none for a value that is no text.
fn elements_from_the_right(value: &HeaderValue) -> impl Iterator<Item = Option<&str>> {
    let mut rest = Some(value.to_str().ok());
    std::iter::from_fn(move || match rest.take()? {
        None => Some(None),
        Some(text) => {
            let (left, element) = split_last(text, b',');
            rest = left.map(Some);
            Some(Some(element))
        }
    })
}

/// Splits at the last separator that is not in a quoted string. From the right, since a client may have left a string open
/// on the left.
fn split_last(text: &str, separator: u8) -> (Option<&str>, &str) {
    let bytes = text.as_bytes();
    let mut is_quoted = false;
    for (place, byte) in bytes.iter().enumerate().rev() {
        if *byte == b'"' {
            let before = bytes.get(..place).unwrap_or_default();
            let backslashes = before.iter().rev().take_while(|byte| **byte == b'\\').count();
            if backslashes % 2 == 0 {
                is_quoted = !is_quoted;
            }
        } else if *byte == separator && !is_quoted {
            return (text.get(..place), text.get(place + 1..).unwrap_or_default());
        }
    }
    (None, text)
}

/// The address that one element of `Forwarded` says the request came from: exactly one `for`.
fn address_in_element(element: &str) -> Option<IpAddr> {
    let mut rest = Some(element);
    let mut found = None;
    while let Some(text) = rest {
        let (left, pair) = split_last(text, b';');
        rest = left;
        let Some((name, value)) = pair.split_once('=') else { continue };
        if name.trim().eq_ignore_ascii_case("for") {
            if found.is_some() {
                return None;
            }
            found = Some(value.trim());
        }
    }
    let value = found?;
    let unquoted = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
    address(unquoted.unwrap_or(value))
}

/// An address, also with a port behind it, and IPv6 in brackets.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let parsed = match text.strip_prefix('[') {
        Some(bracketed) => {
            let (address, port) = bracketed.split_once(']')?;
            let is_port = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
            address.parse().ok().filter(|_| is_port).map(IpAddr::V6)
        }
        None => text.parse().ok().or_else(|| {
            let (address, port) = text.split_once(':')?;
            address.parse().ok().filter(|_| is_port(port)).map(IpAddr::V4)
        }),
    };
    parsed.map(|address| address.to_canonical())
}

fn is_port(text: &str) -> bool {
    text.parse::<u16>().is_ok() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse_network;

    fn addresses(header: ForwardedHeader) -> ClientAddresses {
        let networks = ["10.0.0.0/8", "2001:db8:1::/48"];
        ClientAddresses::of(&ClientAddressConfig {
            trusted_proxies: networks.map(|network| parse_network(network).unwrap()).into(),
            forwarded_header: header,
            proxy_protocol: false,
        })
    }

    fn client(header: ForwardedHeader, peer: &str, values: &[(&str, &str)]) -> String {
        let mut headers = HeaderMap::new();
        for (name, value) in values {
            headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        addresses(header).client(peer.parse().unwrap(), &headers).to_string()
    }

    #[test]
    fn what_a_stranger_says_of_itself_counts_for_nothing() {
        let said = [("x-forwarded-for", "203.0.113.7"), ("forwarded", "for=203.0.113.7")];
        for header in [ForwardedHeader::XForwardedFor, ForwardedHeader::Forwarded] {
            assert_eq!(client(header, "198.51.100.1", &said), "198.51.100.1");
            assert_eq!(client(header, "11.0.0.1", &said), "11.0.0.1");
            assert_eq!(client(header, "::ffff:198.51.100.1", &said), "198.51.100.1");
        }
    }

    #[test]
    fn x_forwarded_for_is_read_from_the_right() {
        let cases = [
            (&["203.0.113.7"][..], "203.0.113.7"),
            (&["6.6.6.6, 203.0.113.7"], "203.0.113.7"),
            (&["6.6.6.6", "203.0.113.7"], "203.0.113.7"),
            (&["6.6.6.6,203.0.113.7 , 10.1.2.3"], "203.0.113.7"),
            (&["203.0.113.7:1234"], "203.0.113.7"),
            (&["2001:db8::7"], "2001:db8::7"),
            (&["[2001:db8::7]:1234"], "2001:db8::7"),
            (&["::ffff:203.0.113.7"], "203.0.113.7"),
            (&["203.0.113.7, 2001:db8:1::1"], "203.0.113.7"),
            // All are ours: whoever is furthest away.
            (&["10.3.3.3, 10.2.2.2"], "10.3.3.3"),
            // What cannot be read ends it: the last that is known.
            (&[], "10.0.0.1"),
            (&[""], "10.0.0.1"),
            (&["6.6.6.6, unknown"], "10.0.0.1"),
            (&["6.6.6.6, "], "10.0.0.1"),
            (&["6.6.6.6, unknown, 10.2.2.2"], "10.2.2.2"),
            (&["6.6.6.6, 203.0.113.7:99999"], "10.0.0.1"),
            (&["6.6.6.6, 203.0.113.7:+1"], "10.0.0.1"),
            (&["6.6.6.6, [203.0.113.7]"], "10.0.0.1"),
            (&["6.6.6.6, ä"], "10.0.0.1"),
        ];
        for (values, expected) in cases {
            let values: Vec<_> = values.iter().map(|value| ("x-forwarded-for", *value)).collect();
            let found = client(ForwardedHeader::XForwardedFor, "10.0.0.1", &values);
            assert_eq!(found, expected, "{values:?}");
        }
    }

    #[test]
    fn forwarded_is_read_from_the_right() {
        let cases = [
            ("for=203.0.113.7", "203.0.113.7"),
            ("for=6.6.6.6, for=203.0.113.7;proto=https;by=10.0.0.1", "203.0.113.7"),
            ("proto=https; For=\"203.0.113.7:1234\" ;host=a", "203.0.113.7"),
            ("for=6.6.6.6,for=\"[2001:db8::7]:1234\"", "2001:db8::7"),
            ("for=203.0.113.7, for=10.2.2.2", "203.0.113.7"),
            // A string that the client left open does not swallow what the proxy says.
            ("for=\", for=203.0.113.7", "203.0.113.7"),
            ("for=\"a\\\", for=203.0.113.7;host=\"b\"", "203.0.113.7"),
            // Nor does one that the proxy made of what the client said.
            ("for=203.0.113.7;host=\"x,for=6.6.6.6;y\"", "203.0.113.7"),
            ("for=203.0.113.7;host=\"\\\",for=6.6.6.6;y=\\\"\"", "203.0.113.7"),
            ("for=6.6.6.6, for=_hidden", "10.0.0.1"),
            ("for=6.6.6.6, for=unknown", "10.0.0.1"),
            ("for=6.6.6.6, proto=https", "10.0.0.1"),
            ("for=6.6.6.6;for=203.0.113.7", "10.0.0.1"),
        ];
        for (value, expected) in cases {
            let found = client(ForwardedHeader::Forwarded, "10.0.0.1", &[("forwarded", value)]);
            assert_eq!(found, expected, "{value}");
        }
    }

    #[test]
    fn only_one_of_the_headers_counts() {
        let said = [("x-forwarded-for", "203.0.113.7"), ("forwarded", "for=203.0.113.8")];

        assert_eq!(client(ForwardedHeader::XForwardedFor, "10.0.0.1", &said), "203.0.113.7");
        assert_eq!(client(ForwardedHeader::Forwarded, "10.0.0.1", &said), "203.0.113.8");
    }

    #[test]
    fn the_number_of_hops_is_bounded() {
        let proxies = |count| vec!["10.2.2.2"; count].join(",");
        let said = |count| format!("203.0.113.7,{}", proxies(count));
        let found = |count| {
            let said = said(count);
            client(ForwardedHeader::XForwardedFor, "10.0.0.1", &[("x-forwarded-for", &said)])
        };

        assert_eq!(found(HOPS_MAX - 1), "203.0.113.7");
        assert_eq!(found(HOPS_MAX), "10.2.2.2");
    }
}
