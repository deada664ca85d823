//! What becomes of clients whose tokens say something else, or nonsense, and what is written down of who was denied what.

use serde_json::{Value, json};

use crate::support::{Cluster, Program, SocketIoClient, TokenMint};

/// The `capabilities` of a role's tokens.
fn capabilities(role: &str) -> Value {
    match role {
        "reader" => json!([{"actions": ["join", "presence", "history"], "rooms": ["news"]}]),
        "moderator" => {
            json!([{"actions": ["join", "publish", "presence", "history"], "rooms": ["*"]}])
        }
        _ => Value::Null,
    }
}

fn token(cluster: &Cluster, role: &str, capabilities: Value) -> String {
    cluster.mint.sign(&TokenMint::claims_but(role, "capabilities", capabilities))
}

async fn enter(cluster: &Cluster, role: &str) -> SocketIoClient {
    let mut client = SocketIoClient::open(cluster.clients).await;
    let token = token(cluster, role, capabilities(role));
    client.connect("/chat", &json!({"token": token})).await.unwrap();
    client
}

#[tokio::test]
async fn a_token_that_allows_less_takes_the_client_out_of_its_rooms_and_one_that_allows_more_lets_it_in()
 {
    let cluster = Cluster::builder().with_closed_rooms().start().await;
    let mut member = enter(&cluster, "moderator").await;
    member.request("join", json!("news")).await;
    let mut reader = enter(&cluster, "reader").await;
    let answer = reader.request("join", json!("news")).await;
    assert_eq!(answer["members"].as_array().map(Vec::len), Some(2), "{answer}");

    let narrower = token(&cluster, "reader", json!([]));
    reader.request("auth:refresh", json!({"token": narrower})).await;
    let told = reader.event("exception").await;
    assert_eq!((&told["code"], &told["room"]), (&json!("forbidden"), &json!("news")));
    reader.unread_events().await;
    member.request("message", json!({"room": "news", "text": "not for readers"})).await;
    assert_eq!(reader.unread_events().await, [""; 0]);
    assert_eq!(reader.request_error("join", json!("news")).await, "forbidden");

    let wider = token(&cluster, "reader", capabilities("moderator"));
    reader.request("auth:refresh", json!({"token": wider})).await;
    let answer = reader.request("join", json!("news")).await;
    assert!(answer["error"].is_null(), "{answer}");
    let answer = reader.request("message", json!({"room": "news", "text": "from a reader"})).await;
    assert!(answer["error"].is_null(), "{answer}");
}

#[tokio::test]
async fn a_token_whose_capabilities_are_malformed_lets_nobody_in() {
    let cluster = Cluster::start().await;

    for bad in [json!("*"), json!([{"actions": ["join"], "rooms": ["@ann"]}]), json!({})] {
        let mut client = SocketIoClient::open(cluster.clients).await;
        let token = token(&cluster, "ann", bad.clone());
        client.connect("/chat", &json!({"token": token})).await.expect_err(&bad.to_string());
    }
}

#[tokio::test]
async fn the_audit_log_of_the_chat_service_says_who_was_denied_what() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit.jsonl");
    let mut cluster = Cluster::builder()
        .with_closed_rooms()
        .chat(format!("--audit-log={}", path.display()))
        .start()
        .await;
    let mut reader = enter(&cluster, "reader").await;
    reader.request("join", json!("news")).await;
    reader.request_error("join", json!("canary-room")).await;
    reader.request_error("message", json!({"room": "news", "text": "canary-text"})).await;
    let narrower = token(&cluster, "reader", Value::Null);
    reader.request("auth:refresh", json!({"token": narrower})).await;
    reader.event("exception").await;

    let chat = cluster.process(Program::ChatService);
    chat.terminate();
    assert_eq!(chat.exit_code().await, Some(0));

    let text = std::fs::read_to_string(&path).unwrap();
    let told = text.lines().map(|line| {
        let line: Value = serde_json::from_str(line).unwrap();
        assert_eq!(
            (&line["service"], &line["decision"]),
            (&json!("chat-service"), &json!("denied"))
        );
        json!([line["event"], line["reason"], line["issuer"], line["subject"]])
    });
    assert_eq!(
        told.collect::<Vec<_>>(),
        [
            json!(["authorize", "join", "sockeye", "reader"]),
            json!(["authorize", "publish", "sockeye", "reader"]),
            json!(["remove", "join", "sockeye", "reader"]),
        ]
    );
    assert!(!text.contains("canary"), "{text}");
}
