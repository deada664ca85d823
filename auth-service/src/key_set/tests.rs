//! The key files that must be refused, and what the rest load as.

use std::error::Error as _;
use std::io::Write as _;

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::signing::{HS256_SECRET, base64url, key_pairs, pem, public_pem};

fn secret() -> Hs256Secret {
    Hs256Secret::from_bytes(HS256_SECRET).unwrap()
}

fn algorithms_of(text: &str) -> Vec<Algorithm> {
    key_file::parse(text).unwrap().iter().map(|key| key.algorithm).collect()
}

#[track_caller]
fn assert_file_refused(text: &str, expected: &str) {
    let error = key_file::parse(text).unwrap_err();
    assert_eq!(error.to_string(), expected, "{text}");
}

/// Asserts that the first key of the file is refused.
#[track_caller]
fn assert_key_refused(text: &str, expected: RejectKeyError) {
    let error = key_file::parse(text).unwrap_err();
    let ReadKeyFileError::Key { number: 1, source } = error else { panic!("{text}: {error:?}") };
    assert_eq!(source, expected, "{text}");
}

/// The JWK with one member set to another value.
fn with(mut jwk: Value, member: &str, value: impl Into<Value>) -> String {
    jwk[member] = value.into();
    jwk.to_string()
}

fn without(mut jwk: Value, member: &str) -> String {
    jwk.as_object_mut().unwrap().remove(member).unwrap();
    jwk.to_string()
}

fn rsa_jwk_of(modulus: &[u8], exponent: &[u8]) -> String {
    json!({"kty": "RSA", "n": base64url(modulus), "e": base64url(exponent)}).to_string()
}

/// An odd number of `bits` bits. No product of two primes, which nobody can tell without factoring it.
fn modulus(bits: usize) -> Vec<u8> {
    let mut bytes = vec![0xa5; bits.div_ceil(8)];
    bytes[0] = 1 << ((bits - 1) % 8);
    bytes
}

#[test]
fn a_key_has_the_algorithm_of_its_kind() {
    let pairs = key_pairs();

    for text in [pairs.rsa_pem(), pairs.rsa_jwk().to_string()] {
        assert_eq!(algorithms_of(&text), [Algorithm::Rs256]);
    }
    for text in [pairs.p256_pem(), pairs.p256_jwk().to_string()] {
        assert_eq!(algorithms_of(&text), [Algorithm::Es256]);
    }
    for text in [pairs.ed25519_pem(), pairs.ed25519_jwk().to_string()] {
        assert_eq!(algorithms_of(&text), [Algorithm::EdDsa]);
    }
    assert_eq!(
        algorithms_of(&pem("RSA PUBLIC KEY", pairs.rsa.public_key().as_ref())),
        [Algorithm::Rs256]
    );
}

#[test]
fn a_jwk_set_keeps_the_ids_of_its_keys() {
    let pairs = key_pairs();
    let set = json!({"keys": [pairs.rsa_jwk(), pairs.p256_jwk()], "comment": "ignored"});
    let mut set: Value = set;
    set["keys"][0]["kid"] = json!("2026-11");
    set["keys"][0]["alg"] = json!("RS256");
    set["keys"][0]["use"] = json!("sig");
    set["keys"][1]["key_ops"] = json!(["verify"]);

    let keys = key_file::parse(&set.to_string()).unwrap();

    assert_eq!(keys[0].id.as_deref(), Some("2026-11"));
    assert_eq!(keys[1].id, None);
    assert_eq!(keys.len(), 2);
}

#[test]
fn rsa_moduli_have_2048_to_8192_bits() {
    let exponent = [1, 0, 1];
    for bits in [512, 1024, 2047, 8193] {
        assert_key_refused(
            &rsa_jwk_of(&modulus(bits), &exponent),
            RejectKeyError::RsaSize { bits },
        );
    }
    for bits in [2048, 3072, 8192] {
        assert_eq!(algorithms_of(&rsa_jwk_of(&modulus(bits), &exponent)), [Algorithm::Rs256]);
    }
}

