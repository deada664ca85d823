//! What tokens say of what their users may do, and what must not be read into it.

use serde_json::json;

use super::*;

fn claims(value: Value) -> Map<String, Value> {
    let Value::Object(claims) = value else { panic!("{value}") };
    claims
}

fn of_claim(value: Value) -> Result<Vec<Capability>, Refusal> {
    CapabilityRules::of_claim("may").of(&Map::from_iter([("may".to_owned(), value)]))
}

fn capability(actions: &[Action], rooms: &[&str], events: &[&str]) -> Capability {
    let own = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    Capability { actions: actions.to_vec(), rooms: own(rooms), events: own(events) }
}

fn grant(to: Grantees, rooms: &[&str]) -> Grant {
    Grant::parse(to, capability(&[Action::Join], rooms, &[])).unwrap()
}

fn roles(names: &[&str]) -> Grantees {
    let roles = names.iter().map(|name| (*name).to_owned()).collect();
    Grantees { roles, ..Grantees::default() }
}

/// The rooms that a token is given by one grant to everyone.
fn filled(pattern: &str, value: Value) -> Result<String, Refusal> {
    let to = Grantees { everyone: true, ..Grantees::default() };
    let rules =
        CapabilityRules { grants: vec![grant(to, &[pattern])], ..CapabilityRules::default() };
    Ok(rules.of(&claims(value))?.remove(0).rooms.remove(0))
}

