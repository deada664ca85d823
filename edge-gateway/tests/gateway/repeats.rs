//! What was in flight when a business service lost its state, or waits while there is none.

use std::collections::HashSet;

use proto::edge::v1::{Acknowledge, ClientEvent, Handled, Welcome, edge_event, instruction::Kind};

use crate::support::{Client, Edge, Stream};

const UNTIL_REFUSED: &str =
    r#"[{"error":{"code":"unavailable","message":"the service could not be reached; try again""#;

fn takes_repeats(backend_id: &str) -> Welcome {
    let backend_id = backend_id.to_owned();
    let volatile_events = vec!["typing".to_owned()];
    Welcome { backend_id, takes_repeats: true, volatile_events, ..Welcome::default() }
}

/// An edge with a client in front of a business service that takes repeats and acknowledges nothing.
async fn in_flight(flags: &[&str]) -> (Edge, Stream, Client, u64) {
    let mut edge = Edge::start(flags).await;
    let mut stream = edge.stream().await.welcome_with(takes_repeats("backend-1")).await;
    let (client, socket) = edge.in_chat(&mut stream, "alice").await;
    stream.acknowledges = false;
    (edge, stream, client, socket)
}

fn answer(socket: u64, ack_id: u64) -> Kind {
    Kind::Acknowledge(Acknowledge { socket, ack_id, args: "[]".into(), ..Acknowledge::default() })
}

async fn events(stream: &mut Stream, count: usize) -> Vec<ClientEvent> {
    let mut events = Vec::new();
    for _ in 0..count {
        events.push(stream.event().await.1);
    }
    events
}

fn names(events: &[ClientEvent]) -> Vec<&str> {
    events.iter().map(|event| event.name.as_str()).collect()
}

/// The next stream of the edge, before its welcome: until then, no business service is there.
async fn cut(edge: &mut Edge, stream: Stream) -> Stream {
    drop(stream);
    edge.stream().await
}