#[test]
fn a_weak_rsa_key_in_pem_is_refused_too() {
    // RSAPublicKey: a sequence of the modulus (1,024 bits, so a zero before its first bit) and 65,537.
    let mut der = vec![0x30, 0x81, 0x89, 0x02, 0x81, 0x81, 0x00];
    der.extend(modulus(1024));
    der.extend([0x02, 0x03, 0x01, 0x00, 0x01]);

    assert_key_refused(&pem("RSA PUBLIC KEY", &der), RejectKeyError::RsaSize { bits: 1024 });
}

#[test]
fn rsa_exponents_are_odd_and_at_least_65537() {
    for exponent in [&[1][..], &[3], &[0xff, 0xff], &[1, 0, 0], &[1, 0, 2], &[0xff; 9]] {
        assert_key_refused(&rsa_jwk_of(&modulus(2048), exponent), RejectKeyError::RsaExponent);
    }
    let padded_with_zero = rsa_jwk_of(&modulus(2048), &[0, 1, 0, 1]);
    assert_key_refused(&padded_with_zero, RejectKeyError::Malformed);
    assert_key_refused(&rsa_jwk_of(&modulus(2048), &[]), RejectKeyError::Malformed);
    assert_key_refused(&rsa_jwk_of(&[], &[1, 0, 1]), RejectKeyError::Malformed);
    let even = [modulus(2048), vec![2]].concat();
    assert_key_refused(&rsa_jwk_of(&even, &[1, 0, 1]), RejectKeyError::Malformed);
}

#[test]
fn a_point_must_be_on_the_curve_and_whole() {
    let jwk = || key_pairs().p256_jwk();

    assert_key_refused(&with(jwk(), "y", base64url([7; 32])), RejectKeyError::Malformed);
    assert_key_refused(&with(jwk(), "x", base64url([0; 32])), RejectKeyError::Malformed);
    assert_key_refused(&with(jwk(), "x", base64url([7; 31])), RejectKeyError::Malformed);
    assert_key_refused(&with(jwk(), "x", base64url([7; 33])), RejectKeyError::Malformed);
    let short = with(key_pairs().ed25519_jwk(), "x", base64url([7; 31]));
    assert_key_refused(&short, RejectKeyError::Malformed);
}

#[test]
fn private_and_symmetric_keys_are_refused() {
    let pairs = key_pairs();
    let pkcs8 = pairs.rsa.as_der().unwrap();
    for label in [
        "PRIVATE KEY",
        "RSA PRIVATE KEY",
        "EC PRIVATE KEY",
        "ENCRYPTED PRIVATE KEY",
        "OPENSSH PRIVATE KEY",
    ] {
        assert_key_refused(&pem(label, pkcs8.as_ref()), RejectKeyError::Private);
    }
    for member in ["d", "p", "q", "dp", "dq", "qi", "oth", "k"] {
        assert_key_refused(&with(pairs.rsa_jwk(), member, "AQAB"), RejectKeyError::Private);
    }
    assert_key_refused(&with(pairs.ed25519_jwk(), "d", json!(null)), RejectKeyError::Private);
    assert_key_refused(
        &json!({"kty": "oct", "k": base64url([7; 32])}).to_string(),
        RejectKeyError::Private,
    );
    assert_key_refused(&json!({"kty": "oct"}).to_string(), RejectKeyError::Private);
}

#[test]
fn a_private_key_beside_a_public_one_spoils_the_file() {
    let pairs = key_pairs();
    let private = pem("PRIVATE KEY", pairs.rsa.as_der().unwrap().as_ref());

    let error = key_file::parse(&format!("{}{private}", pairs.rsa_pem())).unwrap_err();

    assert_eq!(error.to_string(), "its key number 2 is refused");
    assert_eq!(error.source().unwrap().to_string(), RejectKeyError::Private.to_string());
}

