//! Streams that break, and links that outlive them.

use proto::edge::v1::{BackendFrame, EdgeEvent, EdgeFrame, Hello};
use tonic::Code;

use crate::{
    edge::{Edge, all_announced, event, opened, within_deadline},
    running::Running,
};

#[tokio::test]
async fn nothing_is_lost_or_doubled_over_a_stream_that_breaks_again_and_again() {
    let service = Running::start().await;
    let mut edge = service.edge("one").await;
    edge.open(1, "ann").await;
    edge.join(1, "lobby").await;
    edge.confirms = false;

    let mut sent = 0;
    let mut seen = 0;
    while seen < 200 {
        // Some are written to a stream that is cut before anyone can know whether they have come, some wait for the next.
        for _ in 0..7 {
            if sent < 200 {
                edge.tell(1, "message", &format!(r#"[{{"room":"lobby","text":"{sent}"}}]"#)).await;
                sent += 1;
            }
            if sent % 4 == 0 {
                edge.cut();
            }
        }
        edge.cut();
        assert!(edge.attach(&service).await.resumed);
        while seen < sent.min(seen + 5) {
            let line = edge.next().await;
            assert!(line.contains(&format!(r#""text":"{seen}""#)), "{seen}: {line}");
            seen += 1;
        }
    }

    edge.wait_until_acknowledged().await;
    edge.expect_quiet(1, "lobby").await;
}

#[tokio::test]
async fn what_happens_while_a_link_is_down_arrives_when_it_is_up_again() {
    let service = Running::start().await;
    let mut edge = service.edge("one").await;
    let mut other = service.edge("two").await;
    edge.open(1, "ann").await;
    edge.join(1, "lobby").await;
    other.open(1, "bob").await;
    other.join(1, "lobby").await;
    edge.next().await;

    edge.cut();
    other.ask(1, 1, "message", r#"[{"room":"lobby","text":"hi"}]"#).await;
    other.wait_until_acknowledged().await;
    assert!(edge.attach(&service).await.resumed);

    let line = edge.next().await;
    assert!(line.contains(r#""text":"hi""#), "{line}");
    edge.expect_quiet(1, "lobby").await;
}

#[tokio::test]
async fn instructions_that_came_but_were_not_carried_out_come_again() {
    let service = Running::start().await;
    let mut edge = service.edge("one").await;
    edge.open(1, "ann").await;
    edge.join(1, "lobby").await;
    edge.ask(1, 1, "leave", r#"["lobby"]"#).await;
    let lost = numbered_frame(&mut edge).await;

    edge.cut();
    assert!(edge.attach(&service).await.resumed);

    let again = numbered_frame(&mut edge).await;
    assert_eq!((again.seq, again.instructions), (lost.seq, lost.instructions));
}

/// The next frame that does more than acknowledge.
async fn numbered_frame(edge: &mut Edge) -> BackendFrame {
    loop {
        let frame = within_deadline(edge.next_frame()).await.unwrap();
        if frame.seq > 0 {
            return frame;
        }
    }
}

#[tokio::test]
async fn a_newer_stream_of_a_link_replaces_the_older_one() {
    let service = Running::start().await;
    let mut old = service.edge("one").await;
    old.open(1, "ann").await;
    old.join(1, "lobby").await;

    let mut new = Edge::new("one");
    new.backend_id.clone_from(&old.backend_id);
    new.received = old.received;
    let hello = EdgeFrame { hello: Some(new.hello()), ..Default::default() };
    new.open_stream(&service, hello).await;

    let status = old.end().await;
    assert_eq!(status.code(), Code::Aborted, "{status}");
    let welcome = new.next_frame().await.unwrap().welcome.unwrap();
    assert!(welcome.resumed);
    assert_eq!(welcome.received, 2);
}

#[tokio::test]
async fn a_life_that_the_edge_never_heard_of_is_not_resumed() {
    let service = Running::start().await;
    let mut edge = service.edge("one").await;
    edge.cut();
    // Of this one's welcome the edge hears nothing.
    service.edge("one").await.cut();

    assert!(!edge.attach(&service).await.resumed);

    edge.open(1, "ann").await;
    edge.cut();
    assert!(edge.attach(&service).await.resumed);
}

#[tokio::test]
async fn frames_that_break_the_contract_end_the_stream() {
    let service = Running::start().await;
    let nameless = EdgeFrame { hello: Some(Hello::default()), ..Default::default() };
    for first in [EdgeFrame::default(), nameless] {
        let mut edge = Edge::new("one");
        edge.open_stream(&service, first).await;
        assert_eq!(edge.end().await.code(), Code::InvalidArgument);
    }

    let second_hello = EdgeFrame { hello: Some(Edge::new("one").hello()), ..Default::default() };
    let not_numbered = EdgeFrame { events: vec![event(1, None, "x", "[]")], ..Default::default() };
    let without_kind =
        EdgeFrame { seq: 1, events: vec![EdgeEvent::default()], ..Default::default() };
    let hole = EdgeFrame { seq: 2, ..Default::default() };
    let unsent = EdgeFrame { ack: 7, ..Default::default() };
    for (frame, still_known) in [
        (second_hello, false),
        (not_numbered, false),
        (without_kind, false),
        (hole, true),
        (unsent, false),
    ] {
        let mut edge = service.edge("one").await;
        edge.write(frame).await;
        assert_eq!(edge.end().await.code(), Code::InvalidArgument);
        edge.cut();
        assert_eq!(edge.attach(&service).await.resumed, still_known);
        edge.cut();
        edge.backend_id.clear();
    }
}

#[tokio::test]
async fn a_frame_that_comes_twice_counts_once() {
    let service = Running::start().await;
    let mut edge = service.edge("one").await;
    edge.open(1, "ann").await;
    edge.join(1, "lobby").await;
    let events = vec![event(1, Some(1), "message", r#"[{"room":"lobby","text":"hi"}]"#)];

    edge.send(events.clone()).await;
    edge.write(EdgeFrame { seq: 3, events, ..Default::default() }).await;

    edge.next().await;
    assert!(edge.next().await.starts_with("ack 1/1"));
    edge.expect_quiet(1, "lobby").await;
}

#[tokio::test]
async fn a_frame_is_acknowledged_even_when_nothing_comes_of_it() {
    let service = Running::start().await;
    let mut edge = service.edge("one").await;

    edge.send(Vec::new()).await;
    edge.wait_until_acknowledged().await;
    // A socket that was never opened, or is gone, has no say.
    edge.send(vec![event(7, Some(1), "join", r#"["lobby"]"#)]).await;
    edge.wait_until_acknowledged().await;
}

#[tokio::test]
async fn a_service_that_shuts_down_finishes_what_it_has_begun_and_ends_the_streams() {
    let service = Running::start().await;
    let mut edge = service.edge("one").await;
    edge.open(1, "ann").await;
    edge.ask(1, 1, "join", r#"["lobby"]"#).await;
    edge.wait_until_acknowledged().await;

    let stopped = tokio::spawn(service.stop());
    let status = edge.end().await;
    edge.cut();

    assert_eq!(status.code(), Code::Unavailable, "{status}");
    stopped.await.unwrap();
}

#[tokio::test]
async fn rooms_and_presence_are_there_again_after_a_restart() {
    // Outgoing connections, which share the port numbers, are from 127.0.0.1: the port is free again for the restart.
    let host = if cfg!(target_os = "linux") { "127.31.7.5" } else { "127.0.0.1" };
    let service = Running::start_with(&[&format!("--chat-listen={host}:0")]).await;
    let mut edge = service.edge("one").await;
    let mut other = service.edge("two").await;
    edge.open(1, "ann").await;
    other.open(1, "bob").await;
    edge.join(1, "lobby").await;
    other.join(1, "lobby").await;
    edge.next().await;

    edge.cut();
    other.cut();
    let service = service.restart().await;
    assert!(!edge.attach(&service).await.resumed);
    assert!(!other.attach(&service).await.resumed);
    edge.send(vec![opened(1, "/chat", "ann", Some(&[("lobby", "")])), all_announced()]).await;
    other.send(vec![opened(1, "/chat", "bob", Some(&[("lobby", "")])), all_announced()]).await;
    edge.wait_until_acknowledged().await;
    other.wait_until_acknowledged().await;

    edge.ask(1, 1, "presence", r#"["lobby"]"#).await;
    edge.expect(&[r#"ack 1/1 [{"users":[{"id":"ann"},{"id":"bob"}],"count":2}]"#]).await;
    other.tell(1, "message", r#"[{"room":"lobby","text":"hi"}]"#).await;
    assert!(edge.next().await.contains(r#""text":"hi""#));
    assert!(other.next().await.contains(r#""text":"hi""#));
}
