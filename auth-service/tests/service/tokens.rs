//! Makes tokens, good and bad.

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

pub(crate) const SECRET: &str = "a secret that only these tests know of";

/// Returns a good token for `subject`.
pub(crate) fn token_for(subject: &str) -> String {
    sign(&claims_for(subject))
}

/// Returns a good token for `subject`, issued at this time (in seconds), with the `jti` "t" and the `sid` "s".
pub(crate) fn marked_token_for(subject: &str, issued_at_s: u64) -> String {
    let mut claims = claims_for(subject);
    claims["jti"] = json!("t");
    claims["sid"] = json!("s");
    claims["iat"] = json!(issued_at_s);
    sign(&claims)
}

/// Returns a token that was good until 2001.
pub(crate) fn expired_token() -> String {
    let mut claims = claims_for("ada");
    claims["exp"] = json!(1_000_000_000);
    sign(&claims)
}

/// Returns a token longer than any that is looked at.
pub(crate) fn token_of_bytes(length: usize) -> String {
    let mut claims = claims_for("ada");
    claims["name"] = json!("x".repeat(length));
    sign(&claims)
}

fn claims_for(subject: &str) -> Value {
    let in_2100 = 4_102_444_800_u64;
    json!({"iss": "sockeye", "aud": "sockeye", "sub": subject, "name": "Ada", "exp": in_2100})
}

fn sign(claims: &Value) -> String {
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &key).unwrap()
}
