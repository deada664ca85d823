//! What happens at the bounds.

use proto::chat::v1::{HistoryRequest, PublishRequest, publish_request::Target};

use crate::{edge::event, running::Running};

#[tokio::test]
async fn a_socket_is_in_at_most_256_rooms() {
    let service = Running::start().await;
    let mut edge = service.edge("one").await;
    edge.open(1, "ann").await;
    let join = |number: u64| event(1, Some(number), "join", &format!("[\"room-{number}\"]"));
    edge.send((0..256).map(join).collect()).await;
    for _ in 0..512 {
        let line = edge.next().await;
        assert!(line.starts_with("join") || line.contains("members"), "{line}");
    }

    edge.send(vec![join(256), join(0)]).await;

    let full = r#"ack 1/256 [{"error":{"code":"room_limit","message":"a socket may be in at most 256 rooms","retryable":false}}]"#;
    let lines = [edge.next().await, edge.next().await];
    assert!(lines.contains(&full.to_owned()), "{lines:#?}");
    edge.ask(1, 1, "leave", r#"["room-7"]"#).await;
    edge.expect(&["leave [1] room-7", r#"ack 1/1 [{"room":"room-7"}]"#]).await;
    edge.join(1, "room-256").await;
}

#[tokio::test]
async fn a_room_keeps_as_much_as_its_namespace_says() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "[namespace.'/chat']\nhistory_count = 2").unwrap();
    let flag = format!("--chat-namespaces-file={}", file.path().display());
    let service = Running::start_with(&[&flag, "--chat-history-count-max=3"]).await;
    let mut chat = service.chat().await;

    for (namespace, kept) in [("/chat", 2), ("/other", 3)] {
        for number in 0..5 {
            let request = PublishRequest {
                namespace: namespace.to_owned(),
                target: Some(Target::Room("lobby".to_owned())),
                data: format!("{{\"number\":{number}}}"),
                ..Default::default()
            };
            chat.publish(request).await.unwrap();
        }
        let request = HistoryRequest {
            namespace: namespace.to_owned(),
            room: "lobby".to_owned(),
            ..Default::default()
        };
        let history = chat.history(request).await.unwrap().into_inner();
        assert_eq!(history.entries.len(), kept);
    }
}

#[tokio::test]
async fn large_answers_wait_for_an_edge_that_does_not_confirm_them() {
    const ASKED: u64 = 200;
    let service = Running::start().await;
    let mut chat = service.chat().await;
    let mut edge = service.edge("one").await;
    edge.open(1, "ann").await;
    edge.join(1, "lobby").await;
    for _ in 0..3 {
        let request = PublishRequest {
            target: Some(Target::Room("lobby".to_owned())),
            data: format!("{{\"text\":\"{}\"}}", "x".repeat(60_000)),
            ..Default::default()
        };
        chat.publish(request).await.unwrap();
        edge.next().await;
    }

    edge.confirms = false;
    let history = |number| event(1, Some(number), "history", r#"[{"room":"lobby"}]"#);
    edge.send((0..ASKED).map(history).collect()).await;
    // About 36 MB of answers: nine times the outbox.
    for number in 0..5 {
        assert!(edge.next().await.starts_with(&format!("ack 1/{number} ")));
    }
    edge.confirms = true;

    edge.confirm().await;
    for number in 5..ASKED {
        assert!(edge.next().await.starts_with(&format!("ack 1/{number} ")));
    }
}

#[tokio::test]
async fn history_answers_are_bounded_in_bytes() {
    let service = Running::start().await;
    let mut edge = service.edge("one").await;
    edge.open(1, "ann").await;
    edge.join(1, "lobby").await;
    let text = "x".repeat(16_384);
    for _ in 0..30 {
        edge.tell(1, "message", &format!(r#"[{{"room":"lobby","text":"{text}"}}]"#)).await;
        edge.next().await;
    }

    edge.ask(1, 1, "history", r#"[{"room":"lobby","limit":1000}]"#).await;

    let answer = edge.next().await;
    assert!((200_000..300_000).contains(&answer.len()), "{}", answer.len());
    assert!(answer.ends_with(r#""more":true}]"#));
}
