//! Events that an earlier life of the service may have carried out.

use proto::edge::v1::{EdgeEvent, instruction::Kind};

use crate::{
    edge::{Edge, all_announced, event, named, opened, repeated},
    events::emitted_position,
    running::Running,
};

const MEMBER: Option<&[(&str, &str)]> = Some(&[("lobby", "")]);

/// Attaches to a service that has been started again, with `ann` in the lobby, and sends these events again.
async fn repeat(service: &Running, events: impl IntoIterator<Item = EdgeEvent>) -> Edge {
    let mut edge = Edge::new("one");
    edge.backend_id = "an earlier life".to_owned();
    let welcome = edge.attach(service).await;
    assert!(!welcome.resumed && welcome.takes_repeats);
    let announced = [opened(1, "/chat", "ann", MEMBER), all_announced()];
    edge.send(announced.into_iter().chain(events.into_iter().map(repeated)).collect()).await;
    edge
}

#[tokio::test]
async fn a_message_that_may_be_in_a_log_that_is_gone_is_not_logged_again() {
    let service = Running::start().await;
    let message = r#"[{"room":"lobby","text":"hi","id":"x"}]"#;

    let mut edge = repeat(
        &service,
        [event(1, Some(1), "message", message), event(1, None, "message", message)],
    )
    .await;

    let error = r#""code":"unavailable","message":"the service was restarted meanwhile; try again","retryable":true"#;
    edge.expect(&[
        &format!(r#"ack 1/1 [{{"error":{{{error}}}}}]"#),
        &format!(r#"emit to [1]: exception [{{"status":"error",{error}}}]"#),
    ])
    .await;
    edge.ask(1, 2, "message", message).await;
    assert!(
        edge.next().await.starts_with("emit to room lobby: message "),
        "the client tries again"
    );
}

/// The arguments of the next instruction, which must be an answer.
async fn answer(edge: &mut Edge) -> bytes::Bytes {
    match edge.next_instruction().await.kind {
        Some(Kind::Acknowledge(answer)) => answer.args,
        kind => panic!("{kind:?}"),
    }
}

#[tokio::test]
async fn a_message_that_is_on_disk_is_answered_as_before_and_shown_only_to_who_has_not_seen_it() {
    let directory = tempfile::tempdir().unwrap();
    let directory = format!("--chat-data-dir={}", directory.path().display());
    let flags = [directory.as_str(), "--chat-durability=disk"];
    let message =
        |ack_id| named(b'm', event(1, ack_id, "message", r#"[{"room":"lobby","text":"hi"}]"#));
    let service = Running::start_with(&flags).await;
    let mut edge = service.edge("one").await;
    edge.open(1, "ann").await;
    edge.ask(1, 999, "join", r#"["lobby"]"#).await;
    let Some(Kind::Join(joined)) = edge.next_instruction().await.kind else { panic!("it joins") };
    answer(&mut edge).await;
    edge.send(vec![message(Some(1))]).await;
    let position = emitted_position(&edge.next_instruction().await);
    let first = answer(&mut edge).await;
    edge.cut();
    service.stop().await;

    let service = Running::start_with(&flags).await;
    for (stands_at, has_seen_it) in [(&joined.position, false), (&position, true)] {
        let mut edge = service.edge(stands_at).await;
        let announced = opened(1, "/chat", "ann", Some(&[("lobby", stands_at)]));
        // Where nobody waits for an answer, nothing comes of it at all.
        let again = [repeated(message(Some(1))), repeated(message(None))];
        edge.send([announced, all_announced()].into_iter().chain(again).collect()).await;

        if !has_seen_it {
            assert_eq!(emitted_position(&edge.next_instruction().await), position);
        }
        assert_eq!(answer(&mut edge).await, first);
        edge.expect_quiet(1, "lobby").await;
    }
}

#[tokio::test]
async fn nobody_is_told_of_a_gap_in_a_room_that_was_quiet_for_long() {
    let directory = tempfile::tempdir().unwrap();
    let directory = format!("--chat-data-dir={}", directory.path().display());
    let flags = [directory.as_str(), "--chat-history-age-max=1ms"];
    let service = Running::start_with(&flags).await;
    let mut edge = service.edge("one").await;
    edge.open(1, "ann").await;
    edge.join(1, "lobby").await;
    edge.ask(1, 1, "message", r#"[{"room":"lobby","text":"hi"}]"#).await;
    let position = emitted_position(&edge.next_instruction().await);
    answer(&mut edge).await;
    edge.cut();
    service.stop().await;

    let service = Running::start_with(&flags).await;
    let mut edge = service.edge("one").await;
    let member = opened(1, "/chat", "ann", Some(&[("lobby", &position)]));
    edge.send(vec![member, all_announced()]).await;

    edge.expect_quiet(1, "lobby").await;
}

#[tokio::test]
async fn a_message_that_was_not_carried_out_is_when_it_comes_again_and_only_then() {
    let directory = tempfile::tempdir().unwrap();
    let service =
        Running::start_with(&[&format!("--chat-data-dir={}", directory.path().display())]).await;
    let message = |name, text: &str| {
        named(
            name,
            event(1, Some(1), "message", &format!(r#"[{{"room":"lobby","text":"{text}"}}]"#)),
        )
    };

    let mut edge =
        repeat(&service, [message(b'a', "a"), message(b'b', "b"), message(b'a', "a")]).await;

    for text in ["a", "b"] {
        assert!(edge.next().await.contains(&format!(r#""text":"{text}""#)));
        answer(&mut edge).await;
    }
    answer(&mut edge).await;
    edge.expect_quiet(1, "lobby").await;
}

#[tokio::test]
async fn what_may_be_gone_from_a_busy_log_is_not_logged_again() {
    let directory = tempfile::tempdir().unwrap();
    let directory = format!("--chat-data-dir={}", directory.path().display());
    let service = Running::start_with(&[&directory, "--chat-history-count-max=1"]).await;
    let message = r#"[{"room":"lobby","text":"hi"}]"#;
    let mut edge = service.edge("other").await;
    edge.open(1, "eve").await;
    edge.join(1, "lobby").await;
    for ack_id in 1..=2 {
        edge.ask(1, ack_id, "message", message).await;
        edge.next().await;
        answer(&mut edge).await;
    }

    let mut edge = repeat(&service, [named(b'm', event(1, Some(1), "message", message))]).await;

    let line = edge.next().await;
    assert!(line.starts_with(r#"ack 1/1 [{"error":{"code":"unavailable""#), "{line}");
}

#[tokio::test]
async fn whatever_else_is_repeated_is_carried_out_and_changes_nothing_that_is_so_already() {
    let service = Running::start_with(&["--chat-workers=1"]).await;
    let mut observer = service.edge("observer").await;
    observer.open(1, "eve").await;
    observer.join(1, "lobby").await;

    let mut edge = repeat(
        &service,
        [
            event(1, Some(1), "join", r#"["lobby"]"#),
            event(1, Some(2), "history", r#"[{"room":"lobby"}]"#),
            event(1, Some(3), "presence", r#"["lobby"]"#),
            event(1, Some(4), "typing", r#"[{"room":"lobby","typing":true}]"#),
            event(1, Some(5), "leave", r#"["attic"]"#),
        ],
    )
    .await;

    let users = r#"[{"id":"ann"},{"id":"eve"}]"#;
    edge.expect(&[
        &format!(r#"ack 1/1 [{{"room":"lobby","position":"P0","members":{users}}}]"#),
        r#"ack 1/2 [{"messages":[],"more":false}]"#,
        &format!(r#"ack 1/3 [{{"users":{users},"count":2}}]"#),
        "ack 1/4 [{}]",
        "leave [1] attic",
        r#"ack 1/5 [{"room":"attic"}]"#,
    ])
    .await;
    let typing = observer.next().await;
    assert!(typing.starts_with("emit to room lobby: typing "), "nobody has joined: {typing}");
    observer.expect_quiet(1, "lobby").await;
}

#[tokio::test]
async fn edges_are_told_what_need_not_wait_for_a_service_that_is_away() {
    let service = Running::start().await;
    let welcome = Edge::new("one").attach(&service).await;
    assert_eq!(welcome.volatile_events, ["typing"]);
}

#[tokio::test]
async fn its_edge_is_told_what_came_of_joining_and_leaving_unasked() {
    let service = Running::start().await;
    let mut edge = service.edge("one").await;
    edge.open(1, "ann").await;

    edge.send(vec![
        named(b'j', event(1, None, "join", r#"["lobby"]"#)),
        named(b'm', event(1, None, "message", r#"[{"room":"lobby","text":"hi"}]"#)),
        named(b'l', event(1, None, "leave", r#"["lobby"]"#)),
        named(b'a', event(1, Some(1), "leave", r#"["lobby"]"#)),
    ])
    .await;

    edge.expect(&["join [1] lobby P0", "handled j"]).await;
    assert!(edge.next().await.starts_with("emit to room lobby: message "), "its log tells");
    edge.expect(&["leave [1] lobby", "handled l"]).await;
    edge.expect(&["leave [1] lobby", r#"ack 1/1 [{"room":"lobby"}]"#]).await;
}
