//! Tokens that say nothing, and whose issuer is asked.

use std::io::Write as _;
use std::time::Instant;

use http::StatusCode;
use proto::auth::v1::RefusalReason;
use serde_json::{Value, json};
use tempfile::NamedTempFile;
use tokio::task::JoinSet;
use tonic::Code;

use crate::provider::{Answer, INTROSPECTION_PATH, KEYS_PATH, Provider, SigningKey};
use crate::running::{Decision, Running, decide, eventually_decides};

const SECRET: &str = "canary/secret";
const NOTHING_DECIDED: Decision = Decision::None(Code::Unavailable);

/// An issuer in the file, and the secret that it names.
fn issuer(provider: &Provider, settings: &str) -> (NamedTempFile, String) {
    let mut secret = NamedTempFile::new().unwrap();
    writeln!(secret, "{SECRET}").unwrap();
    let text = format!(
        "[[issuer]]\nname = {:?}\naudience = 'chat'\nallow_http_on_loopback = true\n\
         introspection = {{ url = {:?}, client_id = 'edge', client_secret_file = {:?} {settings} }}\n",
        provider.issuer(),
        provider.url(INTROSPECTION_PATH),
        secret.path(),
    );
    (secret, text)
}

pub(crate) async fn start(provider: &Provider, settings: &str) -> Running {
    let (_secret, issuer) = issuer(provider, settings);
    Running::start_with_issuers(&issuer).await
}

pub(crate) fn active(provider: &Provider, subject: &str) -> Value {
    let mut claims = provider.claims_for(subject);
    claims["active"] = json!(true);
    claims
}

fn with(mut answer: Value, name: &str, value: Value) -> Value {
    answer[name] = value;
    answer
}

fn without(mut answer: Value, name: &str) -> Value {
    answer.as_object_mut().unwrap().remove(name);
    answer
}

#[tokio::test]
async fn a_token_is_what_its_issuer_says() {
    let provider = Provider::start().await;
    let service = start(&provider, "").await;
    let mut client = service.client().await;
    let good = active(&provider, "ada");
    for (token, answer, expected) in [
        ("whole", good.clone(), None),
        ("nameless", without(good.clone(), "iss"), None),
        ("several", with(good.clone(), "aud", json!(["other", "chat"])), None),
        ("inactive", json!({"active": false}), Some(RefusalReason::Inactive)),
        ("other", with(good.clone(), "iss", json!("https://o")), Some(RefusalReason::Issuer)),
        ("audience", with(good.clone(), "aud", json!("mail")), Some(RefusalReason::Audience)),
        ("nobody", without(good.clone(), "aud"), Some(RefusalReason::MissingClaim)),
        ("endless", without(good.clone(), "exp"), Some(RefusalReason::MissingClaim)),
        ("over", with(good.clone(), "exp", json!(1_000_000_000)), Some(RefusalReason::Expired)),
        ("subject", without(good.clone(), "sub"), Some(RefusalReason::MissingClaim)),
        ("text", with(good.clone(), "exp", json!("4102444800")), Some(RefusalReason::MissingClaim)),
        ("soon", with(good, "nbf", json!(4_000_000_000_u64)), Some(RefusalReason::NotYetValid)),
    ] {
        provider.introspects(token, answer);
        match (decide(&mut client, token).await, expected) {
            (Decision::Accepted(identity), None) => {
                assert_eq!(
                    (identity.subject.as_str(), identity.issuer),
                    ("ada", provider.issuer())
                );
            }
            (decision, Some(reason)) => assert_eq!(decision, Decision::Refused(reason), "{token}"),
            (decision, None) => panic!("{token}: {decision:?}"),
        }
    }
    let unknown = decide(&mut client, "never-issued").await;
    assert_eq!(unknown, Decision::Refused(RefusalReason::Inactive));

    let (body, authorization) = provider.questions().remove(0);
    assert_eq!(body, "token=whole&token_type_hint=access_token");
    // edge:canary%2Fsecret
    assert_eq!(authorization, "Basic ZWRnZTpjYW5hcnklMkZzZWNyZXQ=");
}

#[tokio::test]
async fn a_token_is_asked_about_once_and_then_remembered() {
    let provider = Provider::start().await;
    let service = start(&provider, "").await;
    let client = service.client().await;
    provider.introspects("good", active(&provider, "ada"));

    for token in ["good", "bad"] {
        let mut calls = JoinSet::new();
        for _ in 0..50 {
            let mut client = client.clone();
            calls.spawn(async move { decide(&mut client, token).await });
        }
        for decision in calls.join_all().await {
            assert_eq!(decision.is_accepted(), token == "good", "{decision:?}");
        }
    }

    assert_eq!(provider.request_count(INTROSPECTION_PATH), 2);
}

#[tokio::test]
async fn what_is_not_to_be_remembered_is_asked_each_time() {
    let provider = Provider::start().await;
    let service = start(&provider, ", cache = '0s'").await;
    let mut client = service.client().await;
    provider.introspects("token", active(&provider, "ada"));
    assert!(decide(&mut client, "token").await.is_accepted());

    provider.introspects("token", json!({"active": false}));

    let decision = decide(&mut client, "token").await;
    assert_eq!(decision, Decision::Refused(RefusalReason::Inactive));
}