#[tokio::test]
async fn an_event_has_a_name_of_its_own_for_good() {
    let mut names = HashSet::new();
    for _ in 0..2 {
        let (_edge, mut stream, mut client, _) = in_flight(&[]).await;
        for _ in 0..3 {
            client.send(r#"42/chat,["x"]"#).await;
        }
        let sent = events(&mut stream, 3).await;
        assert!(sent.iter().all(|event| event.id.len() == 16 && !event.repeated));
        names.extend(sent.into_iter().map(|event| event.id));
    }
    assert_eq!(names.len(), 6, "also on another edge");
}

#[tokio::test]
async fn what_was_in_flight_is_sent_again_to_who_takes_repeats() {
    let (mut edge, mut stream, mut client, socket) = in_flight(&[]).await;
    client.send(r#"42/chat,1["first"]"#).await;
    client.send(r#"42/chat,["second"]"#).await;
    let sent = events(&mut stream, 2).await;
    let held = cut(&mut edge, stream).await;
    client.send(r#"42/chat,2["third"]"#).await;

    let mut stream = held.welcome_with(takes_repeats("backend-2")).await;

    assert!(stream.opened().await.1.announced);
    let again = events(&mut stream, 3).await;
    let repeated = |event: &ClientEvent| ClientEvent { repeated: true, ..event.clone() };
    assert_eq!(again[..2], sent.iter().map(repeated).collect::<Vec<_>>());
    assert_eq!((again[2].name.as_str(), again[2].repeated), ("third", false));
    assert!(again[..2].iter().all(|event| event.id != again[2].id));
    stream.instruct([answer(socket, 1), answer(socket, 1), answer(socket, 2)]).await;
    assert_eq!(client.text().await, "43/chat,1[]");
    assert_eq!(client.text().await, "43/chat,2[]", "each is answered once");
    // All edges of this test run count together.
    let metrics = crate::support::get(edge.ops, "/metrics").await;
    let line =
        metrics.lines().find_map(|line| line.strip_prefix("sockeye_edge_repeated_events_total "));
    assert!(line.unwrap().parse::<f64>().unwrap() >= 2.0, "{metrics}");
}

#[tokio::test]
async fn what_its_client_knows_the_outcome_of_is_not_sent_again() {
    let (mut edge, mut stream, mut client, socket) = in_flight(&[]).await;
    client.send(r#"42/chat,1["answered"]"#).await;
    client.send(r#"42/chat,2["not answered"]"#).await;
    events(&mut stream, 2).await;
    stream.instruct([answer(socket, 1)]).await;
    assert_eq!(client.text().await, "43/chat,1[]");

    let mut stream = cut(&mut edge, stream).await.welcome_with(takes_repeats("backend-2")).await;

    stream.opened().await;
    assert_eq!(stream.event().await.1.name, "not answered");
    client.send(r#"42/chat,["next"]"#).await;
    assert_eq!(stream.event().await.1.name, "next");
    stream.instruct([answer(socket, 1), answer(socket, 2)]).await;
    assert_eq!(client.text().await, "43/chat,2[]", "the first is not answered twice");
}

#[tokio::test]
async fn what_has_had_its_effects_unasked_does_not_undo_what_came_after() {
    let flags = ["--edge-events-per-second=1000000", "--edge-events-burst=1000000"];
    let (mut edge, mut stream, mut client, socket) = in_flight(&flags).await;
    // In a frame of its own, and nothing is acknowledged because of it.
    client.send(r#"42/chat,["slow"]"#).await;
    let mut sent = events(&mut stream, 1).await;
    // Some frames, in the middle of which is the one that counts.
    let burst: Vec<_> = (0..1000).map(|number| format!(r#"42/chat,["leave",{number}]"#)).collect();
    client.send_at_once(&burst.iter().map(String::as_str).collect::<Vec<_>>()).await;
    sent.extend(events(&mut stream, burst.len()).await);
    client.send(r#"42/chat,1["join"]"#).await;
    stream.event().await;
    let handled = sent.iter().filter(|event| event.name == "leave" && event.args != "[7]");
    let handled = handled.map(|event| Handled { event_id: event.id.clone() });
    stream.instruct(handled.map(Kind::Handled)).await;
    // Neither is one that the edge knows.
    for event_id in [vec![0; 16], vec![0xff; 16], vec![1], Vec::new()] {
        stream.instruct([Kind::Handled(Handled { event_id: event_id.into() })]).await;
    }
    stream.instruct([answer(socket, 1)]).await;
    assert_eq!(client.text().await, "43/chat,1[]");

    let mut stream = cut(&mut edge, stream).await.welcome_with(takes_repeats("backend-2")).await;

    assert!(stream.opened().await.1.announced);
    let again = events(&mut stream, 2).await;
    assert_eq!(names(&again), ["slow", "leave"]);
    assert_eq!(again[1].args, "[7]");
    client.send(r#"42/chat,["next"]"#).await;
    assert_eq!(stream.event().await.1.name, "next");
}

#[tokio::test]
async fn what_is_too_late_is_not_sent_again() {
    let (mut edge, mut stream, mut client, _) = in_flight(&["--edge-event-timeout=300ms"]).await;
    client.send(r#"42/chat,1["late"]"#).await;
    client.send(r#"42/chat,["late too"]"#).await;
    events(&mut stream, 2).await;
    let held = cut(&mut edge, stream).await;
    for _ in 0..2 {
        assert!(client.text().await.contains(r#""code":"unavailable""#));
    }

    let mut stream = held.welcome_with(takes_repeats("backend-2")).await;

    stream.opened().await;
    client.send(r#"42/chat,["in time"]"#).await;
    assert_eq!(stream.event().await.1.name, "in time");
}

#[tokio::test]
async fn what_a_socket_that_is_gone_had_sent_is_not_sent_again() {
    let (mut edge, mut stream, mut client, _) = in_flight(&[]).await;
    let mut other = edge.socket_io().await;
    other.send(r#"40/chat,{"token":"ok:bob"}"#).await;
    let (bob, _) = stream.opened().await;
    stream.instruct([Kind::Accept(proto::edge::v1::Accept { socket: bob })]).await;
    other.text().await;
    other.send(r#"42/chat,["of one who is gone"]"#).await;
    stream.event().await;
    client.send(r#"42/chat,["of one who is here"]"#).await;
    stream.event().await;
    other.send("41/chat,").await;
    assert_eq!(stream.closed().await.0, bob);

    let mut stream = cut(&mut edge, stream).await.welcome_with(takes_repeats("backend-2")).await;

    stream.opened().await;
    assert_eq!(stream.event().await.1.name, "of one who is here");
}

#[tokio::test]
async fn order_and_names_stay_through_one_life_after_another() {
    let (mut edge, mut stream, mut client, _) = in_flight(&[]).await;
    for name in ["a", "b", "c"] {
        client.send(&format!(r#"42/chat,["{name}"]"#)).await;
    }
    let sent = events(&mut stream, 3).await;
    let (received, sent_frames) = (stream.received, stream.sent);
    // The network is cut, and it is the same backend; then this one dies, and the next one too.
    let mut stream = cut(&mut edge, stream).await.resume(received, sent_frames).await;
    stream.acknowledges = false;
    client.send(r#"42/chat,["d"]"#).await;
    let d = stream.event().await.1;
    let held = cut(&mut edge, stream).await;
    client.send(r#"42/chat,["e"]"#).await;
    let mut stream = held.welcome_with(takes_repeats("backend-2")).await;
    stream.acknowledges = false;
    assert!(stream.opened().await.1.announced);
    stream.event().await;

    let mut stream = cut(&mut edge, stream).await.welcome_with(takes_repeats("backend-3")).await;

    assert!(stream.opened().await.1.announced);
    let again = events(&mut stream, 5).await;
    assert_eq!(names(&again), ["a", "b", "c", "d", "e"]);
    let ids: Vec<_> = sent.iter().chain([&d]).map(|event| event.id.clone()).collect();
    assert_eq!(again[..4].iter().map(|event| event.id.clone()).collect::<Vec<_>>(), ids);
    assert!(again[..4].iter().all(|event| event.repeated));
}

#[tokio::test]
async fn what_was_repeated_in_vain_is_answered_before_who_takes_no_repeats() {
    let (mut edge, mut stream, mut client, _) = in_flight(&[]).await;
    client.send(r#"42/chat,1["again and again"]"#).await;
    stream.event().await;
    let mut stream = cut(&mut edge, stream).await.welcome_with(takes_repeats("backend-2")).await;
    stream.acknowledges = false;
    stream.opened().await;
    assert_eq!(stream.event().await.1.name, "again and again");

    let mut stream = cut(&mut edge, stream).await.welcome("backend-3").await;

    assert!(client.text().await.starts_with(&format!("43/chat,1{UNTIL_REFUSED}")));
    stream.opened().await;
    client.send(r#"42/chat,["next"]"#).await;
    assert_eq!(stream.event().await.1.name, "next");
}

#[tokio::test]
async fn so_many_events_wait_for_a_backend_that_is_away_and_no_more() {
    const HELD_EVENTS_MAX: usize = 16_384;
    let flags = [
        "--edge-event-timeout=60s",
        "--edge-events-per-second=1000000",
        "--edge-events-burst=1000000",
    ];
    let (mut edge, stream, mut client, _) = in_flight(&flags).await;
    let (received, sent) = (stream.received, stream.sent);
    let held = cut(&mut edge, stream).await;
    let frames: Vec<_> =
        (0..HELD_EVENTS_MAX).map(|number| format!(r#"42/chat,["{number}"]"#)).collect();
    for chunk in frames.chunks(1024) {
        client.send_at_once(&chunk.iter().map(String::as_str).collect::<Vec<_>>()).await;
    }

    client.send(r#"42/chat,1["one too many"]"#).await;
    client.send(r#"42/chat,["another"]"#).await;

    assert!(client.text().await.starts_with(&format!("43/chat,1{UNTIL_REFUSED}")));
    assert!(
        client.text().await.starts_with(r#"42/chat,["exception",{"status":"error","code":"un"#)
    );
    let mut stream = held.resume(received, sent).await;
    for number in 0..HELD_EVENTS_MAX {
        assert_eq!(stream.event().await.1.name, number.to_string());
    }
    client.send(r#"42/chat,["there is room again"]"#).await;
    assert_eq!(stream.event().await.1.name, "there is room again");
}

#[tokio::test]
async fn so_many_bytes_wait_and_who_waited_for_room_is_answered_when_the_backend_goes() {
    let (mut edge, mut stream, mut client, _) = in_flight(&["--edge-event-timeout=60s"]).await;
    let padding = "x".repeat(900_000);
    // The fifth exceeds the bound, and has the connection wait.
    for number in 0..5 {
        client.send(&format!(r#"42/chat,["{number}","{padding}"]"#)).await;
        assert_eq!(stream.event().await.1.name, number.to_string());
    }
    client.send(r#"42/chat,1["one too many"]"#).await;

    let held = cut(&mut edge, stream).await;

    assert!(client.text().await.starts_with(&format!("43/chat,1{UNTIL_REFUSED}")));
    let mut stream = held.welcome_with(takes_repeats("backend-2")).await;
    stream.opened().await;
    for number in 0..5 {
        assert_eq!(stream.event().await.1.name, number.to_string());
    }
}

#[tokio::test]
async fn volatile_events_do_not_wait_for_a_backend_that_is_away() {
    let (mut edge, mut stream, mut client, _) = in_flight(&[]).await;
    client.send(r#"42/chat,["typing"]"#).await;
    assert_eq!(stream.event().await.1.name, "typing", "while it is there, they are like others");
    let (received, sent) = (stream.received, stream.sent);
    let held = cut(&mut edge, stream).await;

    client.send(r#"42/chat,["typing"]"#).await;
    client.send(r#"42/chat,1["typing"]"#).await;
    assert!(client.text().await.starts_with(&format!("43/chat,1{UNTIL_REFUSED}")));
    client.send(r#"42/chat,["not volatile"]"#).await;

    let mut stream = held.resume(received, sent).await;
    let event = stream.next().await;
    let Some(edge_event::Kind::Event(event)) = event.kind else { panic!("{event:?}") };
    assert_eq!(event.name, "not volatile");
}