#[test]
fn a_key_must_be_meant_to_verify_with_our_algorithm() {
    let jwk = || key_pairs().rsa_jwk();
    for text in [
        with(jwk(), "use", "enc"),
        with(jwk(), "use", ""),
        with(jwk(), "key_ops", json!([])),
        with(jwk(), "key_ops", json!(["sign"])),
        with(jwk(), "key_ops", json!(["encrypt", "wrapKey"])),
    ] {
        assert_key_refused(&text, RejectKeyError::NotForVerification);
    }
    for name in ["RS384", "PS256", "RSA-OAEP", "HS256", "ES256", "none", ""] {
        let expected = RejectKeyError::UnsupportedAlgorithm { algorithm: "RS256" };
        assert_key_refused(&with(jwk(), "alg", name), expected);
    }
    let elliptic = with(key_pairs().p256_jwk(), "alg", "ES384");
    assert_key_refused(&elliptic, RejectKeyError::UnsupportedAlgorithm { algorithm: "ES256" });
}

#[test]
fn a_key_of_two_kinds_is_refused() {
    let pairs = key_pairs();
    assert_key_refused(&with(pairs.rsa_jwk(), "crv", "P-256"), RejectKeyError::Malformed);
    assert_key_refused(&with(pairs.rsa_jwk(), "x", "AA"), RejectKeyError::Malformed);
    assert_key_refused(&with(pairs.p256_jwk(), "n", "AA"), RejectKeyError::Malformed);
    assert_key_refused(&with(pairs.ed25519_jwk(), "e", "AA"), RejectKeyError::Malformed);
    assert_key_refused(&with(pairs.ed25519_jwk(), "y", "AA"), RejectKeyError::Malformed);
    let twice = pairs.rsa_jwk().to_string().replacen('{', r#"{"kty":"EC","#, 1);
    assert_file_refused(&twice, "it is neither a JWK nor a JWK set");
    let twice = pairs.ed25519_jwk().to_string().replacen('{', r#"{"kid":"a","kid":"b","#, 1);
    assert_file_refused(&twice, "it is neither a JWK nor a JWK set");
}

#[test]
fn kinds_that_we_cannot_verify_with_are_refused() {
    let p384 = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap();
    assert_key_refused(&public_pem(p384.public_key()), RejectKeyError::UnsupportedPem);
    assert_key_refused(&pem("PUBLIC KEY", b"no DER"), RejectKeyError::UnsupportedPem);
    assert_key_refused(&pem("RSA PUBLIC KEY", b"no DER"), RejectKeyError::Malformed);
    assert_key_refused(&pem("CERTIFICATE", b"any"), RejectKeyError::Certificate);
    assert_key_refused(&pem("EC PARAMETERS", b"any"), RejectKeyError::UnknownLabel);

    let pairs = key_pairs();
    for text in [
        with(pairs.p256_jwk(), "crv", "P-384"),
        with(pairs.p256_jwk(), "crv", "secp256k1"),
        with(pairs.ed25519_jwk(), "crv", "Ed448"),
        with(pairs.ed25519_jwk(), "crv", "X25519"),
        with(pairs.ed25519_jwk(), "kty", "EC"),
        with(pairs.rsa_jwk(), "kty", "rsa"),
        without(pairs.p256_jwk(), "crv"),
    ] {
        assert_key_refused(&text, RejectKeyError::UnsupportedType);
    }
}

#[test]
fn a_jwk_needs_its_parts_in_strict_base64url() {
    let pairs = key_pairs();
    for (jwk, member) in [
        (pairs.rsa_jwk(), "n"),
        (pairs.rsa_jwk(), "e"),
        (pairs.p256_jwk(), "x"),
        (pairs.p256_jwk(), "y"),
        (pairs.ed25519_jwk(), "x"),
        (pairs.rsa_jwk(), "kty"),
    ] {
        assert_key_refused(&without(jwk, member), RejectKeyError::MissingMember { member });
    }
    for text in ["AQAB=", "AQ AB", "AQ+B", "A", "AQAB\n"] {
        assert_key_refused(&with(pairs.rsa_jwk(), "e", text), RejectKeyError::Malformed);
    }
    assert_key_refused(&with(pairs.rsa_jwk(), "kid", ""), RejectKeyError::EmptyId);
}

#[test]
fn what_is_no_key_file_is_refused() {
    for text in ["", " \n", "ssh-ed25519 AAAAC3Nza", "[]", "null", "secret"] {
        assert_file_refused(text, "it is neither PEM nor JSON");
    }
    for text in [
        r#"{"keys":[[]]}"#,
        r#"{"keys":{}}"#,
        r#"{"kty":1}"#,
        r#"{"kty":"RSA","key_ops":"verify"}"#,
        "{",
    ] {
        assert_file_refused(text, "it is neither a JWK nor a JWK set");
    }
    assert_file_refused(r#"{"keys":[]}"#, "it holds no key");
    assert_file_refused(r#"{"keys":[],"kty":"RSA"}"#, "it is a JWK and a JWK set at once");
    assert_file_refused("-----BEGIN PUBLIC KEY-----\nAAAA", "it is not valid PEM");
    let cut_short = format!("{}-----BEGIN PUBLIC KEY-----\nAAAA", key_pairs().rsa_pem());
    assert_file_refused(&cut_short, "it is not valid PEM");
    assert_file_refused(
        "-----BEGIN PUBLIC KEY-----\n!\n-----END PUBLIC KEY-----\n",
        "it is not valid PEM",
    );
}

#[test]
fn one_bad_key_spoils_a_set() {
    let pairs = key_pairs();
    let set = json!({"keys": [pairs.rsa_jwk(), {"kty": "oct", "k": "AA"}]});

    assert_file_refused(&set.to_string(), "its key number 2 is refused");
}

#[test]
fn ids_are_unique_over_all_files() {
    let jwk = |jwk: Value| with(jwk, "kid", "same");
    let mut keys = key_file::parse(&jwk(key_pairs().rsa_jwk())).unwrap();
    keys.extend(key_file::parse(&jwk(key_pairs().p256_jwk())).unwrap());

    let error = KeySet::from_keys(keys).unwrap_err();

    assert_eq!(error.to_string(), r#"two keys have the id "same""#);
}

#[test]
fn keys_of_one_algorithm_need_ids() {
    let named = with(key_pairs().ed25519_jwk(), "kid", "a");
    let unnamed = key_pairs().ed25519_pem();
    for texts in [[&named, &unnamed], [&unnamed, &named], [&unnamed, &unnamed]] {
        let keys = texts.iter().flat_map(|text| key_file::parse(text).unwrap()).collect();

        let error = KeySet::from_keys(keys).unwrap_err();

        assert!(error.to_string().contains("several EdDSA keys"), "{error}");
    }
}

#[test]
fn no_key_is_an_error_that_says_where_keys_come_from() {
    let error = KeySet::load(None, &[]).unwrap_err();

    assert!(error.to_string().contains("AUTH_HS256_SECRET"), "{error}");
}

#[test]
fn keys_load_from_files_and_errors_name_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::File::create(&path).unwrap().write_all(text.as_bytes()).unwrap();
        path
    };
    let good = write("good.pem", &key_pairs().rsa_pem());
    let bad = write("bad.pem", "nothing");
    let large = write("large.json", &" ".repeat(256 * 1024 + 1));
    let absent = folder.path().join("absent.pem");

    let keys = KeySet::load(Some(&secret()), std::slice::from_ref(&good)).unwrap();
    assert_eq!(keys.algorithms(), [Algorithm::Hs256, Algorithm::Rs256]);

    for (path, expected) in [
        (bad, "it is neither PEM nor JSON"),
        (large, "it is larger than 262144 bytes"),
        (absent, "it cannot be read"),
    ] {
        let error = KeySet::load(None, &[good.clone(), path.clone()]).unwrap_err();
        assert_eq!(error.to_string(), format!("{} cannot serve as a key file", path.display()));
        assert_eq!(error.source().unwrap().to_string(), expected);
    }
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in ".*", inner in r#"[{}\[\]":,a-zA-Z0-9_=+/ -]*"#) {
        drop(key_file::parse(&text));
        drop(key_file::parse(&format!("{{{inner}}}")));
        drop(key_file::parse(&format!("-----BEGIN PUBLIC KEY-----\n{inner}\n-----END PUBLIC KEY-----")));
    }

    #[test]
    fn no_der_makes_the_reader_panic(der in proptest::collection::vec(any::<u8>(), 0..300)) {
        drop(key_file::parse(&pem("PUBLIC KEY", &der)));
        drop(key_file::parse(&pem("RSA PUBLIC KEY", &der)));
    }
}
