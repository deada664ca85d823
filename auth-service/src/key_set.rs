//! Holds the keys that tokens are verified with, and finds the one that a token names.

use std::path::{Path, PathBuf};

use jsonwebtoken::DecodingKey;

use crate::algorithm::Algorithm;
use crate::hs256_secret::Hs256Secret;
use crate::refusal::Refusal;

mod jwk;
mod key_file;
mod public_key;
mod published;
mod roca;

pub use key_file::ReadKeyFileError;
pub use public_key::RejectKeyError;
pub(crate) use published::{ReadKeySetError, SkipReason};

/// A key with the one algorithm it serves.
#[derive(Debug)]
pub(crate) struct VerificationKey {
    /// What a token's `kid` names. A key without an id serves tokens without a `kid`.
    id: Option<String>,
    algorithm: Algorithm,
    decoding_key: DecodingKey,
}

impl VerificationKey {
    pub(crate) fn hs256(secret: &Hs256Secret) -> Self {
        Self {
            id: None,
            algorithm: Algorithm::Hs256,
            decoding_key: DecodingKey::from_secret(secret.expose()),
        }
    }

    #[cfg(test)]
    pub(crate) fn with_id(self, id: &str) -> Self {
        Self { id: Some(id.to_owned()), ..self }
    }

    pub(crate) fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    pub(crate) fn decoding_key(&self) -> &DecodingKey {
        &self.decoding_key
    }
}

/// Keys of which each token finds one or none: ids are unique, and a key without an id is the only one of its algorithm.
#[derive(Debug)]
pub(crate) struct KeySet {
    keys: Vec<VerificationKey>,
    /// Those that tokens may have. Where keys are published, there may be no key of one at the moment.
    algorithms: Vec<Algorithm>,
}

impl KeySet {
    /// Loads the secret, if there is one, and every key in the files.
    pub(crate) fn load(
        secret: Option<&Hs256Secret>,
        public_key_files: &[PathBuf],
    ) -> Result<Self, LoadKeysError> {
        let mut keys: Vec<_> = secret.map(VerificationKey::hs256).into_iter().collect();
        for path in public_key_files {
            keys.extend(read_public_keys(path)?);
        }
        Self::from_keys(keys)
    }

    /// As [`load`](Self::load), from what the files hold.
    pub(crate) fn parse<'a>(
        secret: Option<&Hs256Secret>,
        files: impl Iterator<Item = (&'a PathBuf, &'a [u8])>,
    ) -> Result<Self, LoadKeysError> {
        let mut keys: Vec<_> = secret.map(VerificationKey::hs256).into_iter().collect();
        for (path, contents) in files {
            let read = key_file::parse_bytes(contents);
            keys.extend(read.map_err(|source| LoadKeysError::File { path: path.clone(), source })?);
        }
        Self::from_keys(keys)
    }

    /// Reads the text of a file of public keys.
    pub(crate) fn parse_public_keys(text: &str) -> Result<Vec<VerificationKey>, ReadKeyFileError> {
        key_file::parse(text)
    }

    pub(crate) fn from_keys(keys: Vec<VerificationKey>) -> Result<Self, LoadKeysError> {
        if keys.is_empty() {
            return Err(LoadKeysError::NoKey);
        }
        for (index, key) in keys.iter().enumerate() {
            for other in &keys[..index] {
                if key.id.is_some() && key.id == other.id {
                    return Err(LoadKeysError::DuplicateId {
                        id: key.id.clone().unwrap_or_default(),
                    });
                }
                if key.algorithm == other.algorithm && (key.id.is_none() || other.id.is_none()) {
                    return Err(LoadKeysError::Ambiguous { algorithm: key.algorithm.name() });
                }
            }
        }
        let mut algorithms: Vec<_> = keys.iter().map(|key| key.algorithm).collect();
        algorithms.dedup();
        Ok(Self { keys, algorithms })
    }

    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }

    /// Returns the algorithms that tokens may have, in the order of the keys.
    pub(crate) fn algorithms(&self) -> &[Algorithm] {
        &self.algorithms
    }

    /// Finds the key of a token whose header names `algorithm` and perhaps a key.
    pub(crate) fn select(
        &self,
        algorithm: Algorithm,
        key_id: Option<&str>,
    ) -> Result<&VerificationKey, Refusal> {
        if !self.algorithms.contains(&algorithm) {
            return Err(Refusal::Algorithm);
        }
        let Some(key_id) = key_id else {
            let mut of_algorithm = self.keys.iter().filter(|key| key.algorithm == algorithm);
            return match (of_algorithm.next(), of_algorithm.next()) {
                (Some(only), None) => Ok(only),
                (Some(_) | None, Some(_) | None) => Err(Refusal::UnknownKey),
            };
        };
        let named = self.keys.iter().find(|key| key.id.as_deref() == Some(key_id));
        match named {
            Some(key) if key.algorithm == algorithm => Ok(key),
            Some(_) => Err(Refusal::Algorithm),
            None => Err(Refusal::UnknownKey),
        }
    }
}

fn read_public_keys(path: &Path) -> Result<Vec<VerificationKey>, LoadKeysError> {
    key_file::read(path).map_err(|source| LoadKeysError::File { path: path.to_owned(), source })
}

/// Why the keys do not make a set to verify with.
#[derive(Debug, thiserror::Error)]
pub enum LoadKeysError {
    #[error(
        "there is no key: name AUTH_HS256_SECRET, AUTH_HS256_SECRET_FILE or AUTH_PUBLIC_KEY_FILES"
    )]
    NoKey,
    #[error("{} cannot serve as a key file", path.display())]
    File { path: PathBuf, source: ReadKeyFileError },
    #[error("two keys have the id {id:?}")]
    DuplicateId { id: String },
    #[error(
        "there are several {algorithm} keys, and not all of them have an id to tell them apart"
    )]
    Ambiguous { algorithm: &'static str },
}

#[cfg(test)]
mod tests;
