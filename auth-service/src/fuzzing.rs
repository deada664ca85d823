//! What must hold of the parsers of this service for any input. The fuzzer of the workspace calls these.

use std::time::Duration;

use crate::{
    algorithm::Algorithm,
    capabilities::{CapabilityRules, check_all},
    claims::{strict_validation, validate_claims},
    deny_list,
    hs256_secret::Hs256Secret,
    identity::Identity,
    introspection,
    key_set::{KeySet, VerificationKey},
    published_keys::Discovery,
    rules::{ClaimNames, Rules, TokenTypes},
    tenant::{TenantRule, is_tenant},
    verify,
};

const NOW_MS: u64 = 1_800_000_000_000;
const ISSUER: &str = "https://id.example";

fn rules() -> Rules {
    Rules {
        issuer: ISSUER.to_owned(),
        audience: "chat".to_owned(),
        clock_leeway: Duration::from_secs(5),
        types: TokenTypes::default(),
        scopes: vec!["rooms".to_owned()],
        claims: ClaimNames::default(),
        tenant: TenantRule::Claim("org".to_owned()),
        capabilities: CapabilityRules::of_claim("capabilities"),
    }
}

/// What a client calls its token: without the secret nobody gets in.
pub fn token(data: &[u8]) {
    let Ok(token) = str::from_utf8(data) else { return };
    let Ok(secret) = Hs256Secret::from_bytes(&[7; 32]) else { return };
    let Ok(keys) = KeySet::from_keys(vec![VerificationKey::hs256(&secret)]) else { return };
    let rules = rules();

    assert!(verify::verify(token, &keys, &rules, NOW_MS).is_err());
    // Neither is to be believed, and both are asked before the signature is checked.
    drop(verify::unverified_issuer(token));
    drop(verify::named_key(token, &rules.types));
}

/// The claims of a token that is signed by the right key.
pub fn claims(data: &[u8]) {
    if let Ok(identity) = strict_validation(data, &rules(), NOW_MS) {
        check_identity(&identity);
    }
}

/// What an issuer publishes as its keys, or an operator puts into a file.
pub fn key_set(data: &[u8]) {
    if let Ok((keys, skipped)) = KeySet::parse_published(data, &Algorithm::ALL) {
        for algorithm in Algorithm::ALL {
            let _ = keys.select(algorithm, None);
        }
        // Whoever reads a published secret could sign with it.
        assert!(keys.select(Algorithm::Hs256, None).is_err());
        assert!(skipped.is_sorted_by_key(|key| key.number));
    }
    if let Ok(text) = str::from_utf8(data) {
        drop(KeySet::parse_public_keys(text));
    }
}

/// What an issuer says about itself: it sends us nowhere without TLS.
pub fn discovery_document(data: &[u8]) {
    let Ok(discovery) = Discovery::of(ISSUER, false) else { return };
    if let Ok(url) = discovery.read(data) {
        assert!(url.to_string().starts_with("https://"));
    }
}

/// What an issuer answers about a token.
pub fn introspection_answer(data: &[u8]) {
    let Ok(Some(claims)) = introspection::read(data) else { return };
    if let Ok(identity) = validate_claims(claims, &rules(), NOW_MS) {
        check_identity(&identity);
    }
}

/// The file of revocations. What is read once is read again as it was.
pub fn revocations_file(data: &[u8]) {
    deny_list::check_file(data);
}

/// Whoever is let in is somebody whom the issuer vouches for, and is until some time to come.
fn check_identity(identity: &Identity) {
    assert_eq!(identity.issuer, ISSUER);
    assert!(!identity.subject.is_empty());
    assert!(is_tenant(&identity.tenant));
    assert_eq!(check_all(&identity.capabilities), Ok(()));
    assert!(identity.expires_at_unix_ms + 5_000 > NOW_MS);
    let profile = serde_json::from_str::<serde_json::Value>(&identity.profile());
    assert!(profile.is_ok_and(|profile| profile["id"] == *identity.subject));
}
