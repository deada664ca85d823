//! Checks what a token says, once its signature is known to be good.

use serde_json::{Map, Value};

use crate::identity::{Identity, TokenMarks};
use crate::json_object::parse_json_object;
use crate::refusal::Refusal;
use crate::rules::Rules;

/// Latest time a claim may name: the end of the year 9999. What lies beyond is not a date but a mistake.
const NUMERIC_DATE_MAX: u64 = 253_402_300_799;

/// Checks every claim we know, leaves none to a library's defaults, and returns the identity that they make.
///
/// A claim that we need and that is not of its type counts as missing. One that may be left out and is not of its type
/// makes the whole token malformed: guessing what its issuer meant would be guessing about rights.
pub(crate) fn strict_validation(
    payload: &[u8],
    rules: &Rules,
    now_unix_ms: u64,
) -> Result<Identity, Refusal> {
    let claims = parse_json_object(payload).map_err(|_| Refusal::Malformed)?;
    validate_claims(claims, rules, now_unix_ms)
}

/// Checks claims as [`strict_validation`] does, wherever they come from.
pub(crate) fn validate_claims(
    mut claims: Map<String, Value>,
    rules: &Rules,
    now_unix_ms: u64,
) -> Result<Identity, Refusal> {
    let expires_at_unix_ms =
        claims.get("exp").and_then(numeric_date_ms).ok_or(Refusal::MissingClaim)?;
    let issuer = take_text(&mut claims, "iss").ok_or(Refusal::MissingClaim)?;
    let subject = take_text(&mut claims, "sub").ok_or(Refusal::MissingClaim)?;
    let audience = claims.get("aud").and_then(audiences).ok_or(Refusal::MissingClaim)?;
    let not_before_unix_ms = match claims.get("nbf") {
        None => 0,
        Some(value) => numeric_date_ms(value).ok_or(Refusal::Malformed)?,
    };
    let name = display_name(claims.get(&rules.claims.name))?;
    let marks = token_marks(&claims, &rules.claims.session)?;
    let tenant = rules.tenant.of(&claims)?;

    if issuer != rules.issuer {
        return Err(Refusal::Issuer);
    }
    if !audience.contains(&rules.audience.as_str()) {
        return Err(Refusal::Audience);
    }
    if !has_scopes(claims.get("scope"), &rules.scopes)? {
        return Err(Refusal::Scope);
    }
    if expires_at_unix_ms.saturating_add(rules.clock_leeway_ms()) <= now_unix_ms {
        return Err(Refusal::Expired);
    }
    // A token from the future would also be newer than every revocation.
    let start_unix_ms = not_before_unix_ms.max(marks.issued_at_unix_ms.unwrap_or(0));
    if start_unix_ms > rules.latest_start_unix_ms(now_unix_ms) {
        return Err(Refusal::NotYetValid);
    }
    let capabilities = rules.capabilities.of(&claims)?;
    Ok(Identity { subject, issuer, tenant, name, expires_at_unix_ms, marks, capabilities })
}

/// Reads what a revocation may name. Of another type, it could never be revoked.
fn token_marks(claims: &Map<String, Value>, session: &str) -> Result<TokenMarks, Refusal> {
    let issued_at_unix_ms = match claims.get("iat") {
        None => None,
        Some(value) => Some(numeric_date_ms(value).ok_or(Refusal::Malformed)?),
    };
    let text = |name| match claims.get(name) {
        None => Ok(None),
        Some(Value::String(text)) if !text.is_empty() => Ok(Some(text.clone())),
        Some(_) => Err(Refusal::Malformed),
    };
    Ok(TokenMarks { token_id: text("jti")?, session: text(session)?, issued_at_unix_ms })
}

fn take_text(claims: &mut Map<String, Value>, name: &str) -> Option<String> {
    match claims.remove(name)? {
        Value::String(text) if !text.is_empty() => Some(text),
        Value::String(_)
        | Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::Array(_)
        | Value::Object(_) => None,
    }
}

/// Reads `aud`: a text or a list of texts.
fn audiences(value: &Value) -> Option<Vec<&str>> {
    match value.as_array() {
        Some(list) => list.iter().map(Value::as_str).collect(),
        None => Some(vec![value.as_str()?]),
    }
}

/// Whether `scope`, a text of names with blanks between them (RFC 8693, section 4.2), has all that are needed.
fn has_scopes(value: Option<&Value>, needed: &[String]) -> Result<bool, Refusal> {
    if needed.is_empty() {
        return Ok(true);
    }
    let Some(value) = value else { return Ok(false) };
    let granted = value.as_str().ok_or(Refusal::Malformed)?;
    Ok(needed.iter().all(|scope| granted.split(' ').any(|name| name == scope)))
}

fn display_name(value: Option<&Value>) -> Result<Option<String>, Refusal> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(value) => {
            let name = value.as_str().ok_or(Refusal::Malformed)?;
            Ok(Some(name.to_owned()).filter(|name| !name.is_empty()))
        }
    }
}

/// Reads a `NumericDate`: seconds since the Unix epoch, possibly with a fraction.
fn numeric_date_ms(value: &Value) -> Option<u64> {
    if let Some(seconds) = value.as_u64() {
        return (seconds <= NUMERIC_DATE_MAX).then(|| seconds * 1000);
    }
    let seconds = value.as_f64()?;
    // In range, so the cast only drops the fraction of a millisecond.
    (0.0..=NUMERIC_DATE_MAX as f64).contains(&seconds).then_some((seconds * 1000.0) as u64)
}
