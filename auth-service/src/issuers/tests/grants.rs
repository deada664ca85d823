//! What an issuer's tokens let their users do, as the file says it.

use super::*;
use crate::capabilities::{Action, Capability};

const GRANTS: &str = r#"
    claims = { roles = ["realm_access", "roles"], capabilities = "may" }

    [[issuer.grant]]
    everyone = true
    actions = ["join", "presence", "history"]
    rooms = ["org.{claim:org}.*"]

    [[issuer.grant]]
    roles = ["moderator"]
    actions = ["publish"]
    rooms = ["*"]
    events = ["notice"]

    [[issuer.grant]]
    scopes = ["chat"]
    actions = ["publish"]
    rooms = ["user:{subject}"]
"#;

/// What a token of `partner` with these claims allows, in a file that says this.
fn capabilities_with(settings: &str, more: Value) -> Result<Vec<Capability>, Refusal> {
    let issuers = read(&format!("{TWO_ISSUERS}\n{settings}")).unwrap();
    let partner = issuers.list.iter().find(|issuer| issuer.rules.issuer == "partner").unwrap();
    let (mut claims, Value::Object(more)) = (claims("partner", "rooms"), more) else { panic!() };
    claims.as_object_mut().unwrap().extend(more);
    let claims = claims.to_string();
    strict_validation(claims.as_bytes(), &partner.rules, NOW_S * 1000)
        .map(|identity| identity.capabilities)
}

/// What is wrong with an issuer of these settings.
fn problems(settings: &str) -> Vec<String> {
    problems_with("RS256", &format!("public_key_files = ['rsa.pem']\n{settings}"))
}

#[test]
fn tokens_allow_what_the_file_grants_them() {
    let rooms = |more| {
        capabilities_with(GRANTS, more)
            .map(|all| all.into_iter().flat_map(|one| one.rooms).collect::<Vec<_>>())
    };

    assert_eq!(rooms(json!({"org": "a*"})).unwrap(), [r"org.a\*.*"]);
    assert_eq!(
        rooms(
            json!({"org": "a", "scope": "openid chat", "realm_access": {"roles": ["moderator"]}})
        ),
        Ok(vec!["org.a.*".to_owned(), "*".to_owned(), "user:{subject}".to_owned()])
    );
    let own = json!([{"actions": ["join"], "rooms": ["own"]}]);
    assert_eq!(rooms(json!({"org": "a", "may": own})).unwrap(), ["org.a.*", "own"]);
    for bad in [json!({}), json!({"org": "a", "realm_access": 1}), json!({"org": "a", "may": {}})] {
        assert_eq!(rooms(bad.clone()), Err(Refusal::Capabilities), "{bad}");
    }
}

#[test]
fn an_issuer_of_the_file_that_grants_nothing_lets_its_users_do_nothing() {
    let claimed = json!([{"actions": ["join"], "rooms": ["*"]}]);

    assert_eq!(capabilities_with("", json!({"capabilities": claimed})), Ok(Vec::new()));
    let read = capabilities_with(
        "claims = { capabilities = 'capabilities' }",
        json!({"capabilities": claimed}),
    );
    assert_eq!(read.unwrap()[0].actions, [Action::Join]);
}

#[test]
fn a_grant_that_means_nothing_is_refused_at_the_start() {
    let join = "actions = ['join']\nrooms = ['a']";
    let grantees = "grant 1 must have one of `roles`, `scopes` and `everyone = true`; both lists have names without blanks";

    assert_eq!(problems(&format!("[[issuer.grant]]\neveryone = true\n{join}")), [""; 0]);
    for (settings, expected) in [
        (format!("[[issuer.grant]]\n{join}"), grantees),
        (format!("[[issuer.grant]]\neveryone = false\n{join}"), grantees),
        (format!("[[issuer.grant]]\neveryone = true\nscopes = ['a']\n{join}"), grantees),
        (format!("[[issuer.grant]]\nscopes = []\n{join}"), grantees),
        (format!("[[issuer.grant]]\nscopes = ['a b']\n{join}"), grantees),
        (
            format!("[[issuer.grant]]\nroles = ['a']\n{join}"),
            "it has grants for roles, and no `claims.roles`",
        ),
        (
            "claims = { roles = 'roles' }".to_owned(),
            "it has `claims.roles`, and no grant for a role",
        ),
        ("claims = { capabilities = [] }".to_owned(), "`claims.capabilities` is empty"),
        (
            "[[issuer.grant]]\neveryone = true\nactions = []\nrooms = ['a']".to_owned(),
            "grant 1: `actions` must list join, publish, presence or history, each at most once",
        ),
        (
            "[[issuer.grant]]\neveryone = true\nactions = ['join']\nrooms = ['{org}']".to_owned(),
            "grant 1: a brace must be part of {subject} or {issuer}, for rooms, or stand behind a backslash",
        ),
    ] {
        assert_eq!(problems(&settings), [expected], "{settings}");
    }
    for unknown in ["role = ['a']", "actions = ['leave']"] {
        let text =
            format!("{TWO_ISSUERS}\n[[issuer.grant]]\neveryone = true\nrooms = ['a']\n{unknown}");
        assert!(matches!(read(&text).unwrap_err(), ReadIssuersError::Parse { .. }));
    }
}
