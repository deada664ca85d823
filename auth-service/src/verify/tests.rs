//! The tokens that must be refused, and the few that must not.

use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::capabilities::CapabilityRules;
use crate::hs256_secret::Hs256Secret;
use crate::identity::TokenMarks;
use crate::key_set::VerificationKey;
use crate::rules::ClaimNames;
use crate::signing::{
    HS256_SECRET, base64url, eddsa, es256, hmac_sha256, hs256, key_pairs, rs256, signed,
};
use crate::tenant::TenantRule;

mod claims;
mod header;
mod wycheproof;

const NOW_S: u64 = 1_800_000_000;
const NOW_MS: u64 = NOW_S * 1000;
const LEEWAY_S: u64 = 5;
const HS256_HEADER: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

fn rules() -> Rules {
    Rules {
        issuer: "https://id.example".to_owned(),
        audience: "chat".to_owned(),
        clock_leeway: Duration::from_secs(LEEWAY_S),
        types: TokenTypes::default(),
        scopes: Vec::new(),
        claims: ClaimNames::default(),
        tenant: TenantRule::Fixed(String::new()),
        capabilities: CapabilityRules::default(),
    }
}

/// A set with one key per algorithm: the secret without an id, the public keys with `r`, `e` and `o`.
fn keys() -> KeySet {
    let with_id = |mut jwk: Value, id: &str| {
        jwk["kid"] = json!(id);
        jwk
    };
    let pairs = key_pairs();
    let set = json!({"keys": [
        with_id(pairs.rsa_jwk(), "r"), with_id(pairs.p256_jwk(), "e"), with_id(pairs.ed25519_jwk(), "o"),
    ]});
    key_set(&set.to_string())
}

fn key_set(public_keys: &str) -> KeySet {
    let secret = Hs256Secret::from_bytes(HS256_SECRET).unwrap();
    let mut keys = vec![VerificationKey::hs256(&secret)];
    keys.extend(KeySet::parse_public_keys(public_keys).unwrap());
    KeySet::from_keys(keys).unwrap()
}

fn claims() -> Value {
    json!({"iss": "https://id.example", "aud": "chat", "sub": "ada", "exp": NOW_S + 60})
}

/// The good claims with one of them replaced.
fn claims_with(name: &str, value: Value) -> String {
    let mut claims = claims();
    claims[name] = value;
    claims.to_string()
}

fn claims_without(name: &str) -> String {
    let mut claims = claims();
    claims.as_object_mut().unwrap().remove(name);
    claims.to_string()
}

fn good_token() -> String {
    hs256(HS256_HEADER, &claims().to_string(), HS256_SECRET)
}

fn outcome(token: &str) -> Result<Identity, Refusal> {
    verify(token, &keys(), &rules(), NOW_MS)
}

#[track_caller]
fn assert_refused(token: &str, expected: Refusal) {
    assert_eq!(outcome(token), Err(expected), "{token}");
}

#[track_caller]
fn assert_header_refused(header: &str, expected: Refusal) {
    assert_refused(&hs256(header, &claims().to_string(), HS256_SECRET), expected);
}

#[track_caller]
fn assert_payload_refused(payload: &str, expected: Refusal) {
    assert_eq!(outcome(&hs256(HS256_HEADER, payload, HS256_SECRET)), Err(expected), "{payload}");
}

#[track_caller]
fn assert_payload_accepted(payload: &str) -> Identity {
    outcome(&hs256(HS256_HEADER, payload, HS256_SECRET))
        .unwrap_or_else(|refusal| panic!("{payload}: {refusal:?}"))
}

