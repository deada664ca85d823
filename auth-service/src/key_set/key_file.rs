//! Reads a file of public keys: PEM, a JWK or a JWK set.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use super::VerificationKey;
use super::jwk;
use super::public_key::{self, RejectKeyError};

/// Largest key file that is read. A JWK set of a hundred keys is a quarter of it.
const FILE_BYTES_MAX: u64 = 256 * 1024;

/// How a PEM block begins. The library skips blocks that have no end.
const PEM_BEGIN: &str = "-----BEGIN ";

pub(super) fn read(path: &Path) -> Result<Vec<VerificationKey>, ReadKeyFileError> {
    let mut text = String::new();
    let file = File::open(path).map_err(ReadKeyFileError::Read)?;
    file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(ReadKeyFileError::Read)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(ReadKeyFileError::TooLarge);
    }
    parse(&text)
}

pub(super) fn parse_bytes(bytes: &[u8]) -> Result<Vec<VerificationKey>, ReadKeyFileError> {
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(ReadKeyFileError::TooLarge);
    }
    let no_text = |_| ReadKeyFileError::Read(io::ErrorKind::InvalidData.into());
    parse(str::from_utf8(bytes).map_err(no_text)?)
}

pub(super) fn parse(text: &str) -> Result<Vec<VerificationKey>, ReadKeyFileError> {
    let keys = if text.trim_start().starts_with('{') {
        jwk::parse(text)?
    } else if text.contains(PEM_BEGIN) {
        parse_pem(text)?
    } else {
        return Err(ReadKeyFileError::UnknownFormat);
    };
    if keys.is_empty() { Err(ReadKeyFileError::Empty) } else { Ok(keys) }
}

fn parse_pem(text: &str) -> Result<Vec<VerificationKey>, ReadKeyFileError> {
    let blocks = pem::parse_many(text).map_err(|_| ReadKeyFileError::MalformedPem)?;
    if blocks.len() != text.matches(PEM_BEGIN).count() {
        return Err(ReadKeyFileError::MalformedPem);
    }
    blocks
        .iter()
        .enumerate()
        .map(|(index, block)| {
            public_key::from_pem_block(block.tag(), block.contents())
                .map_err(|source| ReadKeyFileError::Key { number: index + 1, source })
        })
        .collect()
}

/// Why a file does not hold public keys that we can use.
#[derive(Debug, thiserror::Error)]
pub enum ReadKeyFileError {
    #[error("it cannot be read")]
    Read(#[source] io::Error),
    #[error("it is larger than {FILE_BYTES_MAX} bytes")]
    TooLarge,
    #[error("it is neither PEM nor JSON")]
    UnknownFormat,
    #[error("it holds no key")]
    Empty,
    #[error("it is not valid PEM")]
    MalformedPem,
    #[error("it is neither a JWK nor a JWK set")]
    MalformedJwk(#[source] serde_json::Error),
    #[error("it is a JWK and a JWK set at once")]
    JwkAndSet,
    #[error("its key number {number} is refused")]
    Key { number: usize, source: RejectKeyError },
}
