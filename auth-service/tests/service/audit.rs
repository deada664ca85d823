//! The audit log of a process: who was let in, who took tokens back, and what it must not say.

use proto::auth::v1::revocation_service_client::RevocationServiceClient;
use proto::auth::v1::revocation_target::Tokens;
use proto::auth::v1::{AuthenticateRequest, IssueTokenRequest, RevocationTarget, RevokeRequest};
use serde_json::{Value, json};

use crate::process::{Process, exit_of};
use crate::running::authenticate;
use crate::tokens::{SECRET, expired_token, token_for};

const HOSTILE_SUBJECT: &str = "ada\r\n\x1b[31m\u{9b}2J";

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A line as it must be, but for its time.
fn line(event: &str, decision: &str, rest: &Value) -> Value {
    let mut line = json!({
        "service": "auth-service",
        "event": event,
        "decision": decision,
        "address": "127.0.0.1",
        "count": 1,
    });
    line.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
    line
}

#[tokio::test]
async fn the_audit_log_says_who_was_let_in_and_who_took_tokens_back() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit.jsonl");
    let revocations = directory.path().join("revocations");
    let variables = [
        ("AUTH_HS256_SECRET", SECRET),
        ("AUTH_ISSUE_TOKENS", "1"),
        ("AUDIT_LOG", path.to_str().unwrap()),
        ("AUTH_REVOCATIONS_FILE", revocations.to_str().unwrap()),
    ];
    let service = Process::start(&[], &variables);
    let mut client = service.client().await;
    let mut revoker =
        RevocationServiceClient::connect(format!("http://{}", service.address)).await.unwrap();
    let (good, expired) = (token_for(HOSTILE_SUBJECT), expired_token());

    authenticate(&mut client, &good).await.unwrap();
    authenticate(&mut client, &expired).await.unwrap_err();
    service.ticket_for(&good).await;
    let request = IssueTokenRequest { subject: "grace".to_owned(), ..IssueTokenRequest::default() };
    client.issue_token(request).await.unwrap();
    let revoke = |issuer: &str| {
        let tokens = Some(Tokens::Subject(HOSTILE_SUBJECT.to_owned()));
        let target = Some(RevocationTarget { issuer: issuer.to_owned(), tokens });
        RevokeRequest { target, ..RevokeRequest::default() }
    };
    revoker.revoke(revoke("sockeye")).await.unwrap();
    revoker.revoke(revoke("nobody")).await.unwrap_err();
    let request = AuthenticateRequest { token: good.clone() };
    client.authenticate(request).await.unwrap();
    service.terminate();

    let text = std::fs::read_to_string(&path).unwrap();
    let ada = json!({"issuer": "sockeye", "subject": HOSTILE_SUBJECT});
    let mut told = lines(&text);
    for line in &mut told {
        let time = line.as_object_mut().unwrap().remove("time").unwrap();
        assert!(time.as_str().unwrap().ends_with('Z'), "{time}");
    }
    assert_eq!(
        told,
        [
            line("authenticate", "allowed", &ada),
            line("authenticate", "denied", &json!({"reason": "expired"})),
            line("issue_ticket", "allowed", &ada),
            line("issue_token", "allowed", &json!({"issuer": "sockeye", "subject": "grace"})),
            line(
                "revoke",
                "allowed",
                &json!({"reason": "subject", "position": 1, "issuer": "sockeye", "subject": HOSTILE_SUBJECT})
            ),
            line("revoke", "denied", &json!({"reason": "invalid_request"})),
            line("authenticate", "denied", &json!({"reason": "revoked"})),
        ]
    );
    assert!(!text.contains(['\r', '\x1b', '\u{9b}']), "{text}");
    for secret in good.split('.').chain(expired.split('.')).skip(1).chain([SECRET]) {
        assert!(!text.contains(secret), "{text}");
    }
}

#[test]
fn without_the_audit_log_that_is_asked_for_nothing_starts() {
    let variables = [("AUTH_HS256_SECRET", SECRET), ("AUDIT_LOG", "/no such folder/audit.jsonl")];

    let (code, text) = exit_of(&[], &variables);

    assert_eq!(code, 78, "{text}");
    assert!(text.contains("/no such folder/audit.jsonl"), "{text}");
}