#[test]
fn patterns_are_those_of_the_contract() {
    let mut count = 0;
    for line in include_str!("../../../proto/testdata/patterns.txt").lines() {
        let mut fields = line.splitn(3, ' ');
        let (Some(verdict @ ("good" | "bad")), Some(kind), Some(pattern)) =
            (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let kind = if kind == "room" { NameKind::Room } else { NameKind::Event };
        assert_eq!(pattern::check(pattern, kind).is_ok(), verdict == "good", "{line}");
        count += 1;
    }
    assert_eq!(count, 24);
    let (longest, longer) = ("x".repeat(256), "x".repeat(257));
    assert!(pattern::check(&longest, NameKind::Room).is_ok());
    for (text, error) in [
        ("", ParsePatternError::Length),
        (&longer, ParsePatternError::Length),
        ("a\u{85}", ParsePatternError::ControlCharacter),
    ] {
        assert_eq!(pattern::check(text, NameKind::Room), Err(error));
    }
}

#[test]
fn a_token_may_list_its_capabilities() {
    let listed = json!([
        {"actions": ["join", "history"], "rooms": ["team.*", "user:{subject}"]},
        {"actions": ["publish"], "rooms": ["news"], "events": ["typing"]},
    ]);

    assert_eq!(
        of_claim(listed),
        Ok(vec![
            capability(&[Action::Join, Action::History], &["team.*", "user:{subject}"], &[]),
            capability(&[Action::Publish], &["news"], &["typing"]),
        ])
    );
    assert_eq!(of_claim(json!([])), Ok(Vec::new()));
    assert_eq!(CapabilityRules::of_claim("may").of(&Map::new()), Ok(Vec::new()));
    assert_eq!(CapabilityRules::default().of(&claims(json!({"may": 1}))), Ok(Vec::new()));
}

#[test]
fn a_token_whose_capabilities_are_not_what_they_must_be_is_refused() {
    let good = json!({"actions": ["join"], "rooms": ["a"]});
    for bad in [
        json!(null),
        json!("*"),
        json!({"actions": ["join"], "rooms": ["a"]}),
        json!([1]),
        json!([good, {"rooms": ["a"]}]),
        json!([{"actions": ["join"]}]),
        json!([{"actions": [], "rooms": ["a"]}]),
        json!([{"actions": ["join", "join"], "rooms": ["a"]}]),
        json!([{"actions": ["admin"], "rooms": ["a"]}]),
        json!([{"actions": ["join"], "rooms": []}]),
        json!([{"actions": ["join"], "rooms": "a"}]),
        json!([{"actions": ["join"], "rooms": ["a", 1]}]),
        json!([{"actions": ["join"], "rooms": ["@ann"]}]),
        json!([{"actions": ["join"], "rooms": ["{claim:org}"]}]),
        json!([{"actions": ["join"], "rooms": ["a"], "event": ["x"]}]),
        json!([{"actions": ["join", "publish"], "rooms": ["a"], "events": ["x"]}]),
        json!([{"actions": ["publish"], "rooms": ["a"], "events": [""]}]),
    ] {
        assert_eq!(of_claim(bad.clone()), Err(Refusal::Capabilities), "{bad}");
    }
}

#[test]
fn a_token_has_so_many_capabilities_and_no_more() {
    let one = |rooms: usize, bytes: usize| json!({"actions": ["join"], "rooms": vec!["x".repeat(bytes); rooms]});
    let publish = |events: usize| json!([{"actions": ["publish"], "rooms": ["a"], "events": vec!["x"; events]}]);

    assert!(of_claim(json!(vec![one(1, 1); 64])).is_ok());
    assert_eq!(of_claim(json!(vec![one(1, 1); 65])), Err(Refusal::Capabilities));
    assert!(of_claim(json!([one(64, 1)])).is_ok());
    assert_eq!(of_claim(json!([one(65, 1)])), Err(Refusal::Capabilities));
    assert!(of_claim(publish(64)).is_ok());
    assert_eq!(of_claim(publish(65)), Err(Refusal::Capabilities));
    assert!(of_claim(json!([one(32, 256)])).is_ok(), "8192 bytes");
    assert_eq!(of_claim(json!([one(32, 256), one(1, 1)])), Err(Refusal::Capabilities));
}

#[test]
fn roles_and_scopes_stand_for_capabilities() {
    let scope = Grantees { scopes: vec!["chat:read".to_owned()], ..Grantees::default() };
    let everyone = Grantees { everyone: true, ..Grantees::default() };
    let rules = CapabilityRules {
        claim: Some(ClaimPath::Name("may".to_owned())),
        roles: Some(ClaimPath::Path(vec!["realm_access".to_owned(), "roles".to_owned()])),
        grants: vec![
            grant(roles(&["moderator", "owner"]), &["moderators"]),
            grant(scope, &["readers"]),
            grant(everyone, &["lobby"]),
        ],
    };
    let rooms = |token: Value| -> Result<Vec<String>, Refusal> {
        Ok(rules.of(&claims(token))?.into_iter().flat_map(|one| one.rooms).collect())
    };
    let with_roles = |roles: Value| json!({"realm_access": {"roles": roles}});

    assert_eq!(rooms(json!({})).unwrap(), ["lobby"]);
    assert_eq!(rooms(with_roles(json!(["owner"]))).unwrap(), ["moderators", "lobby"]);
    assert_eq!(rooms(with_roles(json!("user moderator"))).unwrap(), ["moderators", "lobby"]);
    assert_eq!(rooms(with_roles(json!(["moderators", "Owner", "owner x"]))).unwrap(), ["lobby"]);
    assert_eq!(rooms(json!({"scope": "openid chat:read"})).unwrap(), ["readers", "lobby"]);
    assert_eq!(rooms(json!({"scope": "chat:read.all xchat:read"})).unwrap(), ["lobby"]);
    let listed = json!([{"actions": ["join"], "rooms": ["own"]}]);
    assert_eq!(rooms(json!({"may": listed})).unwrap(), ["lobby", "own"]);

    for bad in [
        with_roles(json!(null)),
        with_roles(json!(7)),
        with_roles(json!(["owner", 7])),
        json!({"realm_access": ["owner"]}),
        json!({"realm_access": null}),
        json!({"scope": ["chat:read"]}),
        json!({"scope": 1}),
    ] {
        assert_eq!(rooms(bad.clone()), Err(Refusal::Capabilities), "{bad}");
    }
}

#[test]
fn what_a_claim_says_is_text_in_a_pattern() {
    assert_eq!(filled("org.{claim:org}.*", json!({"org": "acme"})).unwrap(), "org.acme.*");
    assert_eq!(
        filled("{claim:a}{claim:b}:{subject}", json!({"a": "*", "b": "{subject}\\"})).unwrap(),
        r"\*\{subject\}\\:{subject}"
    );
    assert_eq!(filled(r"\{claim:org\}", json!({"org": "acme"})).unwrap(), r"\{claim:org\}");

    // Without the claim, the pattern would be one for all rooms.
    for token in [json!({}), json!({"org": ""}), json!({"org": null}), json!({"org": ["a"]})] {
        assert_eq!(filled("{claim:org}*", token.clone()), Err(Refusal::Capabilities), "{token}");
    }
    for value in ["a\n", "@ann", &"x".repeat(257), &"*".repeat(129)] {
        assert_eq!(filled("{claim:org}", json!({"org": value})), Err(Refusal::Capabilities));
    }
    assert!(filled("{claim:org}", json!({"org": "*".repeat(128)})).is_ok());
}

#[test]
fn a_grant_that_could_make_no_pattern_is_refused_at_once() {
    let parse = |room: &str| {
        Grant::parse(roles(&["a"]), capability(&[Action::Join], &[room], &[])).map(drop)
    };
    assert_eq!(parse("a.{claim:https://x.example/org}"), Ok(()));
    for (room, error) in [
        ("{claim:org", ParsePatternError::Claim),
        ("{claim:}", ParsePatternError::Claim),
        ("{claim:sub}", ParsePatternError::Claim),
        ("{claim:iss}", ParsePatternError::Claim),
        ("@{claim:org}", ParsePatternError::Inbox),
        ("{org}", ParsePatternError::Brace),
        ("{claim:org}}", ParsePatternError::Brace),
        ("a\\", ParsePatternError::Backslash),
    ] {
        assert_eq!(parse(room), Err(CapabilityError::Pattern(error)), "{room}");
    }
    let events =
        Grant::parse(roles(&["a"]), capability(&[Action::Publish], &["a"], &["{subject}"]));
    assert_eq!(events.unwrap_err(), CapabilityError::Pattern(ParsePatternError::Brace));
}

#[test]
fn a_path_names_a_claim_and_points_in_a_name_are_points() {
    let path = |text: &str| ClaimPath::deserialize(serde_json::from_str::<Value>(text).unwrap());

    let token = claims(json!({"a.b": 1, "a": {"b": 2}}));
    assert_eq!(path(r#""a.b""#).unwrap().find(&token), Ok(Some(&json!(1))));
    assert_eq!(path(r#"["a", "b"]"#).unwrap().find(&token), Ok(Some(&json!(2))));
    assert_eq!(path(r#"["a", "c"]"#).unwrap().find(&token), Ok(None));
    assert_eq!(path(r#"["a", "b", "c"]"#).unwrap().find(&token), Err(Refusal::Capabilities));
    for bad in [r#""""#, "[]", r#"["a", ""]"#] {
        assert!(!path(bad).unwrap().is_good(), "{bad}");
    }
}
