//! What the claims must say.

use super::*;

#[test]
fn a_payload_that_is_no_object_is_malformed() {
    for payload in [
        "",
        "null",
        "1",
        r#""text""#,
        "[]",
        r#"[1900000000,null,"ada","https://id.example","chat"]"#,
        "{",
        r#"{"exp":1900000000,"exp":1900000000,"iss":"https://id.example","aud":"chat","sub":"ada"}"#,
        r#"{"exp":1900000000,"iss":"https://id.example","aud":"chat","sub":"eve","sub":"ada"}"#,
    ] {
        assert_payload_refused(payload, Refusal::Malformed);
    }
}

#[test]
fn a_required_claim_that_is_missing_or_of_another_type_counts_as_missing() {
    for name in ["exp", "iss", "aud", "sub"] {
        assert_payload_refused(&claims_without(name), Refusal::MissingClaim);
        for value in [json!(null), json!(true), json!({}), json!({"a": 1})] {
            assert_payload_refused(&claims_with(name, value), Refusal::MissingClaim);
        }
    }
    for name in ["iss", "aud", "sub"] {
        assert_payload_refused(&claims_with(name, json!(1)), Refusal::MissingClaim);
    }
    assert_payload_refused(&claims_with("sub", json!("")), Refusal::MissingClaim);
    assert_payload_refused(&claims_with("sub", json!(["ada"])), Refusal::MissingClaim);
    assert_payload_refused(
        &claims_with("iss", json!(["https://id.example"])),
        Refusal::MissingClaim,
    );
    assert_payload_refused(&claims_with("aud", json!([1])), Refusal::MissingClaim);
    assert_payload_refused(&claims_with("aud", json!(["chat", 1])), Refusal::MissingClaim);
}

#[test]
fn exp_is_a_number_of_seconds_in_the_range_of_dates() {
    for exp in [
        json!("1900000000"),
        json!(""),
        json!([1_900_000_000]),
        json!(-1),
        json!(i64::MIN),
        json!(u64::MAX),
        json!(1_u64 << 63),
        json!(253_402_300_800_u64),
        json!(1e12),
        json!(1e308),
        json!(-0.5),
    ] {
        assert_payload_refused(&claims_with("exp", exp), Refusal::MissingClaim);
    }
    let overflowing = claims_without("exp").replace('}', r#","exp":1e999}"#);
    assert_payload_refused(&overflowing, Refusal::Malformed);

    let fraction = assert_payload_accepted(&claims_with("exp", json!(1_800_000_060.25)));
    assert_eq!(fraction.expires_at_unix_ms, 1_800_000_060_250);
    let last = assert_payload_accepted(&claims_with("exp", json!(253_402_300_799_u64)));
    assert_eq!(last.expires_at_unix_ms, 253_402_300_799_000);
}

#[test]
fn a_token_ends_with_its_exp_and_the_leeway() {
    assert_payload_accepted(&claims_with("exp", json!(NOW_S - LEEWAY_S + 1)));
    assert_payload_refused(&claims_with("exp", json!(NOW_S - LEEWAY_S)), Refusal::Expired);
    assert_payload_refused(&claims_with("exp", json!(0)), Refusal::Expired);
    assert_payload_refused(&claims_with("exp", json!(1.5)), Refusal::Expired);
}

#[test]
fn a_token_begins_with_its_nbf_less_the_leeway() {
    assert_payload_accepted(&claims_with("nbf", json!(NOW_S + LEEWAY_S)));
    assert_payload_refused(&claims_with("nbf", json!(NOW_S + LEEWAY_S + 1)), Refusal::NotYetValid);
    for value in [json!("0"), json!(null), json!(true), json!([]), json!(-1), json!(1e300)] {
        assert_payload_refused(&claims_with("nbf", value), Refusal::Malformed);
    }
}

#[test]
fn another_issuer_is_refused() {
    for issuer in ["https://id.example/", "https://ID.example", "sockeye", " https://id.example"] {
        assert_payload_refused(&claims_with("iss", json!(issuer)), Refusal::Issuer);
    }
    assert_payload_refused(&claims_with("iss", json!("")), Refusal::MissingClaim);
}

#[test]
fn aud_must_name_us_alone_or_among_others() {
    assert_payload_accepted(&claims_with("aud", json!(["chat"])));
    assert_payload_accepted(&claims_with("aud", json!(["billing", "chat"])));
    for audience in
        [json!("billing"), json!(""), json!("chat "), json!([]), json!(["billing"]), json!([""])]
    {
        assert_payload_refused(&claims_with("aud", audience), Refusal::Audience);
    }
}

#[test]
fn a_name_that_is_no_text_is_malformed() {
    for name in [json!(1), json!(true), json!(["Ada"]), json!({"first": "Ada"})] {
        assert_payload_refused(&claims_with("name", name), Refusal::Malformed);
    }
}

#[test]
fn the_profile_has_the_id_and_the_name_if_there_is_one() {
    let anonymous = assert_payload_accepted(&claims().to_string());
    let named = assert_payload_accepted(&claims_with("name", json!("Ada \"L\"\n")));
    let empty = assert_payload_accepted(&claims_with("name", json!("")));
    let null = assert_payload_accepted(&claims_with("name", json!(null)));

    assert_eq!(anonymous.profile(), r#"{"id":"ada"}"#);
    assert_eq!(named.profile(), r#"{"id":"ada","name":"Ada \"L\"\n"}"#);
    assert_eq!(empty.profile(), r#"{"id":"ada"}"#);
    assert_eq!(null.profile(), r#"{"id":"ada"}"#);
}

#[test]
fn what_a_revocation_may_name_is_read() {
    let mut claims = claims();
    claims["jti"] = json!("t");
    claims["sid"] = json!("s");
    claims["iat"] = json!(NOW_S);

    assert_eq!(
        assert_payload_accepted(&claims.to_string()).marks,
        TokenMarks {
            token_id: Some("t".to_owned()),
            session: Some("s".to_owned()),
            issued_at_unix_ms: Some(NOW_MS),
        },
    );
}

#[test]
fn what_a_revocation_could_not_name_is_malformed() {
    for value in [json!(null), json!(true), json!(1), json!(""), json!(["t"]), json!({})] {
        assert_payload_refused(&claims_with("jti", value.clone()), Refusal::Malformed);
        assert_payload_refused(&claims_with("sid", value), Refusal::Malformed);
    }
    for value in [json!(null), json!(true), json!("1800000000"), json!(-1), json!([1]), json!({})] {
        assert_payload_refused(&claims_with("iat", value), Refusal::Malformed);
    }
}

#[test]
fn a_token_that_is_issued_in_the_future_is_not_yet_valid() {
    assert_payload_accepted(&claims_with("iat", json!(NOW_S + LEEWAY_S)));
    assert_payload_refused(&claims_with("iat", json!(NOW_S + LEEWAY_S + 1)), Refusal::NotYetValid);
}
