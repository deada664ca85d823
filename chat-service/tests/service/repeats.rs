//! Events that an earlier life of the service may have carried out.

use proto::edge::v1::EdgeEvent;

use crate::{
    edge::{Edge, all_announced, event, opened, repeated},
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
        "join [1] lobby P0",
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
