//! Devices that come back: from another edge, or after a restart of the service.

use proto::{
    chat::v1::{HistoryRequest, PublishRequest},
    edge::v1::edge_event::Kind,
};

use super::{inbox, note, notify, publish, start};
use crate::edge::{Edge, all_announced, catch_up, event, moved, opened, repeated};

#[tokio::test]
async fn the_same_subject_of_another_issuer_has_no_inbox() {
    let (service, _file) = start(&[]).await;
    let mut edge = service.edge("one").await;
    let mut stranger = opened(1, "/chat", "ann", None);
    let mut announced = opened(2, "/chat", "ann", Some(&[("@sub-ann", ""), ("lobby", "")]));
    for event in [&mut stranger, &mut announced] {
        let Some(Kind::Opened(opened)) = &mut event.kind else { panic!("{event:?}") };
        opened.identity.as_mut().unwrap().issuer = "elsewhere".to_owned();
    }

    edge.send(vec![announced, all_announced(), stranger]).await;
    edge.expect(&["leave [2] @sub-ann", "accept 1"]).await;
    edge.ask(1, 1, "join", r#"["@me"]"#).await;
    assert!(edge.next().await.contains("room: the user has no inbox here"));

    notify(&service, "ann", 1).await;
    edge.ask(2, 2, "presence", r#"["lobby"]"#).await;
    loop {
        let line = edge.next().await;
        assert!(!line.contains("note"), "{line}");
        if line.starts_with("ack 2/2 ") {
            return;
        }
    }
}

#[tokio::test]
async fn what_may_be_in_an_inbox_that_is_gone_is_not_kept_again() {
    let (service, _file) = start(&[]).await;
    let mut bob = Edge::new("one");
    bob.backend_id = "an earlier life".to_owned();
    bob.attach(&service).await;
    let mail = event(1, Some(1), "mail", r#"[{"user":"sub-ann","id":"m1","n":1}]"#);

    bob.send(vec![opened(1, "/chat", "bob", Some(&[])), all_announced(), repeated(mail)]).await;

    assert!(bob.next().await.starts_with(r#"ack 1/1 [{"error":{"code":"unavailable""#));
    assert_eq!(inbox(&service, "ann").await, [0; 0]);
}

#[tokio::test]
async fn the_devices_of_an_edge_go_on_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let directory = format!("--chat-data-dir={}", directory.path().display());
    let flags = [directory.as_str(), "--chat-durability=disk"];
    let (service, _file) = start(&flags).await;
    let first = publish(&service, note("ann", 1)).await.unwrap();
    assert_eq!(first.durability, "disk");
    notify(&service, "ann", 2).await;
    let elsewhere = PublishRequest { namespace: "/other".to_owned(), ..note("ann", 7) };
    assert_eq!(publish(&service, elsewhere).await.unwrap().durability, "memory");
    service.stop().await;

    let (service, _file) = start(&flags).await;
    let mut ann = service.edge("one").await;
    let rooms: &[(&str, &str)] = &[("@sub-ann", &first.position), ("@sub-bob", "")];
    ann.send(vec![opened(1, "/chat", "ann", Some(rooms)), all_announced()]).await;

    ann.expect(&[
        "leave [1] @sub-bob",
        r#"emit to room @sub-ann: note [{"room":"@me","id":"P0","event":"note","n":2,"at":T,"position":"P0"}] at @sub-ann P0"#,
    ])
    .await;
    assert_eq!(inbox(&service, "ann").await, [1, 2]);
    let of_other = HistoryRequest {
        namespace: "/other".to_owned(),
        inbox_of: "sub-ann".to_owned(),
        ..Default::default()
    };
    let page = service.chat().await.history(of_other).await.unwrap().into_inner();
    assert_eq!(page.entries, [], "it was in memory, and another inbox");
}

#[tokio::test]
async fn a_position_in_an_inbox_that_is_gone_is_noticed() {
    let (service, _file) = start(&[]).await;
    let before = notify(&service, "ann", 1).await;
    service.stop().await;
    let (service, _file) = start(&[]).await;
    let mut ann = service.edge("one").await;
    ann.open(1, "ann").await;

    ann.ask(1, 1, "join", &format!(r#"[{{"room":"@me","since":"{before}"}}]"#)).await;

    ann.expect(&[
        "join [1] @sub-ann P0",
        r#"ack 1/1 [{"room":"@me","position":"P0","members":[],"recovered":false,"messages":[]}]"#,
    ])
    .await;
}

#[tokio::test]
async fn a_device_that_did_not_keep_up_is_given_the_rest_or_told_of_a_gap() {
    let (service, _file) = start(&[]).await;
    let in_other = |n| PublishRequest { namespace: "/other".to_owned(), ..note("ann", n) };
    let mut ann = service.edge("one").await;
    ann.send(vec![opened(1, "/other", "ann", None)]).await;
    ann.expect(&["accept 1"]).await;
    ann.join(1, "@me").await;
    let mut positions = Vec::new();
    for n in 1..=3 {
        positions.push(publish(&service, in_other(n)).await.unwrap().position);
        assert!(ann.next().await.starts_with("emit to room @sub-ann in /other: note "));
    }

    ann.send(vec![catch_up(1, "@sub-ann", &positions[1], 1000)]).await;
    ann.expect(&[
        r#"refill 1 @sub-ann after P2: ["note [{\"room\":\"@me\",\"id\":\"P3\",\"event\":\"note\",\"n\":3,\"at\":T,\"position\":\"P3\"}] at P3"] to P3, more: false"#,
    ])
    .await;
    ann.send(vec![catch_up(1, "@sub-ann", &positions[0], 1000)]).await;
    let gap = ann.next().await;
    assert!(gap.contains(r#""code":"gap""#) && gap.contains(r#""room":"@me""#), "{gap}");
}

#[tokio::test]
async fn a_socket_that_moves_brings_its_own_inbox_along_and_no_other() {
    let (service, _file) = start(&[]).await;
    let mut ann = service.edge("one").await;
    ann.open(1, "ann").await;

    ann.send(vec![moved(1, "ann", &["@sub-ann", "@sub-bob"], &[])]).await;
    ann.expect(&["leave [1] @sub-bob"]).await;
    notify(&service, "bob", 1).await;
    notify(&service, "ann", 2).await;

    let line = ann.next().await;
    assert!(
        line.starts_with("emit to room @sub-ann: note ") && line.contains(r#""n":2"#),
        "{line}"
    );
}
