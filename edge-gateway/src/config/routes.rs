//! Which business service a namespace is sent to.

use std::str::FromStr;

use http::Uri;

/// Sends a namespace to a business service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The namespace, such as `/chat`.
    pub namespace: String,
    /// Where the service listens.
    pub url: Uri,
}

/// Why a `--edge-route` is not one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseRouteError {
    /// There is no `=`.
    #[error("a route is NAMESPACE=URL")]
    NoUrl,
    /// The namespace does not start with a slash, or holds a comma or a question mark.
    #[error("a namespace starts with a slash and holds neither comma nor question mark")]
    Namespace,
    /// The URL has no scheme or host.
    #[error("the URL needs https:// or http:// and a host")]
    Url,
}

impl FromStr for Route {
    type Err = ParseRouteError;

    fn from_str(text: &str) -> Result<Self, ParseRouteError> {
        let (namespace, url) = text.split_once('=').ok_or(ParseRouteError::NoUrl)?;
        if !is_namespace(namespace) {
            return Err(ParseRouteError::Namespace);
        }
        Ok(Self { namespace: namespace.to_owned(), url: parse_backend_url(url)? })
    }
}

pub(crate) fn is_namespace(name: &str) -> bool {
    name.starts_with('/') && !name.contains([',', '?'])
}

pub(crate) fn parse_backend_url(text: &str) -> Result<Uri, ParseRouteError> {
    let url: Uri = text.parse().map_err(|_| ParseRouteError::Url)?;
    if !matches!(url.scheme_str(), Some("http" | "https")) || url.host().is_none() {
        return Err(ParseRouteError::Url);
    }
    Ok(url)
}
