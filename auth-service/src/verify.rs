//! Decides whether a token is accepted, and whom it speaks for.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use crate::algorithm::Algorithm;
use crate::claims::strict_validation;
use crate::identity::Identity;
use crate::json_object::parse_json_object;
use crate::key_set::{KeySet, VerificationKey};
use crate::refusal::Refusal;
use crate::rules::{Rules, TokenTypes};

/// Largest token that is looked at.
pub(crate) const TOKEN_BYTES_MAX: usize = 8 * 1024;

/// Header members that change what a token is. We follow none of them, so a token that has one is not understood:
/// extensions (`crit`), compression (`zip`), encryption (`enc`), a token inside the token (`cty`).
const HEADER_MEMBERS_REFUSED: [&str; 4] = ["crit", "zip", "enc", "cty"];

/// Verifies one token.
///
/// Nothing in the token chooses how it is verified: its header names a key and an algorithm, and the two must belong
/// together. Addresses and keys that a header may carry (`jku`, `x5u`, `jwk`, `x5c`) are never looked at. No claim
/// counts before the signature is known to be good.
pub(crate) fn verify(
    token: &str,
    keys: &KeySet,
    rules: &Rules,
    now_unix_ms: u64,
) -> Result<Identity, Refusal> {
    let payload = signed_payload(token, keys, &rules.types)?;
    strict_validation(&payload, rules, now_unix_ms)
}

/// Returns the issuer that a token names, whether or not it is true.
pub(crate) fn unverified_issuer(token: &str) -> Result<String, Refusal> {
    let payload = decode_base64url(CompactParts::split(token)?.payload)?;
    let mut claims = parse_json_object(&payload).map_err(|_| Refusal::Malformed)?;
    match claims.remove("iss") {
        Some(Value::String(name)) => Ok(name),
        Some(_) | None => Err(Refusal::MissingClaim),
    }
}

/// Returns the algorithm and the key that a token names.
pub(crate) fn named_key(
    token: &str,
    types: &TokenTypes,
) -> Result<(Algorithm, Option<String>), Refusal> {
    let header = Header::parse(CompactParts::split(token)?.header, types)?;
    Ok((header.algorithm, header.key_id))
}

/// Returns what one of the keys has signed, whatever it is.
fn signed_payload(token: &str, keys: &KeySet, types: &TokenTypes) -> Result<Vec<u8>, Refusal> {
    let parts = CompactParts::split(token)?;
    let header = Header::parse(parts.header, types)?;
    let key = keys.select(header.algorithm, header.key_id.as_deref())?;
    let payload = decode_base64url(parts.payload)?;
    check_signature(&parts, key)?;
    Ok(payload)
}

/// A token in compact serialization, each part still encoded.
struct CompactParts<'a> {
    header: &'a str,
    payload: &'a str,
    signature: &'a str,
    /// What was signed: the first two parts and the point between them.
    message: &'a str,
}

impl<'a> CompactParts<'a> {
    fn split(token: &'a str) -> Result<Self, Refusal> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(Refusal::Malformed);
        }
        let (message, signature) = token.rsplit_once('.').ok_or(Refusal::Malformed)?;
        let (header, payload) = message.split_once('.').ok_or(Refusal::Malformed)?;
        // A point more, as encrypted tokens have it, is in the payload now and no base64url.
        Ok(Self { header, payload, signature, message })
    }
}

/// What we need of a token's header to find its key.
struct Header {
    algorithm: Algorithm,
    key_id: Option<String>,
}

impl Header {
    fn parse(encoded: &str, types: &TokenTypes) -> Result<Self, Refusal> {
        let json = decode_base64url(encoded)?;
        let members = parse_json_object(&json).map_err(|_| Refusal::Malformed)?;
        if HEADER_MEMBERS_REFUSED.iter().any(|name| members.contains_key(*name)) {
            return Err(Refusal::Malformed);
        }
        if !types.accept(text_member(&members, "typ")?) {
            return Err(Refusal::Malformed);
        }
        let key_id = text_member(&members, "kid")?.map(str::to_owned);
        let name = text_member(&members, "alg")?.ok_or(Refusal::Malformed)?;
        let algorithm = Algorithm::from_name(name).ok_or(Refusal::Algorithm)?;
        Ok(Self { algorithm, key_id })
    }
}

fn text_member<'a>(
    members: &'a Map<String, Value>,
    name: &str,
) -> Result<Option<&'a str>, Refusal> {
    members.get(name).map(|value| value.as_str().ok_or(Refusal::Malformed)).transpose()
}

/// Decodes base64url without padding, white space or bits left over.
fn decode_base64url(encoded: &str) -> Result<Vec<u8>, Refusal> {
    URL_SAFE_NO_PAD.decode(encoded).map_err(|_| Refusal::Malformed)
}

fn check_signature(parts: &CompactParts<'_>, key: &VerificationKey) -> Result<(), Refusal> {
    // The library decodes it too, and would call bad base64url an error of its own kind.
    decode_base64url(parts.signature)?;
    let is_good = jsonwebtoken::crypto::verify(
        parts.signature,
        parts.message.as_bytes(),
        key.decoding_key(),
        key.algorithm().for_jsonwebtoken(),
    );
    if is_good.unwrap_or(false) { Ok(()) } else { Err(Refusal::Signature) }
}

#[cfg(test)]
mod tests;
