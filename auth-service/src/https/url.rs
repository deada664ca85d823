//! Holds an address that may be asked.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use http::Uri;

const URL_BYTES_MAX: usize = 2048;

/// An `https` address, or a plain one of this machine where that was allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EndpointUrl(Uri);

impl EndpointUrl {
    pub(crate) fn parse(text: &str, may_be_plain: bool) -> Result<Self, ParseUrlError> {
        if text.len() > URL_BYTES_MAX || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(ParseUrlError::Malformed);
        }
        let uri: Uri = text.parse().map_err(|_| ParseUrlError::Malformed)?;
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(ParseUrlError::Malformed);
        };
        if authority.host().is_empty() {
            return Err(ParseUrlError::Malformed);
        }
        if authority.as_str().contains('@') {
            return Err(ParseUrlError::Credentials);
        }
        if text.contains('#') {
            return Err(ParseUrlError::Fragment);
        }
        match scheme {
            "https" => Ok(Self(uri)),
            "http" if may_be_plain && is_this_machine(authority.host()) => Ok(Self(uri)),
            _ => Err(ParseUrlError::NotHttps),
        }
    }

    pub(crate) fn is_plain(&self) -> bool {
        self.0.scheme_str() == Some("http")
    }

    pub(super) fn uri(&self) -> &Uri {
        &self.0
    }
}

impl fmt::Display for EndpointUrl {
    /// Without the query, which may hold what others should not read.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.0.scheme_str().unwrap_or_default();
        let authority = self.0.authority().map_or("", |authority| authority.as_str());
        write!(f, "{scheme}://{authority}{}", self.0.path())
    }
}

/// Whether the host is an address of this machine. No name is, whatever it resolves to.
fn is_this_machine(host: &str) -> bool {
    let v6 = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    match v6 {
        Some(host) => host.parse().is_ok_and(|address: Ipv6Addr| address.is_loopback()),
        None => host.parse().is_ok_and(|address: Ipv4Addr| address.is_loopback()),
    }
}

/// Why an address is not asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseUrlError {
    #[error("it is not a URL of at most {URL_BYTES_MAX} bytes")]
    Malformed,
    #[error("it is not https (http is for 127.0.0.1 and [::1], with `allow_http_on_loopback`)")]
    NotHttps,
    #[error("it has a user or a password in it")]
    Credentials,
    #[error("it has a fragment")]
    Fragment,
    #[error("it has a query")]
    Query,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_https() {
        for text in [
            "https://id.example",
            "https://id.example:8443/keys?version=2",
            "https://[2001:db8::1]/keys",
            "HTTPS://id.example/keys",
        ] {
            assert!(EndpointUrl::parse(text, false).is_ok(), "{text}");
        }
        for (text, expected) in [
            ("", ParseUrlError::Malformed),
            ("keys.json", ParseUrlError::Malformed),
            ("/keys", ParseUrlError::Malformed),
            ("id.example", ParseUrlError::Malformed),
            ("https://", ParseUrlError::Malformed),
            ("https://:443/", ParseUrlError::Malformed),
            ("https://id.example/ keys", ParseUrlError::Malformed),
            ("https://id.example/\r\nHost: other", ParseUrlError::Malformed),
            ("file:///etc/passwd", ParseUrlError::Malformed),
            ("ftp://id.example/keys", ParseUrlError::NotHttps),
            ("http://id.example/keys", ParseUrlError::NotHttps),
            ("https://ada:secret@id.example/", ParseUrlError::Credentials),
            ("https://id.example/#keys", ParseUrlError::Fragment),
        ] {
            assert_eq!(EndpointUrl::parse(text, true).unwrap_err(), expected, "{text}");
        }
        let long = format!("https://id.example/{}", "x".repeat(URL_BYTES_MAX));
        assert_eq!(EndpointUrl::parse(&long, true).unwrap_err(), ParseUrlError::Malformed);
    }

    #[test]
    fn plain_http_reaches_this_machine_only_and_only_where_allowed() {
        for text in ["http://127.0.0.1:1/keys", "http://127.8.8.8/keys", "http://[::1]:1/keys"] {
            assert!(EndpointUrl::parse(text, true).is_ok(), "{text}");
            assert_eq!(EndpointUrl::parse(text, false).unwrap_err(), ParseUrlError::NotHttps);
        }
        for text in [
            "http://localhost/keys",
            "http://127.0.0.1.id.example/keys",
            "http://169.254.169.254/keys",
            "http://0.0.0.0/keys",
            "http://[::ffff:10.0.0.1]/keys",
            "http://2130706433/keys",
        ] {
            assert!(EndpointUrl::parse(text, true).is_err(), "{text}");
        }
    }

    #[test]
    fn its_text_has_no_query() {
        let url = EndpointUrl::parse("https://id.example:8443/keys?key=secret", false).unwrap();

        assert_eq!(url.to_string(), "https://id.example:8443/keys");
    }
}
