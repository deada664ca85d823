//! Says which tenant a token's subject belongs to.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use crate::refusal::Refusal;

const TENANT_BYTES: RangeInclusive<usize> = 1..=128;

/// Where an issuer's tokens have their tenant from.
#[derive(Debug, Clone)]
pub(crate) enum TenantRule {
    /// All are of one. Empty is the default tenant.
    Fixed(String),
    /// The claim of this name, which each token must have then.
    Claim(String),
}

impl TenantRule {
    /// Reads the tenant. A token that does not say what it must is refused: the default tenant would be somebody else's.
    pub(crate) fn of(&self, claims: &Map<String, Value>) -> Result<String, Refusal> {
        match self {
            Self::Fixed(tenant) => Ok(tenant.clone()),
            Self::Claim(name) => match claims.get(name) {
                None => Err(Refusal::MissingClaim),
                Some(Value::String(tenant)) if is_tenant(tenant) => Ok(tenant.clone()),
                Some(_) => Err(Refusal::Malformed),
            },
        }
    }
}

/// Whether a text can be the name of a tenant that is not the default one.
pub(crate) fn is_tenant(text: &str) -> bool {
    TENANT_BYTES.contains(&text.len()) && !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn claimed(value: Value) -> Result<String, Refusal> {
        let claims = Map::from_iter([("org".to_owned(), value)]);
        TenantRule::Claim("org".to_owned()).of(&claims)
    }

    #[test]
    fn a_claimed_tenant_is_a_text_of_1_to_128_bytes_without_control_characters() {
        let longest = "x".repeat(128);
        for tenant in ["a", "Acme, Inc.", "a/b:*>", &longest] {
            assert_eq!(claimed(json!(tenant)), Ok(tenant.to_owned()));
        }
        for bad in ["", "a\0", "a\nb", "\u{85}", &"x".repeat(129), &"ü".repeat(65)] {
            assert_eq!(claimed(json!(bad)), Err(Refusal::Malformed), "{bad:?}");
        }
        for bad in [json!(null), json!(1), json!(true), json!(["acme"]), json!({"id": "acme"})] {
            assert_eq!(claimed(bad.clone()), Err(Refusal::Malformed), "{bad}");
        }
    }

    #[test]
    fn a_token_without_the_claim_is_of_no_tenant_and_not_of_the_default_one() {
        let rule = TenantRule::Claim("org".to_owned());

        assert_eq!(rule.of(&Map::new()), Err(Refusal::MissingClaim));
    }
}
