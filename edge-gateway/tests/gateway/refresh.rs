//! Clients that are told that their token expires, and go on with a new one.

use std::sync::atomic::Ordering;

use proto::{
    auth::v1::Identity,
    edge::v1::{Accept, Welcome, edge_event, instruction::Kind},
};
use serde_json::Value;

use crate::support::{Client, Edge, Stream, unix_ms};

const EXPIRED: Option<u16> = Some(4004);
const HOUR_MS: u64 = 3_600_000;

/// Enters with a token that lasts two seconds, and reads that it expires.
async fn enter_shortly(edge: &Edge, stream: &mut Stream, subject: &str) -> (Client, u64) {
    let mut client = edge.socket_io().await;
    client.send(&format!(r#"40/chat,{{"token":"short:{subject}"}}"#)).await;
    let (socket, _) = stream.opened().await;
    stream.instruct([Kind::Accept(Accept { socket })]).await;
    client.text().await;
    let warning = client.text().await;
    let warning: Value = serde_json::from_str(warning.strip_prefix("42/chat,").unwrap()).unwrap();
    assert_eq!(warning[0], "auth:expiring");
    let expires_at = warning[1]["expires_at"].as_u64().unwrap();
    assert!(expires_at <= unix_ms() + 2_000, "{expires_at}");
    (client, socket)
}

/// Asks to go on with a token; returns the arguments of the answer.
async fn refresh(client: &mut Client, token: &str) -> Value {
    client.send(&format!(r#"42/chat,7["auth:refresh",{{"token":"{token}"}}]"#)).await;
    let answer = client.text().await;
    serde_json::from_str(answer.strip_prefix("43/chat,7").unwrap()).unwrap()
}

/// Waits until tokens that last two seconds and are here already have expired.
async fn until_they_expire(edge: &Edge, stream: &mut Stream) {
    let (mut witness, socket) = enter_shortly(edge, stream, "witness").await;
    assert_eq!(witness.close_code().await, EXPIRED);
    assert_eq!(stream.closed().await, (socket, "token_expired".to_owned()));
}

#[tokio::test]
async fn a_new_token_keeps_the_socket() {
    let (edge, mut stream) = Edge::attached(&[]).await;
    let (mut client, socket) = enter_shortly(&edge, &mut stream, "alice").await;

    let answer = refresh(&mut client, "ok:alice").await;

    assert!(answer[0]["expires_at"].as_u64().unwrap() > unix_ms() + HOUR_MS / 2, "{answer}");
    until_they_expire(&edge, &mut stream).await;
    client.send(r#"42/chat,["still here"]"#).await;
    let (from, event) = stream.event().await;
    assert_eq!((from, &*event.name), (socket, "still here"), "the backend saw no refresh");
}

#[tokio::test]
async fn a_token_that_does_not_do_changes_nothing() {
    let (edge, mut stream) = Edge::attached(&[]).await;
    let (mut client, _) = enter_shortly(&edge, &mut stream, "alice").await;

    for token in ["ok:bob", "ok:alice@acme", "garbage"] {
        let answer = refresh(&mut client, token).await;
        assert_eq!(answer[0]["error"]["code"], "unauthorized", "{token}");
    }
    client.send(r#"42/chat,8["auth:refresh"]"#).await;
    assert!(client.text().await.contains("unauthorized"));
    client.send(r#"42/chat,["auth:refresh",{"token":"garbage"}]"#).await;
    assert!(client.text().await.starts_with(r#"42/chat,["exception",{"status":"error""#));

    assert_eq!(client.close_code().await, EXPIRED);
}

#[tokio::test]
async fn a_plain_json_client_goes_on_too() {
    let (edge, mut stream) = Edge::attached(&["--edge-ws-namespace=/chat"]).await;
    let mut client = edge.websocket_as("/ws", "short:alice").await;
    let (socket, _) = stream.opened().await;
    stream.instruct([Kind::Accept(Accept { socket })]).await;
    client.text().await;
    assert!(client.text().await.starts_with(r#"{"event":"auth:expiring","data":{"expires_at":"#));

    client.send(r#"{"event":"auth:refresh","data":{"token":"ok:alice"},"id":"r"}"#).await;

    let answer = client.text().await;
    assert!(answer.contains(r#""id":"r""#) && answer.contains("expires_at"), "{answer}");
    until_they_expire(&edge, &mut stream).await;
    client.send(r#"{"event":"still here"}"#).await;
    assert_eq!(stream.event().await.0, socket);
}

#[tokio::test]
async fn the_first_of_several_tokens_ends_the_connection() {
    let (edge, mut stream) = Edge::attached(&[]).await;
    let (mut client, _) = enter_shortly(&edge, &mut stream, "alice").await;
    client.send(r#"40{"token":"short:bob"}"#).await;
    let (socket, _) = stream.opened().await;
    stream.instruct([Kind::Accept(Accept { socket })]).await;
    client.text().await;

    client.send(r#"42/chat,7["auth:refresh",{"token":"ok:alice"}]"#).await;

    let (frames, code) = client.until_its_end().await;
    assert_eq!(code, EXPIRED, "{frames:?}");
    assert!(frames.iter().any(|frame| frame.starts_with(r#"42["auth:expiring""#)), "{frames:?}");
    assert!(frames.iter().any(|frame| frame.starts_with("43/chat,7")), "{frames:?}");
}

#[tokio::test]
async fn in_an_outage_the_client_may_try_again() {
    let (edge, mut stream) = Edge::attached(&[]).await;
    let (mut client, _) = edge.in_chat(&mut stream, "alice").await;
    edge.auth.down.store(true, Ordering::Relaxed);

    let answer = refresh(&mut client, "ok:alice").await;

    let error = &answer[0]["error"];
    assert_eq!((&error["code"], &error["retryable"]), (&"unavailable".into(), &true.into()));
    edge.auth.down.store(false, Ordering::Relaxed);
    assert!(refresh(&mut client, "ok:alice").await[0]["expires_at"].is_u64());
}

#[tokio::test]
async fn one_token_of_a_socket_is_verified_at_a_time_and_comes_too_late_once_it_has_ended() {
    let (edge, mut stream) = Edge::attached(&[]).await;
    let (mut client, _) = edge.in_chat(&mut stream, "alice").await;
    client.send(r#"42/chat,1["auth:refresh",{"token":"late:alice"}]"#).await;
    let answer = refresh(&mut client, "ok:alice").await;
    assert_eq!(answer[0]["error"]["code"], "rate_limited");
    assert_eq!(answer[0]["error"]["retry_after_ms"], 1000);
    edge.auth.is_held(1).await;

    edge.auth.revoke("alice");

    assert_eq!(client.close_code().await, Some(4008));
    edge.auth.release.send_replace(true);
    stream.closed().await;
    edge.in_chat(&mut stream, "bob").await;
}

#[tokio::test]
async fn without_tokens_the_event_is_the_backends() {
    let terms = "[namespace.'/chat']\nauthentication = 'none'";
    let (edge, mut stream) = Edge::with_terms(terms, &[]).await;
    let mut client = edge.socket_io().await;
    client.send("40/chat,").await;
    let (socket, _) = stream.opened().await;
    stream.instruct([Kind::Accept(Accept { socket })]).await;
    client.text().await;

    client.send(r#"42/chat,["auth:refresh",{"token":"ok:alice"}]"#).await;

    assert_eq!(stream.event().await.1.name, "auth:refresh");
}

fn rooms_of(identity: &Identity) -> Vec<&str> {
    let rooms = identity.capabilities.iter().flat_map(|one| &one.rooms);
    rooms.map(String::as_str).collect()
}

#[tokio::test]
async fn a_business_service_that_wants_to_hears_what_a_new_token_says_before_what_follows() {
    let mut edge = Edge::start(&[]).await;
    let welcome = |backend_id: &str| {
        let backend_id = backend_id.to_owned();
        Welcome { backend_id, refreshes: true, ..Welcome::default() }
    };
    let mut stream = edge.stream().await.welcome_with(welcome("backend-1")).await;
    let mut client = edge.socket_io().await;
    client.send(r#"40/chat,{"token":"ok:alice#may-join=a"}"#).await;
    let (socket, opened) = stream.opened().await;
    assert_eq!(rooms_of(&opened.identity.unwrap()), ["a"]);
    stream.instruct([Kind::Accept(Accept { socket })]).await;
    client.text().await;

    for (token, rooms) in [("ok:alice#may-join=b", &["b"][..]), ("ok:alice", &[])] {
        refresh(&mut client, token).await;
        client.send(r#"42/chat,["next"]"#).await;

        let refreshed = stream.next().await;
        let Some(edge_event::Kind::Refreshed(told)) = refreshed.kind else {
            panic!("{refreshed:?}")
        };
        assert_eq!(refreshed.socket, socket);
        let identity = told.identity.unwrap();
        assert_eq!((&*identity.subject, &*rooms_of(&identity)), ("alice", rooms));
        assert_eq!(stream.event().await.1.name, "next");
    }
    refresh(&mut client, "garbage").await;
    refresh(&mut client, "ok:alice#may-join=c").await;
    let refreshed = stream.next().await;
    assert!(matches!(refreshed.kind, Some(edge_event::Kind::Refreshed(_))), "{refreshed:?}");

    // One that starts anew is told what the token says now.
    drop(stream);
    let mut stream = edge.stream().await.welcome_with(welcome("backend-2")).await;
    let (announced, opened) = stream.opened().await;
    assert_eq!((announced, opened.announced), (socket, true));
    assert_eq!(rooms_of(&opened.identity.unwrap()), ["c"]);
}
