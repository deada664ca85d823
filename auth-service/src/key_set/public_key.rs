//! Turns key material into a key that verifies, or says what is wrong with it.

use aws_lc_rs::rsa;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ED25519, ParsedPublicKey};
use jsonwebtoken::DecodingKey;

use super::{VerificationKey, roca};
use crate::algorithm::Algorithm;

/// Smallest RSA modulus, in bits (NIST SP 800-131A).
const RSA_BITS_MIN: usize = 2048;
/// Largest RSA modulus, in bits: what the signature library verifies with.
const RSA_BITS_MAX: usize = 8192;
/// Smallest RSA exponent (FIPS 186-5: larger than 2^16, and odd).
const RSA_EXPONENT_MIN: u64 = 65_537;

/// Reads a PEM block. PEM knows no key id.
pub(super) fn from_pem_block(label: &str, der: &[u8]) -> Result<VerificationKey, RejectKeyError> {
    let Material { algorithm, decoding_key } = match label {
        "PUBLIC KEY" => subject_public_key_info(der)?,
        "RSA PUBLIC KEY" => {
            rsa(&rsa::PublicKey::from_der(der).map_err(|_| RejectKeyError::Malformed)?)?
        }
        "CERTIFICATE" => return Err(RejectKeyError::Certificate),
        label if label.ends_with("PRIVATE KEY") => return Err(RejectKeyError::Private),
        _ => return Err(RejectKeyError::UnknownLabel),
    };
    Ok(VerificationKey { id: None, algorithm, decoding_key })
}

/// Reads a public key of any kind. One on another curve than P-256 cannot be told from a broken one here.
fn subject_public_key_info(der: &[u8]) -> Result<Material, RejectKeyError> {
    match rsa::PublicKey::from_der(der) {
        Ok(key) => rsa(&key),
        Err(_) => p256(der).or_else(|_| ed25519(der)).map_err(|_| RejectKeyError::UnsupportedPem),
    }
}

/// A public key that was checked, with the algorithm that follows from its kind.
#[derive(Debug)]
pub(super) struct Material {
    pub(super) algorithm: Algorithm,
    pub(super) decoding_key: DecodingKey,
}

fn rsa(key: &rsa::PublicKey) -> Result<Material, RejectKeyError> {
    rsa_components(
        key.modulus().big_endian_without_leading_zero(),
        key.exponent().big_endian_without_leading_zero(),
    )
}

/// Reads an RSA key from its modulus and exponent, which must have no leading zeros.
pub(super) fn rsa_components(n: &[u8], e: &[u8]) -> Result<Material, RejectKeyError> {
    let (Some(&n_first), Some(&n_last), Some(&e_first)) = (n.first(), n.last(), e.first()) else {
        return Err(RejectKeyError::Malformed);
    };
    if n_first == 0 || e_first == 0 || n_last.is_multiple_of(2) {
        return Err(RejectKeyError::Malformed);
    }
    let bits = n.len() * 8 - n_first.leading_zeros() as usize;
    if !(RSA_BITS_MIN..=RSA_BITS_MAX).contains(&bits) {
        return Err(RejectKeyError::RsaSize { bits });
    }
    if !is_rsa_exponent(e) {
        return Err(RejectKeyError::RsaExponent);
    }
    if roca::is_flawed(n) {
        return Err(RejectKeyError::RsaFlawed);
    }
    Ok(Material {
        algorithm: Algorithm::Rs256,
        decoding_key: DecodingKey::from_rsa_raw_components(n, e),
    })
}

fn is_rsa_exponent(e: &[u8]) -> bool {
    // The signature library takes at most 33 bits, so eight bytes are ample.
    if e.len() > 8 {
        return false;
    }
    let value = e.iter().fold(0u64, |value, byte| value << 8 | u64::from(*byte));
    value >= RSA_EXPONENT_MIN && !value.is_multiple_of(2)
}

/// Reads a P-256 key from a `SubjectPublicKeyInfo` or a point. The point must be on the curve.
pub(super) fn p256(bytes: &[u8]) -> Result<Material, RejectKeyError> {
    ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, bytes).map_err(|_| RejectKeyError::Malformed)?;
    Ok(Material { algorithm: Algorithm::Es256, decoding_key: DecodingKey::from_ec_der(bytes) })
}

/// Reads an Ed25519 key from a `SubjectPublicKeyInfo` or its 32 bytes.
pub(super) fn ed25519(bytes: &[u8]) -> Result<Material, RejectKeyError> {
    ParsedPublicKey::new(&ED25519, bytes).map_err(|_| RejectKeyError::Malformed)?;
    Ok(Material { algorithm: Algorithm::EdDsa, decoding_key: DecodingKey::from_ed_der(bytes) })
}

/// Why one key is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RejectKeyError {
    #[error("it is private or secret, and only its public part belongs here")]
    Private,
    #[error("it is a certificate; put the public key inside it in its place")]
    Certificate,
    #[error("its PEM label is not that of a public key")]
    UnknownLabel,
    #[error("it is not a valid RSA, P-256 or Ed25519 public key")]
    UnsupportedPem,
    #[error("its parts do not make a valid public key")]
    Malformed,
    #[error("its RSA modulus has {bits} bits, not {RSA_BITS_MIN} to {RSA_BITS_MAX}")]
    RsaSize { bits: usize },
    #[error("its RSA exponent is not odd, or not from {RSA_EXPONENT_MIN} to 2^33")]
    RsaExponent,
    #[error("its RSA modulus comes from a generator whose keys can be broken (CVE-2017-15361)")]
    RsaFlawed,
    #[error("it lacks `{member}`")]
    MissingMember { member: &'static str },
    #[error("its `kty` and `crv` are not RSA, EC with P-256 or OKP with Ed25519")]
    UnsupportedType,
    #[error("its `alg` is not {algorithm}, the only algorithm for keys of its kind")]
    UnsupportedAlgorithm { algorithm: &'static str },
    #[error("its `use` or `key_ops` do not allow to verify signatures with it")]
    NotForVerification,
    #[error("its `kid` is empty")]
    EmptyId,
}
