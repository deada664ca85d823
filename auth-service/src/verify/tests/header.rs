//! What a header may say, and what it may not choose.

use super::*;

#[test]
fn no_algorithm_is_no_algorithm_in_any_case() {
    let payload = claims().to_string();
    for name in ["none", "None", "NONE", "nOnE", ""] {
        let header = json!({"alg": name}).to_string();

        let unsigned = signed(header.as_bytes(), payload.as_bytes(), |_| Vec::new());
        assert_refused(&unsigned, Refusal::Algorithm);
        assert_refused(&hs256(&header, &payload, HS256_SECRET), Refusal::Algorithm);
    }
    let unsigned = signed(HS256_HEADER.as_bytes(), payload.as_bytes(), |_| Vec::new());
    assert_refused(&unsigned, Refusal::Signature);
}

#[test]
fn algorithms_without_a_key_are_refused() {
    for name in [
        "HS384", "HS512", "RS384", "RS512", "PS256", "ES384", "ES512", "Ed25519", "hs256", "HS256 ",
    ] {
        assert_header_refused(&json!({"alg": name}).to_string(), Refusal::Algorithm);
    }
}

#[test]
fn a_public_key_is_no_hmac_secret() {
    let payload = claims().to_string();
    let pairs = key_pairs();
    let pem = pairs.rsa_pem();
    let jwk = pairs.rsa_jwk().to_string();
    let pem_keys = KeySet::from_keys(KeySet::parse_public_keys(&pem).unwrap()).unwrap();

    for secret in [pem.as_bytes(), pem.trim_end().as_bytes(), jwk.as_bytes()] {
        let token = hs256(HS256_HEADER, &payload, secret);
        assert_refused(&token, Refusal::Signature);
        assert_eq!(verify(&token, &pem_keys, &rules(), NOW_MS), Err(Refusal::Algorithm));

        let naming_the_key = hs256(r#"{"alg":"HS256","kid":"r"}"#, &payload, secret);
        assert_refused(&naming_the_key, Refusal::Algorithm);
    }
}

#[test]
fn a_header_cannot_swap_the_algorithm_of_a_key() {
    let payload = claims().to_string();
    for (id, own) in [("r", "RS256"), ("e", "ES256"), ("o", "EdDSA")] {
        for other in ["HS256", "RS256", "ES256", "EdDSA"] {
            if other != own {
                let header = json!({"alg": other, "kid": id}).to_string();
                assert_refused(&rs256(&header, &payload), Refusal::Algorithm);
                assert_refused(&eddsa(&header, &payload), Refusal::Algorithm);
            }
        }
    }
    assert_refused(&es256(r#"{"alg":"RS256","kid":"r"}"#, &payload), Refusal::Signature);
    assert_refused(&rs256(r#"{"alg":"EdDSA","kid":"o"}"#, &payload), Refusal::Signature);
}

#[test]
fn a_key_id_is_compared_and_nothing_else() {
    let long = "k".repeat(4000);
    for id in ["../../etc/passwd", "/dev/null", "' OR 1=1 --", "r\0", "R", "", "\u{202e}r", &long] {
        let header = json!({"alg": "RS256", "kid": id}).to_string();
        assert_refused(&rs256(&header, &claims().to_string()), Refusal::UnknownKey);
    }
    let huge = json!({"alg": "RS256", "kid": "k".repeat(64 * 1024)}).to_string();
    assert_refused(&rs256(&huge, &claims().to_string()), Refusal::Malformed);
    for id in [json!(1), json!(null), json!(["r"]), json!({"r": 1})] {
        assert_header_refused(&json!({"alg": "HS256", "kid": id}).to_string(), Refusal::Malformed);
    }
    assert_header_refused(r#"{"alg":"HS256","kid":"r","kid":"e"}"#, Refusal::Malformed);
}

#[test]
fn without_a_key_id_the_key_must_be_the_only_one_of_its_algorithm() {
    let pairs = key_pairs();
    let mut first = pairs.rsa_jwk();
    first["kid"] = json!("first");
    let mut second = pairs.rsa_jwk();
    second["kid"] = json!("second");
    let token = rs256(r#"{"alg":"RS256"}"#, &claims().to_string());

    let one = key_set(&first.to_string());
    let two = key_set(&json!({"keys": [first, second]}).to_string());

    assert!(verify(&token, &one, &rules(), NOW_MS).is_ok());
    assert_eq!(verify(&token, &two, &rules(), NOW_MS), Err(Refusal::UnknownKey));
}

#[test]
fn a_header_that_changes_what_a_token_is_is_not_understood() {
    for header in [
        r#"{"alg":"HS256","crit":["exp"]}"#,
        r#"{"alg":"HS256","crit":[]}"#,
        r#"{"alg":"HS256","crit":null}"#,
        r#"{"alg":"HS256","b64":false,"crit":["b64"]}"#,
        r#"{"alg":"HS256","zip":"DEF"}"#,
        r#"{"alg":"HS256","enc":"A128GCM"}"#,
        r#"{"alg":"HS256","cty":"JWT"}"#,
        r#"["HS256"]"#,
        r#"["JWT","HS256"]"#,
        r#""HS256""#,
        "null",
        "{}",
        r#"{"typ":"JWT"}"#,
        r#"{"alg":1}"#,
        r#"{"alg":null}"#,
        r#"{"alg":["HS256"]}"#,
        r#"{"alg":"HS256"}{"alg":"none"}"#,
        r#"{"alg":"none","alg":"HS256"}"#,
        r#"{"alg":"HS256","#,
    ] {
        assert_header_refused(header, Refusal::Malformed);
    }
}

#[test]
fn keys_and_addresses_in_the_header_are_never_used() {
    let payload = claims().to_string();
    let own_key = key_pairs().ed25519_jwk();
    let header = json!({"alg": "EdDSA", "jwk": own_key, "jku": "http://127.0.0.1:9/jwks", "x5u": "http://127.0.0.1:9/x"});
    let only_hs256 =
        KeySet::load(Some(&Hs256Secret::from_bytes(HS256_SECRET).unwrap()), &[]).unwrap();

    let token = eddsa(&header.to_string(), &payload);
    assert_eq!(verify(&token, &only_hs256, &rules(), NOW_MS), Err(Refusal::Algorithm));

    let mut other_key = header.clone();
    other_key["jwk"]["x"] = json!(base64url([7; 32]));
    assert!(
        outcome(&eddsa(&other_key.to_string(), &payload)).is_ok(),
        "the header's key is ignored"
    );
}

#[test]
fn a_token_of_another_type_is_no_pass() {
    let accepted = ["JWT", "jwt", "at+jwt", "AT+JWT", "application/at+jwt", "application/jwt"];
    for media_type in accepted {
        let header = json!({"alg": "HS256", "typ": media_type}).to_string();
        assert!(
            outcome(&hs256(&header, &claims().to_string(), HS256_SECRET)).is_ok(),
            "{media_type}"
        );
    }
    for media_type in
        ["", "JOSE", "JWE", "logout+jwt", "dpop+jwt", "secevent+jwt", "text/jwt", "jwt "]
    {
        assert_header_refused(
            &json!({"alg": "HS256", "typ": media_type}).to_string(),
            Refusal::Malformed,
        );
    }
    assert_header_refused(r#"{"alg":"HS256","typ":1}"#, Refusal::Malformed);
    assert_header_refused(r#"{"alg":"HS256","typ":null}"#, Refusal::Malformed);
}
