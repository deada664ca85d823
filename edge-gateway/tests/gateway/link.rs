//! The link to a business service: breaks, restarts, silence.

use proto::edge::v1::{
    AckRequest, Acknowledge, Audience, BackendFrame, Emit, Join, Membership, edge_event,
    instruction::Kind,
};
use tokio::time::Instant;

use crate::support::{Edge, Stream, status_becomes};

fn to_lobby(text: &str, position: &str) -> Kind {
    Kind::Emit(Emit {
        audience: Some(Audience {
            namespace: "/chat".to_owned(),
            rooms: vec!["lobby".to_owned()],
            ..Audience::default()
        }),
        event: text.to_owned(),
        args: "[]".into(),
        position: position.to_owned(),
        position_room: "lobby".to_owned(),
        ..Emit::default()
    })
}

fn mark(socket: u64) -> Emit {
    Emit {
        audience: Some(Audience {
            namespace: "/chat".to_owned(),
            sockets: vec![socket],
            ..Audience::default()
        }),
        event: "mark".to_owned(),
        args: "[]".into(),
        ..Emit::default()
    }
}

fn join(socket: u64) -> Kind {
    Kind::Join(Join { sockets: vec![socket], room: "lobby".to_owned(), position: "p0".to_owned() })
}

#[tokio::test]
async fn a_cut_stream_goes_on_where_it_broke_off() {
    let (mut edge, mut stream) = Edge::attached(&[]).await;
    let (mut client, socket) = edge.in_chat(&mut stream, "alice").await;
    stream.acknowledges = false;
    client.send(r#"42/chat,["one"]"#).await;
    assert_eq!(stream.event().await.1.name, "one");
    let one = stream.received;
    client.send(r#"42/chat,["two"]"#).await;
    assert_eq!(stream.event().await.1.name, "two");
    stream.instruct([join(socket), to_lobby("a", "p1")]).await;
    assert_eq!(client.text().await, r#"42/chat,["a"]"#);
    let sent = stream.sent;
    drop(stream);
    client.send(r#"42/chat,["three"]"#).await;

    let again = edge.stream().await;
    assert_eq!((again.hello.backend_id.as_str(), again.hello.received), ("backend-1", sent));
    let mut stream = again.resume(one, sent - 1).await;

    assert_eq!(stream.event().await.1.name, "two", "what was not received comes again");
    assert_eq!(stream.event().await.1.name, "three");
    stream.instruct([to_lobby("a", "p1")]).await;
    stream.instruct([to_lobby("b", "p2")]).await;
    assert_eq!(client.text().await, r#"42/chat,["b"]"#, "what was carried out is not done again");
}

#[tokio::test]
async fn a_backend_that_starts_anew_is_told_of_everyone() {
    let (mut edge, mut stream) = Edge::attached(&[]).await;
    let (mut client, socket) = edge.in_chat(&mut stream, "alice").await;
    stream.instruct([join(socket), to_lobby("a", "p1")]).await;
    client.text().await;
    let mut waits = edge.socket_io().await;
    waits.send(r#"40/chat,{"token":"ok:bob"}"#).await;
    stream.opened().await;
    stream.acknowledges = false;
    client.send(r#"42/chat,1["in flight"]"#).await;
    client.send(r#"42/chat,["in flight too"]"#).await;
    stream.event().await;
    stream.event().await;
    drop(stream);
    let held = edge.stream().await;
    client.send(r#"42/chat,2["unsent"]"#).await;

    let mut stream = held.welcome("backend-2").await;

    let mut opened = [stream.opened().await, stream.opened().await];
    opened.sort_by_key(|(socket, _)| *socket);
    let [(first, announced), (_, waiting)] = opened;
    assert_eq!((first, announced.announced, waiting.announced), (socket, true, false));
    let lobby = Membership { room: "lobby".to_owned(), position: "p1".to_owned() };
    assert_eq!(announced.memberships, [lobby]);
    assert_eq!(announced.identity.unwrap().subject, "alice");
    let (_, unsent) = stream.event().await;
    assert_eq!((unsent.name.as_str(), unsent.ack_id), ("unsent", Some(2)));

    let error = r#""code":"unavailable","message":"the service could not be reached; try again","retryable":true"#;
    assert_eq!(client.text().await, format!(r#"43/chat,1[{{"error":{{{error}}}}}]"#));
    assert_eq!(
        client.text().await,
        format!(r#"42/chat,["exception",{{"status":"error",{error}}}]"#)
    );

    stream.instruct([to_lobby("b", "p1")]).await;
    assert_eq!(client.text().await, r#"42/chat,["b"]"#, "it is still in its room");
}

#[tokio::test]
async fn what_was_received_and_never_handled_is_answered_when_its_backend_dies() {
    let (mut edge, mut stream) = Edge::attached(&[]).await;
    let (mut client, socket) = edge.in_chat(&mut stream, "alice").await;
    stream.acknowledges = false;
    client.send(r#"42/chat,["half done"]"#).await;
    stream.event().await;
    let (received, sent) = (stream.received, stream.sent);
    drop(stream);
    let mut stream = edge.stream().await.resume(received, sent).await;
    stream.acknowledges = false;
    stream.instruct([Kind::Emit(mark(socket))]).await;
    assert_eq!(client.text().await, r#"42/chat,["mark"]"#);
    client.send(r#"42/chat,["next"]"#).await;
    assert_eq!(stream.event().await.1.name, "next", "what was received is not sent again");
    drop(stream);

    let _stream = edge.stream().await.welcome("backend-2").await;

    for _ in 0..2 {
        assert!(client.text().await.contains(r#""code":"unavailable""#));
    }
}

#[tokio::test]
async fn what_comes_twice_still_acknowledges() {
    let (mut edge, mut stream) = Edge::attached(&[]).await;
    let (mut client, socket) = edge.in_chat(&mut stream, "alice").await;
    stream.acknowledges = false;
    client.send(r#"42/chat,["done"]"#).await;
    stream.event().await;

    let (seq, ack) = (stream.sent, stream.received);
    stream.send_frame(BackendFrame { seq, ack, ..BackendFrame::default() }).await;
    stream.instruct([Kind::Emit(mark(socket))]).await;
    assert_eq!(client.text().await, r#"42/chat,["mark"]"#);
    drop(stream);
    let mut stream = edge.stream().await.welcome("backend-2").await;
    stream.opened().await;

    stream.instruct([Kind::Emit(mark(socket))]).await;
    assert_eq!(client.text().await, r#"42/chat,["mark"]"#);
}

#[tokio::test]
async fn a_client_is_told_once_that_its_event_was_given_up() {
    let (mut edge, mut stream) = Edge::attached(&["--edge-event-timeout=2s"]).await;
    let (mut client, socket) = edge.in_chat(&mut stream, "alice").await;
    stream.acknowledges = false;
    client.send(r#"42/chat,["lost"]"#).await;
    stream.event().await;
    drop(stream);
    let held = edge.stream().await;
    assert!(client.text().await.contains(r#""code":"unavailable""#));

    let mut stream = held.welcome("backend-2").await;
    stream.opened().await;

    stream.instruct([Kind::Emit(mark(socket))]).await;
    assert_eq!(client.text().await, r#"42/chat,["mark"]"#);
}

#[tokio::test]
async fn answers_to_what_a_dead_backend_asked_reach_no_other() {
    let (mut edge, mut stream) = Edge::attached(&[]).await;
    let (mut client, socket) = edge.in_chat(&mut stream, "alice").await;
    let ask = Some(AckRequest { tag: 1, timeout_ms: 0 });
    stream.instruct([Kind::Emit(Emit { ask, ..mark(socket) })]).await;
    assert_eq!(client.text().await, r#"42/chat,1["mark"]"#);
    drop(stream);
    let mut stream = edge.stream().await.welcome("backend-2").await;
    assert!(stream.opened().await.1.announced);

    client.send("43/chat,1[]").await;
    client.send(r#"42/chat,["after"]"#).await;

    let event = stream.next().await;
    assert!(matches!(event.kind, Some(edge_event::Kind::Event(_))), "{event:?}");
}

#[tokio::test]
async fn who_comes_and_goes_during_an_outage_leaves_nothing_behind() {
    let (mut edge, mut stream) = Edge::attached(&["--edge-connect-timeout=2s"]).await;
    let (mut live, _) = edge.in_chat(&mut stream, "alice").await;
    let (received, sent) = (stream.received, stream.sent);
    drop(stream);
    let held = edge.stream().await;
    let mut clients = [edge.socket_io().await, edge.socket_io().await, edge.socket_io().await];
    for client in &mut clients {
        client.send(r#"40/chat,{"token":"ok:bob"}"#).await;
    }
    for client in &mut clients {
        assert_eq!(client.close_code().await, Some(4003));
    }
    live.send(r#"42/chat,["after"]"#).await;

    let mut stream = held.resume(received, sent).await;

    assert_eq!(stream.event().await.1.name, "after");
}

#[tokio::test]
async fn what_nobody_answers_in_time_is_answered_unavailable() {
    let mut edge = Edge::start(&["--edge-event-timeout=2s"]).await;
    let mut stream = edge.stream().await.welcome("backend-1").await;
    let (mut client, _) = edge.in_chat(&mut stream, "alice").await;

    client.send(r#"42/chat,1["ignored"]"#).await;
    let (_, event) = stream.event().await;
    assert_unavailable_ack(&client.text().await, 1);
    let late = Acknowledge {
        socket: 1,
        ack_id: event.ack_id.unwrap(),
        args: "[\"late\"]".into(),
        ..Acknowledge::default()
    };
    stream.instruct([Kind::Acknowledge(late)]).await;

    let (received, sent) = (stream.received, stream.sent);
    drop(stream);
    let hold = edge.stream().await;
    let asked_at = Instant::now();
    client.send(r#"42/chat,2["while down"]"#).await;
    client.send(r#"42/chat,["while down too"]"#).await;
    assert_unavailable_ack(&client.text().await, 2);
    let exception = client.text().await;
    assert!(exception.starts_with(r#"42/chat,["exception",{"status":"error","code":"unavail"#));
    assert!(asked_at.elapsed() < crate::support::DEADLINE);

    let mut stream = hold.resume(received, sent).await;
    client.send(r#"42/chat,["after"]"#).await;
    let (_, after) = stream.event().await;
    assert_eq!(after.name, "after", "what was given up is not sent late");
}

#[tokio::test]
async fn a_backend_that_leaves_out_a_frame_is_attached_to_again() {
    let (mut edge, mut stream) = Edge::attached(&[]).await;
    let (_client, _) = edge.in_chat(&mut stream, "alice").await;

    stream.sent += 1;
    stream.instruct([]).await;

    let again = edge.stream().await;
    assert_eq!(again.hello.received, 1);
}

#[tokio::test]
async fn frames_are_acknowledged_without_traffic_the_other_way() {
    let (_edge, mut stream) = Edge::attached(&[]).await;

    stream.instruct([]).await;

    stream.read_until(|stream| stream.acknowledged == 1).await;
}

#[tokio::test]
async fn readiness_follows_the_link() {
    let (mut edge, stream) = Edge::attached(&[]).await;
    status_becomes(edge.ops, "/readyz", 200).await;

    drop(stream);
    let held: Stream = edge.stream().await;
    status_becomes(edge.ops, "/readyz", 503).await;
    status_becomes(edge.ops, "/healthz", 200).await;

    let _stream = held.welcome("backend-2").await;
    status_becomes(edge.ops, "/readyz", 200).await;
}

fn assert_unavailable_ack(frame: &str, id: u64) {
    let expected = format!(r#"43/chat,{id}[{{"error":{{"code":"unavailable""#);
    assert!(frame.starts_with(&expected), "{frame}");
}
