//! Reads the key set that an issuer publishes, of which some keys may be of no use to us.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::jwk;
use super::public_key::RejectKeyError;
use super::{KeySet, VerificationKey};
use crate::algorithm::Algorithm;

/// Most keys in a set. Each is looked at for every token that names none of those before it.
const KEY_COUNT_MAX: usize = 100;

#[derive(Deserialize)]
struct PublishedSet<'a> {
    #[serde(borrow)]
    keys: Vec<&'a RawValue>,
}

/// A key of the set that verifies nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SkippedKey {
    /// Its place in the set, from 1 on.
    pub(crate) number: usize,
    pub(crate) reason: SkipReason,
}

/// Why a key of the set verifies nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SkipReason {
    /// It is private or symmetric, so that whoever reads the set can sign with it.
    Private,
    /// Its `use` or `key_ops` say that it is for something else.
    OtherUse,
    /// Of a kind, or for an algorithm, that we do not know or that its issuer must not use.
    Algorithm,
    /// Too small, or known to be breakable.
    Weak,
    Malformed,
    /// Another key of the set has its `kid`, or it has none beside others of its algorithm: no token can name it.
    Ambiguous,
}

impl SkipReason {
    pub(crate) const ALL: [Self; 6] = [
        Self::Private,
        Self::OtherUse,
        Self::Algorithm,
        Self::Weak,
        Self::Malformed,
        Self::Ambiguous,
    ];

    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Private => "private",
            Self::OtherUse => "other_use",
            Self::Algorithm => "algorithm",
            Self::Weak => "weak",
            Self::Malformed => "malformed",
            Self::Ambiguous => "ambiguous",
        }
    }
}

impl From<RejectKeyError> for SkipReason {
    fn from(error: RejectKeyError) -> Self {
        match error {
            RejectKeyError::Private => Self::Private,
            RejectKeyError::NotForVerification => Self::OtherUse,
            RejectKeyError::UnsupportedType | RejectKeyError::UnsupportedAlgorithm { .. } => {
                Self::Algorithm
            }
            RejectKeyError::RsaSize { .. }
            | RejectKeyError::RsaExponent
            | RejectKeyError::RsaFlawed => Self::Weak,
            RejectKeyError::Certificate
            | RejectKeyError::UnknownLabel
            | RejectKeyError::UnsupportedPem
            | RejectKeyError::Malformed
            | RejectKeyError::MissingMember { .. }
            | RejectKeyError::EmptyId => Self::Malformed,
        }
    }
}

impl KeySet {
    /// Reads what an issuer publishes. Keys that we cannot use are skipped: unlike a file of ours, it serves others too.
    ///
    /// A set without a key that is of use is a set: its issuer has taken the keys back.
    pub(crate) fn parse_published(
        json: &[u8],
        algorithms: &[Algorithm],
    ) -> Result<(Self, Vec<SkippedKey>), ReadKeySetError> {
        let set: PublishedSet<'_> =
            serde_json::from_slice(json).map_err(|_| ReadKeySetError::Malformed)?;
        if set.keys.len() > KEY_COUNT_MAX {
            return Err(ReadKeySetError::TooMany);
        }
        let (mut keys, mut skipped) = (Vec::new(), Vec::new());
        for (index, text) in set.keys.into_iter().enumerate() {
            let number = index + 1;
            match jwk::parse_key(text.get()) {
                Ok(key) if algorithms.contains(&key.algorithm) => keys.push((number, key)),
                Ok(_) => skipped.push(SkippedKey { number, reason: SkipReason::Algorithm }),
                Err(error) => skipped.push(SkippedKey { number, reason: error.into() }),
            }
        }
        let is_ambiguous: Vec<_> = keys.iter().map(|(_, key)| is_ambiguous(key, &keys)).collect();
        let mut found = Vec::new();
        for ((number, key), is_ambiguous) in keys.into_iter().zip(is_ambiguous) {
            if is_ambiguous {
                skipped.push(SkippedKey { number, reason: SkipReason::Ambiguous });
            } else {
                found.push(key);
            }
        }
        skipped.sort_by_key(|key| key.number);
        Ok((Self { keys: found, algorithms: algorithms.to_vec() }, skipped))
    }
}

/// Whether tokens could not tell the key from another one of the set.
fn is_ambiguous(key: &VerificationKey, keys: &[(usize, VerificationKey)]) -> bool {
    let alike = |other: &VerificationKey| match key.id {
        Some(_) => key.id == other.id,
        None => key.algorithm == other.algorithm,
    };
    keys.iter().filter(|(_, other)| alike(other)).count() > 1
}

