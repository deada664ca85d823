//! Names another edge of the cluster, as settings do.

use std::str::FromStr;

use http::{
    Uri,
    uri::{Authority, Scheme},
};

/// Where another edge listens for its peers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerAddress {
    /// Its number in the cluster.
    pub number: u16,
    /// Host and port.
    pub authority: Authority,
    /// Whether TLS is spoken there.
    pub is_tls: bool,
}

impl PeerAddress {
    /// Where it is, as settings say it.
    pub(crate) fn url(&self) -> Uri {
        let scheme = if self.is_tls { Scheme::HTTPS } else { Scheme::HTTP };
        let url = Uri::builder().scheme(scheme).authority(self.authority.clone());
        url.path_and_query("/").build().unwrap_or_default()
    }
}

/// Why a `--edge-peer` is not one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParsePeerError {
    /// There is no `=`.
    #[error("a peer is NUMBER=URL")]
    NoUrl,
    /// What stands before the `=` is not a number, or a larger one than there can be.
    #[error("an edge's number is between 0 and 65535")]
    Number,
    /// The URL has another scheme, no host, no port, or a path.
    #[error("the URL needs https:// or http://, a host and a port, and no path")]
    Url,
}

impl FromStr for PeerAddress {
    type Err = ParsePeerError;

    fn from_str(text: &str) -> Result<Self, ParsePeerError> {
        let (number, url) = text.split_once('=').ok_or(ParsePeerError::NoUrl)?;
        let number = number.parse().map_err(|_| ParsePeerError::Number)?;
        let url: Uri = url.parse().map_err(|_| ParsePeerError::Url)?;
        let is_tls = match url.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            Some(_) | None => return Err(ParsePeerError::Url),
        };
        let is_bare = url.path_and_query().is_none_or(|path| path.as_str() == "/");
        let authority = url.authority().filter(|authority| authority.port().is_some());
        match authority {
            Some(authority) if is_bare => Ok(Self { number, authority: authority.clone(), is_tls }),
            Some(_) | None => Err(ParsePeerError::Url),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_a_number_and_an_address() {
        let cases = [
            ("2=http://edge-2.edge:3002", Ok((2, "http://edge-2.edge:3002/"))),
            ("65535=http://[::1]:3002/", Ok((65535, "http://[::1]:3002/"))),
            ("2=https://edge-2:3002", Ok((2, "https://edge-2:3002/"))),
            ("http://edge-2:3002", Err(ParsePeerError::NoUrl)),
            ("65536=http://edge-2:3002", Err(ParsePeerError::Number)),
            ("-1=http://edge-2:3002", Err(ParsePeerError::Number)),
            ("2=ftp://edge-2:3002", Err(ParsePeerError::Url)),
            ("2=https://edge-2", Err(ParsePeerError::Url)),
            ("2=http://edge-2", Err(ParsePeerError::Url)),
            ("2=http://edge-2:3002/x", Err(ParsePeerError::Url)),
            ("2=edge-2:3002", Err(ParsePeerError::Url)),
        ];
        for (text, expected) in cases {
            let parsed = text.parse::<PeerAddress>();
            let parsed = parsed.map(|peer| (peer.number, peer.url().to_string()));
            assert_eq!(parsed, expected.map(|(number, at)| (number, at.to_owned())), "{text}");
        }
    }
}