#[test]
fn a_good_token_of_each_algorithm_is_accepted() {
    let payload = claims().to_string();
    let tokens = [
        good_token(),
        rs256(r#"{"alg":"RS256","kid":"r"}"#, &payload),
        es256(r#"{"alg":"ES256","kid":"e"}"#, &payload),
        eddsa(r#"{"alg":"EdDSA","kid":"o"}"#, &payload),
    ];

    for token in tokens {
        assert_eq!(
            outcome(&token),
            Ok(Identity {
                subject: "ada".to_owned(),
                issuer: "https://id.example".to_owned(),
                tenant: String::new(),
                name: None,
                expires_at_unix_ms: (NOW_S + 60) * 1000,
                marks: TokenMarks::default(),
                capabilities: Vec::new(),
            }),
        );
    }
}

#[test]
fn keys_from_pem_verify_as_keys_from_jwk_do() {
    let payload = claims().to_string();
    let pairs = key_pairs();
    let keys = key_set(&[pairs.rsa_pem(), pairs.p256_pem(), pairs.ed25519_pem()].concat());

    for token in [
        rs256(r#"{"alg":"RS256"}"#, &payload),
        es256(r#"{"alg":"ES256"}"#, &payload),
        eddsa(r#"{"alg":"EdDSA"}"#, &payload),
    ] {
        assert!(verify(&token, &keys, &rules(), NOW_MS).is_ok(), "{token}");
    }
}

#[test]
fn what_is_no_compact_serialization_is_malformed() {
    let good = good_token();
    let json = format!(r#"{{"payload":"{}","signatures":[]}}"#, base64url(claims().to_string()));
    let shapes = [
        "",
        ".",
        "..",
        "...",
        "a.b",
        "a.b.c",
        "null",
        "undefined",
        "[object Object]",
        &json,
        &format!("Bearer {good}"),
        &format!(" {good}"),
        &format!("{good} "),
        &format!("{good}\n"),
        &format!("{good}."),
        &format!(".{good}"),
        &format!("{good}.a.b"),
        &good.replace('.', "\0"),
        &good.replace('.', "…"),
    ];

    for token in shapes {
        assert_refused(token, Refusal::Malformed);
    }
}

#[test]
fn base64url_is_strict_in_all_three_parts() {
    let good = good_token();
    let parts: Vec<_> = good.split('.').collect();
    for index in 0..3 {
        for damage in ["=", "==", " ", "\n", "+", "/", "ä"] {
            let mut damaged: Vec<_> = parts.iter().map(|part| (*part).to_owned()).collect();
            damaged[index].push_str(damage);

            assert_refused(&damaged.join("."), Refusal::Malformed);
        }
    }
}

#[test]
fn bits_that_base64_would_drop_are_refused() {
    // 32 bytes of signature leave two unused bits in the last character.
    let mut token = good_token();
    let last = token.pop().unwrap();
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let position = alphabet.find(last).unwrap();
    token.push(char::from(alphabet.as_bytes()[position + 1]));

    assert_refused(&token, Refusal::Malformed);
}

#[test]
fn more_than_8_kib_is_malformed_whatever_it_says() {
    let payload_of = |length: usize| claims_with("name", json!("x".repeat(length)));
    let fitting = hs256(HS256_HEADER, &payload_of(5900), HS256_SECRET);
    let oversized = hs256(HS256_HEADER, &payload_of(6100), HS256_SECRET);
    assert!(fitting.len() <= TOKEN_BYTES_MAX && oversized.len() > TOKEN_BYTES_MAX);

    assert!(outcome(&fitting).is_ok());
    assert_refused(&oversized, Refusal::Malformed);
    assert_refused(&"a".repeat(1_000_000), Refusal::Malformed);
    assert_refused(&".".repeat(1_000_000), Refusal::Malformed);
}

#[test]
fn every_changed_bit_of_a_part_is_noticed() {
    let payload = claims().to_string();
    let tokens = [
        good_token(),
        es256(r#"{"alg":"ES256","kid":"e"}"#, &payload),
        eddsa(r#"{"alg":"EdDSA","kid":"o"}"#, &payload),
    ];
    for token in tokens {
        for index in 0..token.len() {
            for bit in 0..7 {
                let mut bytes = token.clone().into_bytes();
                bytes[index] ^= 1 << bit;
                let changed = String::from_utf8(bytes).unwrap();

                assert!(outcome(&changed).is_err(), "bit {bit} of byte {index} in {token}");
            }
        }
    }
}

#[test]
fn another_signers_token_has_the_wrong_signature() {
    let payload = claims().to_string();
    assert_refused(&hs256(HS256_HEADER, &payload, &[7; 32]), Refusal::Signature);
    assert_refused(&hs256(HS256_HEADER, &payload, b""), Refusal::Signature);

    let zeros = |length: usize| {
        signed(br#"{"alg":"ES256","kid":"e"}"#, payload.as_bytes(), |_| vec![0; length])
    };
    assert_refused(&zeros(64), Refusal::Signature);
    assert_refused(&zeros(0), Refusal::Signature);
}

#[test]
fn a_deep_header_or_payload_is_malformed() {
    let deep = "[".repeat(3000);
    assert_header_refused(&format!(r#"{{"alg":"HS256","x":{deep}"#), Refusal::Malformed);
    assert_payload_refused(&format!(r#"{{"sub":{deep}"#), Refusal::Malformed);
}

#[test]
fn what_is_not_utf_8_is_malformed() {
    let header = b"{\"alg\":\"HS256\",\"x\":\"\xff\xfe\"}";
    let payload = b"{\"sub\":\"\xc3\x28\",\"exp\":1900000000,\"iss\":\"https://id.example\",\"aud\":\"chat\"}";

    let good = claims().to_string();
    let sign = |message: &[u8]| hmac_sha256(message, HS256_SECRET);

    assert_refused(&signed(header, good.as_bytes(), sign), Refusal::Malformed);
    assert_refused(&signed(HS256_HEADER.as_bytes(), payload, sign), Refusal::Malformed);
}

#[test]
fn the_signature_is_checked_before_any_claim() {
    let token = hs256(HS256_HEADER, &claims_with("exp", json!(0)), &[7; 32]);

    assert_refused(&token, Refusal::Signature);
}

proptest! {
    #[test]
    fn no_text_makes_the_verifier_panic(token in ".*", header in ".*", payload in ".*") {
        drop(outcome(&token));
        drop(outcome(&hs256(&header, &payload, HS256_SECRET)));
        drop(outcome(&hs256(HS256_HEADER, &payload, HS256_SECRET)));
    }
}
