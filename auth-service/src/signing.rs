//! Makes keys and signs hostile tokens for the tests, with nothing of what is under test.

use std::sync::OnceLock;

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256,
    RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

pub(crate) const HS256_SECRET: &[u8] = b"a secret that is only used in these tests";

/// Returns one key pair of each kind, made once: RSA takes its time.
pub(crate) fn key_pairs() -> &'static KeyPairs {
    static KEY_PAIRS: OnceLock<KeyPairs> = OnceLock::new();
    KEY_PAIRS.get_or_init(|| KeyPairs {
        rsa: RsaKeyPair::generate(KeySize::Rsa2048).unwrap(),
        p256: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(),
        ed25519: Ed25519KeyPair::generate().unwrap(),
    })
}

pub(crate) struct KeyPairs {
    pub(crate) rsa: RsaKeyPair,
    pub(crate) p256: EcdsaKeyPair,
    pub(crate) ed25519: Ed25519KeyPair,
}

impl KeyPairs {
    pub(crate) fn rsa_pem(&self) -> String {
        public_pem(self.rsa.public_key())
    }

    pub(crate) fn p256_pem(&self) -> String {
        public_pem(self.p256.public_key())
    }

    pub(crate) fn ed25519_pem(&self) -> String {
        public_pem(self.ed25519.public_key())
    }

    pub(crate) fn rsa_jwk(&self) -> Value {
        let key = self.rsa.public_key();
        let n = base64url(key.modulus().big_endian_without_leading_zero());
        let e = base64url(key.exponent().big_endian_without_leading_zero());
        json!({"kty": "RSA", "n": n, "e": e})
    }

    pub(crate) fn p256_jwk(&self) -> Value {
        let point = self.p256.public_key().as_ref();
        json!({
            "kty": "EC", "crv": "P-256", "x": base64url(&point[1..33]), "y": base64url(&point[33..]),
        })
    }

    pub(crate) fn ed25519_jwk(&self) -> Value {
        json!({"kty": "OKP", "crv": "Ed25519", "x": base64url(self.ed25519.public_key().as_ref())})
    }
}

pub(crate) fn public_pem(key: &impl AsDer<PublicKeyX509Der<'static>>) -> String {
    pem("PUBLIC KEY", key.as_der().unwrap().as_ref())
}

pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    pem::encode(&pem::Pem::new(label, der))
}

pub(crate) fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Signs whatever stands in the two parts, with HS256.
pub(crate) fn hs256(header: &str, payload: &str, secret: &[u8]) -> String {
    signed(header.as_bytes(), payload.as_bytes(), |message| hmac_sha256(message, secret))
}

pub(crate) fn hmac_sha256(message: &[u8], secret: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message).as_ref().to_vec()
}

pub(crate) fn rs256(header: &str, payload: &str) -> String {
    signed(header.as_bytes(), payload.as_bytes(), |message| {
        let key = &key_pairs().rsa;
        let mut signature = vec![0; key.public_modulus_len()];
        key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature).unwrap();
        signature
    })
}

pub(crate) fn es256(header: &str, payload: &str) -> String {
    signed(header.as_bytes(), payload.as_bytes(), |message| {
        key_pairs().p256.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec()
    })
}

pub(crate) fn eddsa(header: &str, payload: &str) -> String {
    signed(header.as_bytes(), payload.as_bytes(), |message| {
        key_pairs().ed25519.sign(message).as_ref().to_vec()
    })
}

/// Joins two parts of any bytes with what `sign` makes of them.
pub(crate) fn signed(header: &[u8], payload: &[u8], sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let message = format!("{}.{}", base64url(header), base64url(payload));
    let signature = sign(message.as_bytes());
    format!("{message}.{}", base64url(signature))
}
