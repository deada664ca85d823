//! Sockets that did not keep up ask for what they missed, and get it in order and once.

use proto::{
    chat::v1::{PublishRequest, publish_request::Target},
    edge::v1::{Refill, instruction::Kind},
};

use crate::{
    edge::{Edge, catch_up, closed, event},
    running::Running,
};

const LARGE: u32 = 1_000_000;

async fn publish(service: &Running, text: &str) -> String {
    let request = PublishRequest {
        target: Some(Target::Room("lobby".to_owned())),
        data: format!(r#"{{"text":"{text}"}}"#),
        ..Default::default()
    };
    service.chat().await.publish(request).await.unwrap().into_inner().position
}

/// A link with one socket in the lobby.
async fn member(service: &Running) -> Edge {
    let mut edge = service.edge("one").await;
    edge.open(1, "ann").await;
    edge.join(1, "lobby").await;
    edge
}

async fn next_refill(edge: &mut Edge) -> Refill {
    match edge.next_instruction().await.kind {
        Some(Kind::Refill(refill)) => refill,
        kind => panic!("{kind:?}"),
    }
}

fn texts(refill: &Refill) -> Vec<String> {
    let text = |args: &[u8]| {
        let args: serde_json::Value = serde_json::from_slice(args).unwrap();
        args[0]["text"].as_str().unwrap().to_owned()
    };
    refill.events.iter().map(|emit| text(&emit.args)).collect()
}

#[tokio::test]
async fn what_was_missed_comes_with_its_positions_and_the_end_of_the_log() {
    let service = Running::start().await;
    let mut edge = member(&service).await;
    for text in ["0", "1", "2"] {
        publish(&service, text).await;
    }
    let emitted = "emit to room lobby: ";
    let mut lines = Vec::new();
    let mut positions = Vec::new();
    for _ in 0..3 {
        let instruction = edge.next_instruction().await;
        positions.push(crate::events::emitted_position(&instruction));
        lines.push(edge.script.line(&instruction).replace(emitted, "").replace("at lobby", "at"));
    }

    edge.send(vec![catch_up(1, "lobby", &positions[0], LARGE)]).await;

    edge.expect(&[&format!("refill 1 lobby after P1: {:?} to P3, more: false", &lines[1..])]).await;
    edge.send(vec![catch_up(1, "lobby", &positions[2], LARGE)]).await;
    edge.expect(&["refill 1 lobby after P3: [] to P3, more: false"]).await;
}

#[tokio::test]
async fn it_comes_in_parts_that_the_edge_has_room_for() {
    let service = Running::start().await;
    let mut edge = member(&service).await;
    let first = publish(&service, "first").await;
    let padding = "x".repeat(10_000);
    for number in 0..10 {
        publish(&service, &format!("{number}-{padding}")).await;
    }
    let last = publish(&service, "last").await;
    for _ in 0..12 {
        edge.next().await;
    }

    let mut after = first;
    let mut seen = Vec::new();
    let mut parts = 0;
    loop {
        // Less than one event is room for one.
        let bytes_max = if parts == 0 { 0 } else { 35_000 };
        edge.send(vec![catch_up(1, "lobby", &after, bytes_max)]).await;
        let refill = next_refill(&mut edge).await;
        assert_eq!(refill.after, after);
        let bytes: usize = refill.events.iter().map(|emit| emit.args.len()).sum();
        assert!(bytes < 36_000, "{bytes}");
        seen.extend(texts(&refill).into_iter().map(|text| text.replace(&padding, "")));
        after.clone_from(&refill.position);
        assert_eq!(refill.events.last().unwrap().position, after);
        parts += 1;
        if !refill.more {
            assert_eq!(after, last);
            break;
        }
    }
    assert_eq!(seen, ["0-", "1-", "2-", "3-", "4-", "5-", "6-", "7-", "8-", "9-", "last"]);
    assert_eq!(parts, 4);
}

#[tokio::test]
async fn what_is_said_meanwhile_comes_behind_it_or_in_it_and_once() {
    let service = Running::start().await;
    let mut edge = member(&service).await;
    edge.open(2, "bob").await;
    edge.join(2, "lobby").await;
    let first = publish(&service, "first").await;
    publish(&service, "second").await;
    let says =
        |text: &str| event(2, None, "message", &format!(r#"[{{"room":"lobby","text":"{text}"}}]"#));

    edge.send(vec![says("before"), catch_up(1, "lobby", &first, LARGE), says("after")]).await;

    let mut lines = Vec::new();
    while lines.len() < 5 {
        lines.push(edge.next().await);
    }
    let says = |line: &str, text: &str| line.contains(&format!(r#""text":"{text}""#));
    assert!(says(&lines[0], "first") && says(&lines[1], "second") && says(&lines[2], "before"));
    let refilled: Vec<_> =
        lines[3].split(r#"\"text\":\""#).skip(1).map(|text| &text[..6]).collect();
    assert_eq!(
        (lines[3].starts_with("refill 1 lobby"), refilled),
        (true, vec!["second", "before"])
    );
    assert!(says(&lines[4], "after") && lines[4].starts_with("emit to room lobby"));
}

#[tokio::test]
async fn a_socket_is_told_when_what_it_missed_is_gone_and_goes_on_at_the_end() {
    let service = Running::start_with(&["--chat-history-count-max=1"]).await;
    let mut edge = member(&service).await;
    let first = publish(&service, "0").await;
    publish(&service, "1").await;
    let last = publish(&service, "2").await;
    for _ in 0..3 {
        edge.next().await;
    }

    for position in [&*first, "", "not a position", "AAAAAAAAAAAAAAAAAAAAAA"] {
        edge.send(vec![catch_up(1, "lobby", position, LARGE)]).await;

        edge.expect(&[
            r#"emit to [1]: exception [{"status":"error","code":"gap","message":"events of this room were missed: join it again","retryable":false,"room":"lobby"}]"#,
        ])
        .await;
        let refill = next_refill(&mut edge).await;
        assert_eq!((&*refill.after, refill.events.len(), &refill.position), (position, 0, &last));
    }
}

#[tokio::test]
async fn who_is_excepted_goes_on_past_what_is_not_for_it() {
    let service = Running::start().await;
    let mut edge = member(&service).await;
    let first = publish(&service, "0").await;
    let secret = PublishRequest {
        target: Some(Target::Room("lobby".to_owned())),
        data: r#"{"text":"secret"}"#.to_owned(),
        except_users: vec!["sub-ann".to_owned()],
        ..Default::default()
    };
    let mut chat = service.chat().await;
    let mut last = String::new();
    for _ in 0..3 {
        last = chat.publish(secret.clone()).await.unwrap().into_inner().position;
    }
    for _ in 0..4 {
        edge.next().await;
    }

    let mut after = first;
    for more in [true, true, false] {
        edge.send(vec![catch_up(1, "lobby", &after, 0)]).await;
        let refill = next_refill(&mut edge).await;
        assert_eq!((&*refill.after, refill.events.len(), refill.more), (&*after, 0, more));
        after = refill.position;
    }
    assert_eq!(after, last);
}

#[tokio::test]
async fn who_is_not_in_the_room_is_given_nothing_of_it() {
    let service = Running::start().await;
    let mut edge = member(&service).await;
    edge.open(2, "bob").await;
    let first = publish(&service, "secret").await;
    edge.next().await;

    edge.send(vec![catch_up(2, "lobby", &first, LARGE), catch_up(3, "lobby", &first, LARGE)]).await;
    edge.send(vec![catch_up(1, "\n", &first, LARGE), closed(2)]).await;

    let refill = next_refill(&mut edge).await;
    assert_eq!((refill.socket, refill.events.len(), refill.position), (2, 0, first));
    edge.wait_until_acknowledged().await;
    edge.expect_quiet(1, "lobby").await;
}

#[tokio::test]
async fn who_joins_again_is_owed_the_rest_unless_it_asks_for_it() {
    let service = Running::start().await;
    let mut edge = member(&service).await;
    let first = publish(&service, "0").await;
    edge.next().await;

    edge.ask(1, 1, "join", r#"["lobby"]"#).await;
    assert!(edge.next().await.starts_with("ack 1/1 "));

    edge.ask(1, 2, "join", &format!(r#"[{{"room":"lobby","since":"{first}"}}]"#)).await;
    edge.expect(&["join [1] lobby P1"]).await;
    assert!(edge.next().await.starts_with("ack 1/2 "));
}
