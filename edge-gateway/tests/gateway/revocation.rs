//! Tokens that are taken back while their sockets are connected, about to be, or about to come back.

use std::sync::atomic::Ordering;

use proto::edge::v1::{Accept, edge_event, instruction::Kind};
use serde_json::Value;

use crate::support::{Client, Edge, Stream, poller::Poller, within};

const REVOKED: Option<u16> = Some(4008);

/// Takes a user's tokens back, and waits until the edge knows.
async fn revoke(edge: &Edge, stream: &mut Stream, subject: &str) {
    let (mut witness, socket) = edge.in_chat(stream, subject).await;
    edge.auth.revoke(subject);
    assert_eq!(witness.close_code().await, REVOKED);
    assert_eq!(stream.closed().await, (socket, "token_revoked".to_owned()));
}

#[tokio::test]
async fn every_connection_of_the_token_ends_and_no_other() {
    let (edge, mut stream) = Edge::attached(&["--edge-ws-namespace=/chat"]).await;
    let (mut alice, first) = edge.in_chat(&mut stream, "alice").await;
    let (mut json, second) = edge.json_in_chat(&mut stream, "alice").await;
    let poller = Poller::open(&edge).await;
    let third = poller.enter_chat(&mut stream).await;
    let (mut bob, of_bob) = edge.in_chat(&mut stream, "bob").await;

    edge.auth.revoke("alice");

    assert_eq!(alice.close_code().await, REVOKED);
    assert_eq!(json.close_code().await, REVOKED);
    assert_eq!(poller.get().await, (200, "1".to_owned()));
    let mut ended = Vec::new();
    for _ in 0..3 {
        ended.push(stream.closed().await);
    }
    ended.sort();
    assert_eq!(ended, [first, second, third].map(|socket| (socket, "token_revoked".to_owned())));
    bob.send(r#"42/chat,["still here"]"#).await;
    assert_eq!(stream.event().await.0, of_bob);
}

#[tokio::test]
async fn a_connection_ends_with_any_of_its_tokens() {
    let (edge, mut stream) = Edge::attached(&[]).await;
    let (mut client, of_alice) = edge.in_chat(&mut stream, "alice").await;
    client.send(r#"40{"token":"ok:bob"}"#).await;
    let (of_bob, _) = stream.opened().await;
    stream.instruct([Kind::Accept(Accept { socket: of_bob })]).await;
    client.text().await;

    edge.auth.revoke("bob");

    assert_eq!(client.close_code().await, REVOKED);
    let mut ended = [stream.closed().await.0, stream.closed().await.0];
    ended.sort_unstable();
    assert_eq!(ended, [of_alice, of_bob]);
}

#[tokio::test]
async fn an_edge_that_was_away_hears_what_it_missed() {
    let (edge, mut stream) = Edge::attached(&[]).await;
    let (mut alice, _) = edge.in_chat(&mut stream, "alice").await;
    let (mut bob, of_bob) = edge.in_chat(&mut stream, "bob").await;
    edge.auth.down.store(true, Ordering::Relaxed);
    edge.auth.cut.send_modify(|cuts| *cuts += 1);
    within("the end of the watch", edge.auth.revocations.closed()).await;

    edge.auth.revoke("alice");
    bob.send(r#"42/chat,["meanwhile"]"#).await;
    assert_eq!(stream.event().await.0, of_bob);
    edge.auth.down.store(false, Ordering::Relaxed);

    assert_eq!(alice.close_code().await, REVOKED);
}

#[tokio::test]
async fn a_verdict_that_was_under_way_lets_nobody_in() {
    let (edge, mut stream) = Edge::attached(&[]).await;
    let mut client = edge.socket_io().await;
    client.send(r#"40/chat,{"token":"late:alice"}"#).await;
    edge.auth.is_held(1).await;

    revoke(&edge, &mut stream, "alice").await;
    edge.auth.release.send_replace(true);

    let unauthorized = r#"44/chat,{"message":"Unauthorized","data":{"code":"unauthorized"}}"#;
    assert_eq!(client.text().await, unauthorized);
}

#[tokio::test]
async fn a_socket_that_is_being_let_in_ends_too() {
    let (edge, mut stream) = Edge::attached(&[]).await;
    let mut client = edge.socket_io().await;
    client.send(r#"40/chat,{"token":"ok:alice"}"#).await;
    let (socket, _) = stream.opened().await;

    edge.auth.revoke("alice");

    assert_eq!(client.close_code().await, REVOKED);
    assert_eq!(stream.closed().await, (socket, "token_revoked".to_owned()));
}

#[tokio::test]
async fn a_socket_that_waits_for_its_client_does_not_come_back() {
    let terms = "[namespace.'/chat']\nrecovery = '1m'";
    let (edge, mut stream) = Edge::with_terms(terms, &[]).await;
    let mut client = edge.socket_io().await;
    client.send(r#"40/chat,{"token":"ok:alice"}"#).await;
    let (socket, _) = stream.opened().await;
    stream.instruct([Kind::Accept(Accept { socket })]).await;
    let connected = client.packet().await;
    let names: Value = serde_json::from_str(connected.strip_prefix("40/chat,").unwrap()).unwrap();
    drop(client);
    let suspended = stream.next().await;
    assert!(matches!(suspended.kind, Some(edge_event::Kind::Suspended(_))), "{suspended:?}");

    edge.auth.revoke("alice");

    assert_eq!(stream.closed().await, (socket, "token_revoked".to_owned()));
    let mut client: Client = edge.socket_io().await;
    let pid = names["pid"].as_str().unwrap();
    client.send(&format!(r#"40/chat,{{"token":"ok:alice","pid":"{pid}"}}"#)).await;
    let (_, opened) = stream.opened().await;
    assert_ne!(opened.socket_id, names["sid"].as_str().unwrap());
}
