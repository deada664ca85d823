//! Gets the key set of an issuer from where it is published.

use bytes::Bytes;

use crate::https::{EndpointUrl, FetchError, HttpsClient};
use crate::key_set::ReadKeySetError;

/// Where an issuer publishes its keys.
#[derive(Debug)]
pub(crate) enum KeySource {
    /// A JWK set (RFC 7517).
    KeySet(EndpointUrl),
}

impl KeySource {
    pub(super) async fn fetch(&self, client: &HttpsClient) -> Result<Bytes, FetchKeysError> {
        match self {
            Self::KeySet(url) => client.get(url).await.map_err(FetchKeysError::KeySet),
        }
    }
}

/// Why there are no new keys.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchKeysError {
    #[error("there is no key set")]
    KeySet(#[source] FetchError),
    #[error("there are no keys in it")]
    Keys(#[from] ReadKeySetError),
}
