//! Holds the HS256 secret, once it is strong enough.

use std::fmt;

use secrecy::{ExposeSecret, SecretSlice};

/// Fewest bytes a secret may have: as many as the hash it keys (RFC 7518, section 3.2).
const SECRET_BYTES_MIN: usize = 32;

/// A secret strong enough to sign tokens with. Its text shows nowhere.
#[derive(Clone)]
pub(crate) struct Hs256Secret(SecretSlice<u8>);

impl Hs256Secret {
    /// Takes the secret as it stands: these bytes, not an encoding of others.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, WeakSecretError> {
        if bytes.trim_ascii_start().starts_with(b"-----BEGIN") {
            return Err(WeakSecretError::Pem);
        }
        if bytes.len() < SECRET_BYTES_MIN {
            return Err(WeakSecretError::TooShort { length: bytes.len() });
        }
        Ok(Self(SecretSlice::from(bytes.to_vec())))
    }

    pub(crate) fn expose(&self) -> &[u8] {
        self.0.expose_secret()
    }
}

impl fmt::Debug for Hs256Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hs256Secret")
    }
}

/// Why a secret must not sign tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WeakSecretError {
    #[error("it has {length} bytes and needs at least {SECRET_BYTES_MIN}")]
    TooShort { length: usize },
    #[error("it is a PEM file, and what is public or has another use is no secret")]
    Pem,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_needs_32_bytes() {
        let bytes = [b'x'; 32];

        assert!(Hs256Secret::from_bytes(&bytes).is_ok());
        assert_eq!(
            Hs256Secret::from_bytes(&bytes[1..]).unwrap_err(),
            WeakSecretError::TooShort { length: 31 },
        );
    }

    #[test]
    fn a_pem_file_is_no_secret() {
        let text = b"\n-----BEGIN PUBLIC KEY-----\nMIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8A";

        assert_eq!(Hs256Secret::from_bytes(text).unwrap_err(), WeakSecretError::Pem);
    }

    #[test]
    fn the_debug_text_does_not_show_the_secret() {
        let secret = Hs256Secret::from_bytes(b"correct horse battery staple, twice over").unwrap();

        assert_eq!(format!("{secret:?}"), "Hs256Secret");
    }
}
