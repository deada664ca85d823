//! Reads JSON Web Keys (RFC 7517).

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::VerificationKey;
use super::key_file::ReadKeyFileError;
use super::public_key::{self, Material, RejectKeyError};

/// Members that only private and symmetric keys have.
const PRIVATE_MEMBERS: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

/// Bytes of a coordinate on P-256. Shorter ones must be padded with zeros.
const P256_COORDINATE_BYTES: usize = 32;

/// Tells a single key from a set.
#[derive(Deserialize)]
struct Shape {
    keys: Option<IgnoredAny>,
    kty: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct JwkSet {
    keys: Vec<Jwk>,
}

/// One key as it stands in the file. A member that occurs twice is an error, as is a key that is no object.
#[derive(Deserialize)]
struct Jwk {
    kty: Option<String>,
    crv: Option<String>,
    alg: Option<String>,
    kid: Option<String>,
    #[serde(rename = "use")]
    public_key_use: Option<String>,
    key_ops: Option<Vec<String>>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    #[serde(flatten)]
    other_members: BTreeMap<String, IgnoredAny>,
}

/// Reads a key or a set of keys. One bad key spoils the file: a set that is silently half there is found out too late.
pub(super) fn parse(text: &str) -> Result<Vec<VerificationKey>, ReadKeyFileError> {
    let shape: Shape = serde_json::from_str(text).map_err(ReadKeyFileError::MalformedJwk)?;
    let keys = match (shape.keys, shape.kty) {
        (Some(_), Some(_)) => return Err(ReadKeyFileError::JwkAndSet),
        (Some(_), None) => {
            serde_json::from_str::<JwkSet>(text).map_err(ReadKeyFileError::MalformedJwk)?.keys
        }
        (None, Some(_) | None) => {
            vec![serde_json::from_str::<Jwk>(text).map_err(ReadKeyFileError::MalformedJwk)?]
        }
    };
    keys.into_iter()
        .enumerate()
        .map(|(index, key)| {
            key.into_verification_key()
                .map_err(|source| ReadKeyFileError::Key { number: index + 1, source })
        })
        .collect()
}

/// Reads one key of a set.
pub(super) fn parse_key(text: &str) -> Result<VerificationKey, RejectKeyError> {
    let key: Jwk = serde_json::from_str(text).map_err(|_| RejectKeyError::Malformed)?;
    key.into_verification_key()
}

impl Jwk {
    fn into_verification_key(self) -> Result<VerificationKey, RejectKeyError> {
        if PRIVATE_MEMBERS.iter().any(|member| self.other_members.contains_key(*member)) {
            return Err(RejectKeyError::Private);
        }
        if !self.may_verify() {
            return Err(RejectKeyError::NotForVerification);
        }
        let Material { algorithm, decoding_key } = self.material()?;
        if self.alg.is_some_and(|alg| alg != algorithm.name()) {
            return Err(RejectKeyError::UnsupportedAlgorithm { algorithm: algorithm.name() });
        }
        if self.kid.as_deref() == Some("") {
            return Err(RejectKeyError::EmptyId);
        }
        Ok(VerificationKey { id: self.kid, algorithm, decoding_key })
    }

    fn may_verify(&self) -> bool {
        let in_use = self.public_key_use.as_deref().is_none_or(|name| name == "sig");
        let among_operations =
            self.key_ops.as_ref().is_none_or(|names| names.iter().any(|name| name == "verify"));
        in_use && among_operations
    }

    /// Reads the parts that make a key of its kind. Parts of another kind make it ambiguous.
    fn material(&self) -> Result<Material, RejectKeyError> {
        let kty = self.kty.as_deref().ok_or(RejectKeyError::MissingMember { member: "kty" })?;
        let has_rsa_parts = self.n.is_some() || self.e.is_some();
        match (kty, self.crv.as_deref()) {
            ("RSA", None) if self.x.is_none() && self.y.is_none() => {
                public_key::rsa_components(&part("n", &self.n)?, &part("e", &self.e)?)
            }
            ("EC", Some("P-256")) if !has_rsa_parts => {
                public_key::p256(&p256_point(&part("x", &self.x)?, &part("y", &self.y)?)?)
            }
            ("OKP", Some("Ed25519")) if !has_rsa_parts && self.y.is_none() => {
                public_key::ed25519(&part("x", &self.x)?)
            }
            ("RSA", _) | ("EC", Some("P-256")) | ("OKP", Some("Ed25519")) => {
                Err(RejectKeyError::Malformed)
            }
            ("oct", _) => Err(RejectKeyError::Private),
            _ => Err(RejectKeyError::UnsupportedType),
        }
    }
}

fn part(member: &'static str, text: &Option<String>) -> Result<Vec<u8>, RejectKeyError> {
    let text = text.as_deref().ok_or(RejectKeyError::MissingMember { member })?;
    URL_SAFE_NO_PAD.decode(text).map_err(|_| RejectKeyError::Malformed)
}

fn p256_point(x: &[u8], y: &[u8]) -> Result<Vec<u8>, RejectKeyError> {
    const UNCOMPRESSED: u8 = 4;
    if x.len() != P256_COORDINATE_BYTES || y.len() != P256_COORDINATE_BYTES {
        return Err(RejectKeyError::Malformed);
    }
    Ok([&[UNCOMPRESSED], x, y].concat())
}
