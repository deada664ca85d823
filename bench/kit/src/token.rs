//! Makes the tokens that clients come with.

use std::time::UNIX_EPOCH;

use jsonwebtoken::{EncodingKey, Header};
use serde_json::json;

/// The HS256 secret of every server that is measured.
pub const SECRET: &str = "a secret of this benchmark and of nothing else";

const LIFE_SECONDS: u64 = 24 * 3600;

/// Returns a token for a user of this name.
///
/// # Errors
///
/// When the clock is before 1970.
pub fn token(subject: &str) -> anyhow::Result<String> {
    let claims = json!({
        "sub": subject,
        "name": subject,
        "iss": "sockeye",
        "aud": "sockeye",
        "exp": UNIX_EPOCH.elapsed()?.as_secs() + LIFE_SECONDS,
    });
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    Ok(jsonwebtoken::encode(&Header::default(), &claims, &key)?)
}
