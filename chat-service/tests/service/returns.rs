//! Users whose connection is lost and who come back, or do not.

use std::time::{Duration, Instant};

use proto::chat::v1::PresenceRequest;

use crate::{
    edge::{Edge, all_announced, closed, closed_for, opened, resumed, suspended},
    running::Running,
};

const BOB_LEFT: &str = r#"emit to room lobby: presence [{"room":"lobby","joined":[],"left":[{"id":"bob"}],"count":1}]"#;

/// Ann and bob are in the lobby, each on a link.
async fn two_in_the_lobby(service: &Running) -> (Edge, Edge) {
    let mut ann = service.edge("one").await;
    let mut bob = service.edge("two").await;
    ann.open(1, "ann").await;
    bob.open(1, "bob").await;
    ann.join(1, "lobby").await;
    bob.join(1, "lobby").await;
    ann.next().await;
    (ann, bob)
}

#[tokio::test]
async fn whoever_is_back_within_the_grace_was_never_gone() {
    let service = Running::start_with(&["--chat-presence-grace=1h"]).await;
    let (mut ann, mut bob) = two_in_the_lobby(&service).await;

    bob.send(vec![closed(1)]).await;
    bob.wait_until_acknowledged().await;
    ann.ask(1, 1, "presence", r#"["lobby"]"#).await;
    ann.expect(&[r#"ack 1/1 [{"users":[{"id":"ann"},{"id":"bob"}],"count":2}]"#]).await;
    let request = PresenceRequest { room: "lobby".to_owned(), ..Default::default() };
    let present = service.chat().await.presence(request).await.unwrap().into_inner();
    assert_eq!(present.users.iter().map(|user| user.sockets).collect::<Vec<_>>(), [1, 0]);

    bob.open(2, "bob").await;
    bob.join(2, "lobby").await;
    ann.expect_quiet(1, "lobby").await;

    bob.send(vec![suspended(2)]).await;
    bob.send(vec![resumed(2, "bob")]).await;
    bob.wait_until_acknowledged().await;
    ann.expect_quiet(1, "lobby").await;
    bob.expect_quiet(2, "lobby").await;
}

#[tokio::test]
async fn whoever_is_not_back_when_the_grace_is_over_has_left() {
    let service = Running::start_with(&["--chat-presence-grace=100ms"]).await;
    let (mut ann, mut bob) = two_in_the_lobby(&service).await;

    let before = Instant::now();
    bob.send(vec![closed(1)]).await;
    ann.expect(&[BOB_LEFT]).await;
    assert!(before.elapsed() >= Duration::from_millis(100));

    bob.open(2, "bob").await;
    bob.join(2, "lobby").await;
    ann.next().await;
    let before = Instant::now();
    bob.send(vec![suspended(2)]).await;
    ann.expect(&[BOB_LEFT]).await;
    assert!(before.elapsed() >= Duration::from_millis(100));
}

#[tokio::test]
async fn whoever_says_goodbye_is_gone_at_once() {
    let service = Running::start_with(&["--chat-presence-grace=1h"]).await;
    let (mut ann, mut bob) = two_in_the_lobby(&service).await;

    bob.ask(1, 1, "leave", r#"["lobby"]"#).await;
    ann.expect(&[BOB_LEFT]).await;
    bob.expect(&["leave [1] lobby", r#"ack 1/1 [{"room":"lobby"}]"#]).await;

    for (socket, reason) in
        [(1, "client_disconnect"), (2, "server_disconnect"), (3, "disconnected_by_backend")]
    {
        bob.join(socket, "lobby").await;
        ann.next().await;
        bob.send(vec![closed_for(socket, reason)]).await;
        ann.expect(&[BOB_LEFT]).await;
        bob.open(socket + 1, "bob").await;
    }
}

#[tokio::test]
async fn an_edge_that_comes_too_late_brings_its_users_back_for_all_to_see() {
    let service = Running::start_with(&["--chat-link-grace=50ms"]).await;
    let (mut ann, mut bob) = two_in_the_lobby(&service).await;
    bob.cut();
    assert_eq!(ann.next_left().await, BOB_LEFT);

    assert!(!bob.attach(&service).await.resumed);
    bob.send(vec![opened(1, "/chat", "bob", Some(&[("lobby", "")])), all_announced()]).await;

    let back = r#"emit to room lobby: presence [{"room":"lobby","joined":[{"id":"bob"}],"left":[],"count":2}]"#;
    ann.expect(&[back]).await;
    // Nobody knows what its client has missed, so that all of it is told.
    let all = r#"emit to room lobby: presence [{"room":"lobby","joined":[],"left":[],"users":[{"id":"ann"},{"id":"bob"}],"count":2}]"#;
    // Those of an edge that are not announced yet may not be there any more: it is told who gets it.
    let told_bob = back.replacen("to room lobby", "to [1]", 1);
    bob.expect(&[&told_bob, all]).await;
}

#[tokio::test]
async fn after_a_restart_the_members_are_told_who_is_there_when_all_edges_have_had_the_time() {
    let service = Running::start().await;
    let (mut ann, mut bob) = two_in_the_lobby(&service).await;
    ann.cut();
    bob.cut();
    let listen = format!("--chat-listen={}", service.address);
    service.stop().await;

    let before = Instant::now();
    let service = Running::start_with(&[&listen, "--chat-link-grace=1s"]).await;
    assert!(!ann.attach(&service).await.resumed);
    ann.send(vec![opened(1, "/chat", "ann", Some(&[("lobby", "")])), all_announced()]).await;

    let here = r#"emit to room lobby: presence [{"room":"lobby","joined":[],"left":[],"users":[{"id":"ann"}],"count":1}]"#;
    ann.expect(&[here]).await;
    assert!(before.elapsed() >= Duration::from_secs(1));
    ann.expect_quiet(1, "lobby").await;
}