/// Why an answer is no key set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ReadKeySetError {
    #[error("the answer is not a JWK set")]
    Malformed,
    #[error("the set has more than {KEY_COUNT_MAX} keys")]
    TooMany,
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::refusal::Refusal;
    use crate::signing::{base64url, key_pairs};

    const RS_AND_ES: [Algorithm; 2] = [Algorithm::Rs256, Algorithm::Es256];

    fn jwk(mut jwk: Value, members: Value) -> Value {
        let Value::Object(members) = members else { panic!("{members}") };
        jwk.as_object_mut().unwrap().extend(members);
        jwk
    }

    fn parse(keys: &[Value]) -> (KeySet, Vec<(usize, &'static str)>) {
        let text = json!({"keys": keys, "revision": 7}).to_string();
        let (set, skipped) = KeySet::parse_published(text.as_bytes(), &RS_AND_ES).unwrap();
        (set, skipped.into_iter().map(|key| (key.number, key.reason.label())).collect())
    }

    #[test]
    fn what_is_of_no_use_is_skipped_and_the_rest_is_used() {
        let pairs = key_pairs();
        let weak = json!({"kty": "RSA", "kid": "w", "e": "AQAB", "n": base64url([0xff; 128])});

        let (set, skipped) = parse(&[
            jwk(pairs.rsa_jwk(), json!({"kid": "r", "use": "sig", "alg": "RS256", "x5c": ["?"]})),
            jwk(pairs.rsa_jwk(), json!({"kid": "enc", "use": "enc"})),
            jwk(pairs.rsa_jwk(), json!({"kid": "ops", "key_ops": ["encrypt"]})),
            jwk(pairs.rsa_jwk(), json!({"kid": "pss", "alg": "PS256"})),
            jwk(pairs.rsa_jwk(), json!({"kid": "d", "d": "AQAB"})),
            jwk(pairs.ed25519_jwk(), json!({"kid": "o"})),
            json!({"kty": "oct", "kid": "k", "k": base64url([7; 32])}),
            json!({"kty": "EC", "crv": "P-521", "kid": "p521", "x": "AA", "y": "AA"}),
            json!({"kty": "future", "kid": "f"}),
            weak,
            json!({"kty": "RSA", "kid": "half", "n": "AQAB"}),
            json!("not a key"),
            jwk(pairs.rsa_jwk(), json!({"kid": ""})),
            jwk(pairs.p256_jwk(), json!({"kid": "e", "key_ops": ["verify"]})),
        ]);

        assert_eq!(
            skipped,
            [
                (2, "other_use"),
                (3, "other_use"),
                (4, "algorithm"),
                (5, "private"),
                (6, "algorithm"),
                (7, "private"),
                (8, "algorithm"),
                (9, "algorithm"),
                (10, "weak"),
                (11, "malformed"),
                (12, "malformed"),
                (13, "malformed"),
            ],
        );
        assert_eq!(set.len(), 2);
        assert!(set.select(Algorithm::Rs256, Some("r")).is_ok());
        assert!(set.select(Algorithm::Es256, Some("e")).is_ok());
        assert_eq!(set.select(Algorithm::Es256, Some("r")).unwrap_err(), Refusal::Algorithm);
        assert_eq!(set.select(Algorithm::EdDsa, Some("o")).unwrap_err(), Refusal::Algorithm);
        assert_eq!(set.select(Algorithm::Hs256, Some("k")).unwrap_err(), Refusal::Algorithm);
    }

    #[test]
    fn keys_that_no_token_can_tell_apart_are_skipped() {
        let pairs = key_pairs();
        let rsa = |members| jwk(pairs.rsa_jwk(), members);

        let (set, skipped) = parse(&[
            rsa(json!({"kid": "twice"})),
            rsa(json!({"kid": "once"})),
            rsa(json!({"kid": "twice"})),
            rsa(json!({})),
            pairs.p256_jwk(),
        ]);

        assert_eq!(skipped, [(1, "ambiguous"), (3, "ambiguous"), (4, "ambiguous")]);
        assert!(set.select(Algorithm::Rs256, Some("once")).is_ok());
        assert!(set.select(Algorithm::Es256, None).is_ok());

        let of_two_kinds =
            parse(&[rsa(json!({"kid": "k"})), jwk(pairs.p256_jwk(), json!({"kid": "k"}))]);
        assert_eq!(of_two_kinds.1, [(1, "ambiguous"), (2, "ambiguous")]);
    }

    #[test]
    fn a_set_without_keys_knows_its_algorithms() {
        let (set, skipped) = parse(&[]);

        assert_eq!(skipped, []);
        for key_id in [None, Some("r")] {
            assert_eq!(set.select(Algorithm::Rs256, key_id).unwrap_err(), Refusal::UnknownKey);
        }
        assert_eq!(set.select(Algorithm::EdDsa, Some("r")).unwrap_err(), Refusal::Algorithm);
    }

    #[test]
    fn what_is_no_set_or_has_too_many_keys_is_an_error() {
        let parse = |text: &str| KeySet::parse_published(text.as_bytes(), &RS_AND_ES).unwrap_err();
        let many = |count| json!({"keys": vec![json!({}); count]}).to_string();

        for text in ["", "[]", "{}", "<html>", r#"{"keys":{}}"#, r#"{"keys":[],"keys":[]}"#] {
            assert_eq!(parse(text), ReadKeySetError::Malformed, "{text}");
        }
        assert_eq!(parse(&many(KEY_COUNT_MAX + 1)), ReadKeySetError::TooMany);
        assert!(KeySet::parse_published(many(KEY_COUNT_MAX).as_bytes(), &RS_AND_ES).is_ok());
    }
}
