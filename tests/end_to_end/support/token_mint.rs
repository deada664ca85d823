//! Makes tokens: good ones, and every kind of bad one.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, UNIX_EPOCH},
};

use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der},
    rand::SystemRandom,
    rsa,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _},
};
use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};
use tempfile::TempDir;

pub(crate) const ISSUER: &str = "sockeye";
pub(crate) const AUDIENCE: &str = "sockeye";
const LIFETIME: Duration = Duration::from_secs(600);

/// Signs tokens with a shared secret, as a backend that lets its users in would.
#[derive(Debug, Clone)]
pub(crate) struct TokenMint {
    secret: String,
}

impl TokenMint {
    pub(crate) fn new(secret: &str) -> Self {
        Self { secret: secret.to_owned() }
    }

    pub(crate) fn secret(&self) -> &str {
        &self.secret
    }

    /// Returns a good token for a user whose name is its subject.
    pub(crate) fn token(&self, subject: &str) -> String {
        self.sign(&Self::claims(subject))
    }

    /// Returns the claims of a good token.
    pub(crate) fn claims(subject: &str) -> Value {
        json!({
            "sub": subject,
            "name": subject,
            "iss": ISSUER,
            "aud": AUDIENCE,
            "exp": unix_seconds() + LIFETIME.as_secs(),
        })
    }

    /// Returns the claims of a good token, but for one claim. `null` leaves it out.
    pub(crate) fn claims_but(subject: &str, claim: &str, value: Value) -> Value {
        let mut claims = Self::claims(subject);
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(claim);
        } else {
            claims[claim] = value;
        }
        claims
    }

    /// Signs `claims` with HS256.
    pub(crate) fn sign(&self, claims: &Value) -> String {
        sign_with_secret(self.secret.as_bytes(), claims)
    }
}

/// Signs `claims` with HS256 and any bytes as the secret.
pub(crate) fn sign_with_secret(secret: &[u8], claims: &Value) -> String {
    encode(&Header::new(Algorithm::HS256), claims, &EncodingKey::from_secret(secret)).unwrap()
}

/// Returns a token that claims to need no signature, with an empty one or with `signature`.
pub(crate) fn unsigned(algorithm: &str, claims: &Value, signature: &str) -> String {
    let header = BASE64_URL_SAFE_NO_PAD.encode(json!({"alg": algorithm, "typ": "JWT"}).to_string());
    let claims = BASE64_URL_SAFE_NO_PAD.encode(claims.to_string());
    format!("{header}.{claims}.{signature}")
}

pub(crate) fn unix_seconds() -> u64 {
    UNIX_EPOCH.elapsed().unwrap().as_secs()
}

/// A key pair made for this test run, its public half in a file.
#[derive(Debug)]
pub(crate) struct KeyPair {
    algorithm: Algorithm,
    private_key: EncodingKey,
    public_pem: String,
    folder: TempDir,
}

impl KeyPair {
    pub(crate) fn rs256() -> Self {
        let pair = rsa::KeyPair::generate(rsa::KeySize::Rsa2048).unwrap();
        let private: Pkcs8V1Der<'_> = pair.as_der().unwrap();
        let public: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
        let private_key =
            EncodingKey::from_rsa_pem(pem("PRIVATE KEY", private.as_ref()).as_bytes());
        Self::new(Algorithm::RS256, private_key.unwrap(), public.as_ref())
    }

    pub(crate) fn es256() -> Self {
        let document =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
                .unwrap();
        let pair =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref()).unwrap();
        let public: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
        let private_key =
            EncodingKey::from_ec_pem(pem("PRIVATE KEY", document.as_ref()).as_bytes());
        Self::new(Algorithm::ES256, private_key.unwrap(), public.as_ref())
    }

    pub(crate) fn ed25519() -> Self {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        let pair = Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap();
        let public: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
        let private_key =
            EncodingKey::from_ed_pem(pem("PRIVATE KEY", document.as_ref()).as_bytes());
        Self::new(Algorithm::EdDSA, private_key.unwrap(), public.as_ref())
    }

    fn new(algorithm: Algorithm, private_key: EncodingKey, public_der: &[u8]) -> Self {
        let public_pem = pem("PUBLIC KEY", public_der);
        let folder = tempfile::tempdir().unwrap();
        let pair = Self { algorithm, private_key, public_pem, folder };
        fs::write(pair.public_key_file(), &pair.public_pem).unwrap();
        pair
    }

    pub(crate) fn public_key_file(&self) -> PathBuf {
        self.folder.path().join("public.pem")
    }

    pub(crate) fn public_pem(&self) -> &str {
        &self.public_pem
    }

    /// Signs `claims` with the pair's algorithm.
    pub(crate) fn sign(&self, claims: &Value) -> String {
        encode(&Header::new(self.algorithm), claims, &self.private_key).unwrap()
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = BASE64_STANDARD.encode(der);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}
