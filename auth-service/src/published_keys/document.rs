//! Gets the key set of an issuer from where it is published.

use bytes::Bytes;
use serde_json::Value;

use crate::https::{EndpointUrl, FetchError, HttpsClient, ParseUrlError};
use crate::json_object::parse_json_object;
use crate::key_set::ReadKeySetError;

/// What follows an issuer's name in the address of what it says about itself (OpenID Connect Discovery 1.0, section 4).
const DISCOVERY_PATH: &str = "/.well-known/openid-configuration";

/// Where an issuer publishes its keys.
#[derive(Debug)]
pub(crate) enum KeySource {
    /// A JWK set (RFC 7517).
    KeySet(EndpointUrl),
    /// A document in which the issuer says where its JWK set is.
    Discovery(Discovery),
}

/// The document in which an issuer describes itself.
#[derive(Debug)]
pub(crate) struct Discovery {
    url: EndpointUrl,
    issuer: String,
    may_be_plain: bool,
}

impl KeySource {
    pub(super) async fn fetch(&self, client: &HttpsClient) -> Result<Bytes, FetchKeysError> {
        let keys = match self {
            Self::KeySet(url) => client.get(url).await,
            Self::Discovery(discovery) => client.get(&discovery.jwks_url(client).await?).await,
        };
        keys.map_err(FetchKeysError::KeySet)
    }
}

impl Discovery {
    /// Takes the issuer's name, which is an address: of the document, up to its last part.
    pub(crate) fn of(issuer: &str, may_be_plain: bool) -> Result<Self, ParseUrlError> {
        if issuer.contains('?') {
            return Err(ParseUrlError::Query);
        }
        EndpointUrl::parse(issuer, may_be_plain)?;
        let base = issuer.strip_suffix('/').unwrap_or(issuer);
        let url = EndpointUrl::parse(&format!("{base}{DISCOVERY_PATH}"), may_be_plain)?;
        Ok(Self { url, issuer: issuer.to_owned(), may_be_plain })
    }

    pub(crate) fn url(&self) -> &EndpointUrl {
        &self.url
    }

    /// Asks anew each time: where the keys are may change as they do.
    async fn jwks_url(&self, client: &HttpsClient) -> Result<EndpointUrl, FetchKeysError> {
        let document = client.get(&self.url).await.map_err(FetchKeysError::Discovery)?;
        self.read(&document)
    }

    pub(crate) fn read(&self, document: &[u8]) -> Result<EndpointUrl, FetchKeysError> {
        let members = parse_json_object(document).map_err(|_| FetchKeysError::Malformed)?;
        let text = |name| members.get(name).and_then(Value::as_str);
        // Exactly, or one issuer could hand out another's keys as its own (section 4.3).
        if text("issuer") != Some(self.issuer.as_str()) {
            return Err(FetchKeysError::OtherIssuer);
        }
        let url = text("jwks_uri").ok_or(FetchKeysError::Malformed)?;
        EndpointUrl::parse(url, self.may_be_plain).map_err(FetchKeysError::JwksUri)
    }
}

/// Why there are no new keys.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchKeysError {
    #[error("there is no discovery document")]
    Discovery(#[source] FetchError),
    #[error("the discovery document is no object, or lacks `jwks_uri`")]
    Malformed,
    #[error("the discovery document is that of another issuer")]
    OtherIssuer,
    #[error("`jwks_uri` of the discovery document is not asked")]
    JwksUri(#[source] ParseUrlError),
    #[error("there is no key set")]
    KeySet(#[source] FetchError),
    #[error("there are no keys in it")]
    Keys(#[from] ReadKeySetError),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(document: &str) -> Result<String, String> {
        let discovery = Discovery::of("https://id.example/tenant", false).unwrap();
        let url = discovery.read(document.as_bytes());
        url.map(|url| url.to_string()).map_err(|error| error.to_string())
    }

    #[test]
    fn the_document_is_below_the_issuer() {
        for (issuer, expected) in [
            ("https://id.example", "https://id.example/.well-known/openid-configuration"),
            ("https://id.example/", "https://id.example/.well-known/openid-configuration"),
            ("https://id.example/a/", "https://id.example/a/.well-known/openid-configuration"),
            ("https://id.example:1/a", "https://id.example:1/a/.well-known/openid-configuration"),
        ] {
            assert_eq!(Discovery::of(issuer, false).unwrap().url().to_string(), expected);
        }
        assert_eq!(Discovery::of("https://id.example?a", false).unwrap_err(), ParseUrlError::Query);
        assert_eq!(Discovery::of("https://a/#b", false).unwrap_err(), ParseUrlError::Fragment);
        assert_eq!(Discovery::of("http://a", true).unwrap_err(), ParseUrlError::NotHttps);
        assert_eq!(Discovery::of("sockeye", false).unwrap_err(), ParseUrlError::Malformed);
    }

    #[test]
    fn the_document_names_its_issuer_and_an_address_that_may_be_asked() {
        let keys = r#""jwks_uri":"https://keys.example/set""#;
        let of = |issuer: &str| format!(r#"{{"issuer":"{issuer}",{keys},"more":[]}}"#);

        assert_eq!(read(&of("https://id.example/tenant")).unwrap(), "https://keys.example/set");
        for issuer in
            ["https://id.example/tenant/", "https://id.example", "https://ID.example/tenant", ""]
        {
            let error = read(&of(issuer)).unwrap_err();
            assert_eq!(error, "the discovery document is that of another issuer", "{issuer}");
        }
        for document in ["", "[]", r#"{"issuer":"https://id.example/tenant"}"#] {
            assert!(read(document).is_err(), "{document}");
        }
        let twice = of("https://id.example/tenant").replace("more", "issuer");
        assert!(read(&twice).is_err(), "{twice}");
        let plain = of("https://id.example/tenant").replace("https://keys", "http://keys");
        let error = read(&plain).unwrap_err();
        assert_eq!(error, "`jwks_uri` of the discovery document is not asked");
    }
}
