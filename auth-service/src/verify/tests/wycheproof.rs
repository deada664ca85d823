//! Vectors of Project Wycheproof: no signature is accepted that must not be, but two whose files are wrong.

use serde::Deserialize;

use super::*;

const SIGNATURES: &str = include_str!("../../../testdata/wycheproof/json_web_signature.jsonl");
const KEYS: &str = include_str!("../../../testdata/wycheproof/json_web_key.jsonl");

#[derive(Deserialize)]
struct Group {
    key: Value,
    tests: Vec<Vector>,
}

#[derive(Deserialize)]
struct Vector {
    id: u32,
    jws: String,
    valid: bool,
}

/// What we decide otherwise than the vectors, by their numbers.
#[derive(Debug, Default, PartialEq, Eq)]
struct Differences {
    vector_count: usize,
    accepted_as_told: usize,
    accepted_though_invalid: Vec<u32>,
    refused_though_valid: Vec<u32>,
    /// Valid, of algorithms that we do not have, and refused.
    of_other_algorithms: usize,
}

impl Differences {
    /// Decides each vector with the keys of its group; with keys that we refuse to load, nothing is accepted.
    fn find(groups: &str, load: impl Fn(&Value) -> Option<KeySet>) -> Self {
        let mut differences = Self::default();
        for line in groups.lines() {
            let group: Group = serde_json::from_str(line).unwrap();
            let keys = load(&group.key);
            let algorithm = group.key.pointer("/keys/0/alg").or(group.key.get("alg"));
            let is_of_ours = algorithm.is_none_or(|name| {
                name.as_str().is_some_and(|name| Algorithm::from_name(name).is_some())
            });
            for vector in group.tests {
                let is_accepted = keys.as_ref().is_some_and(|keys| {
                    signed_payload(&vector.jws, keys, &TokenTypes::default()).is_ok()
                });
                differences.vector_count += 1;
                match (is_accepted, vector.valid) {
                    (true, true) => differences.accepted_as_told += 1,
                    (true, false) => differences.accepted_though_invalid.push(vector.id),
                    (false, true) if !is_of_ours => differences.of_other_algorithms += 1,
                    (false, true) => differences.refused_though_valid.push(vector.id),
                    (false, false) => {}
                }
            }
        }
        differences
    }
}

/// Loads public keys as from a file, and secrets as from the settings, but with the id that the vectors give them.
fn load(key: &Value) -> Option<KeySet> {
    let keys = match (key["kty"].as_str(), key["alg"].as_str()) {
        (Some("oct"), Some("HS256")) => vec![secret_of(key)?],
        (Some("oct"), _) => return None,
        _ => KeySet::parse_public_keys(&key.to_string()).ok()?,
    };
    KeySet::from_keys(keys).ok()
}

fn secret_of(key: &Value) -> Option<VerificationKey> {
    let bytes = decode_base64url(key["k"].as_str()?).ok()?;
    let secret = Hs256Secret::from_bytes(&bytes).ok()?;
    Some(VerificationKey::hs256(&secret).with_id(key["kid"].as_str()?))
}

#[test]
fn no_signature_is_accepted_that_must_not_be() {
    assert_eq!(
        Differences::find(SIGNATURES, load),
        Differences {
            vector_count: 401,
            accepted_as_told: 18,
            // They are about padding, but have none: their text is that of number 357, which is valid.
            accepted_though_invalid: vec![367, 370],
            // A character that is not of base64url, in the header and in the payload.
            refused_though_valid: vec![372, 373],
            of_other_algorithms: 26,
        },
    );
}

#[test]
fn no_key_is_accepted_that_must_not_be() {
    assert_eq!(
        Differences::find(KEYS, load),
        Differences {
            vector_count: 26,
            accepted_as_told: 1,
            accepted_though_invalid: vec![],
            // Secrets in JWK sets, which only public keys may be in.
            refused_though_valid: vec![2, 13],
            of_other_algorithms: 2,
        },
    );
}