#[tokio::test]
async fn an_issuer_that_does_not_answer_decides_nothing() {
    let (provider, elsewhere) = (Provider::start().await, Provider::start().await);
    let service = start(&provider, "").await;
    let mut client = service.client().await;
    provider.introspects("token", active(&provider, "ada"));
    elsewhere
        .answer(INTROSPECTION_PATH, Answer::Bytes(active(&provider, "ada").to_string().into()));
    for answer in [
        Answer::Status(StatusCode::UNAUTHORIZED),
        Answer::Status(StatusCode::SERVICE_UNAVAILABLE),
        Answer::Redirect(elsewhere.url(INTROSPECTION_PATH)),
        Answer::Bytes(r#"{"active":"true"}"#.into()),
        Answer::Bytes("[]".into()),
        Answer::Bytes(vec![b' '; 256 * 1024 + 1].into()),
        Answer::Never,
    ] {
        let asked = provider.request_count(INTROSPECTION_PATH);
        provider.answer(INTROSPECTION_PATH, answer);
        eventually_decides(&mut client, "token", |decision| {
            assert_eq!(*decision, NOTHING_DECIDED);
            provider.request_count(INTROSPECTION_PATH) > asked
        })
        .await;
    }
    assert_eq!(elsewhere.request_count(INTROSPECTION_PATH), 0);

    provider.answers_itself(INTROSPECTION_PATH);
    eventually_decides(&mut client, "token", Decision::is_accepted).await;
}

#[tokio::test]
async fn an_issuer_in_trouble_is_given_a_respite() {
    for status in [
        StatusCode::SERVICE_UNAVAILABLE,
        StatusCode::INTERNAL_SERVER_ERROR,
        StatusCode::UNAUTHORIZED,
        StatusCode::TOO_MANY_REQUESTS,
    ] {
        let provider = Provider::start().await;
        provider.answer(INTROSPECTION_PATH, Answer::Status(status));
        let service = start(&provider, "").await;
        let mut client = service.client().await;
        let began_at = Instant::now();

        for number in 0..100 {
            assert_eq!(decide(&mut client, &format!("token-{number}")).await, NOTHING_DECIDED);
        }

        let asked = u128::try_from(provider.request_count(INTROSPECTION_PATH)).unwrap();
        assert!(asked <= 1 + began_at.elapsed().as_millis() / 250, "{status}: {asked} questions");
    }
}

#[tokio::test]
async fn a_token_that_its_issuer_stumbles_over_keeps_nobody_else_out() {
    let provider = Provider::start().await;
    let service = start(&provider, "").await;
    let mut client = service.client().await;
    for (number, answer) in [
        Answer::Status(StatusCode::BAD_REQUEST),
        Answer::Status(StatusCode::FORBIDDEN),
        Answer::Status(StatusCode::NOT_FOUND),
        Answer::Status(StatusCode::NO_CONTENT),
        Answer::Redirect(provider.url("/blocked")),
        Answer::Bytes("<html>Request blocked</html>".into()),
        Answer::Bytes(vec![b' '; 256 * 1024 + 1].into()),
    ]
    .into_iter()
    .enumerate()
    {
        let good = format!("good-{number}");
        provider.introspects(&good, active(&provider, "ada"));
        provider.answer_about("../../etc/passwd", answer);

        assert_eq!(decide(&mut client, "../../etc/passwd").await, NOTHING_DECIDED);

        let decision = decide(&mut client, &good).await;
        assert!(decision.is_accepted(), "{good}: {decision:?}");
    }
}

#[tokio::test]
async fn what_no_token_can_be_is_shown_to_nobody() {
    let provider = Provider::start().await;
    let service = start(&provider, "").await;
    let mut client = service.client().await;

    for token in ["", "a b", "a&token=b", "t\r\nHost: a", &"x".repeat(8 * 1024 + 1)] {
        let decision = decide(&mut client, token).await;
        assert_eq!(decision, Decision::Refused(RefusalReason::Malformed), "{token}");
    }

    assert_eq!(provider.request_count(INTROSPECTION_PATH), 0);
}

#[tokio::test]
async fn a_token_is_shown_to_no_other_issuer() {
    let (asked, published) = (Provider::start().await, Provider::start().await);
    let key = SigningKey::new("a");
    published.publish(&[&key]);
    let (_secret, issuer) = issuer(&asked, "");
    let service = Running::start_with_issuers(&format!(
        "{issuer}[[issuer]]\nname = {:?}\naudience = 'chat'\nalgorithms = ['EdDSA']\njwks_url = {:?}\n\
         allow_http_on_loopback = true\nscopes = ['rooms', 'chat']\n",
        published.issuer(),
        published.url(KEYS_PATH),
    ))
    .await;
    let mut client = service.client().await;
    asked.introspects("opaque", active(&asked, "ada"));
    let with_scope = |scope: Value| key.sign(&with(published.claims_for("ada"), "scope", scope));

    assert!(decide(&mut client, "opaque").await.is_accepted());
    assert!(decide(&mut client, &with_scope(json!("chat mail rooms"))).await.is_accepted());
    for (scope, expected) in [
        (json!("chat"), RefusalReason::Scope),
        (json!("chat roomss"), RefusalReason::Scope),
        (json!(""), RefusalReason::Scope),
        (json!(["chat", "rooms"]), RefusalReason::Malformed),
    ] {
        let decision = decide(&mut client, &with_scope(scope)).await;
        assert_eq!(decision, Decision::Refused(expected));
    }
    let stranger = key.sign(&json!({"iss": "https://stranger", "aud": "chat", "sub": "ada"}));
    let decision = decide(&mut client, &stranger).await;
    assert_eq!(decision, Decision::Refused(RefusalReason::Issuer));
    assert_eq!(asked.request_count(INTROSPECTION_PATH), 1, "for the opaque one");
}
