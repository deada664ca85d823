//! Clients whose edge is lost: the business service knows what they were.

use proto::edge::v1::{Recall, Recoverability, SocketOpened, Welcome};

use super::*;

const MEMORY: u32 = 0xab;

async fn start(memory: u32) -> (Edge, Stream) {
    let mut edge = Edge::start_with_terms(TERMS, &[]).await;
    let welcome = Welcome { backend_id: "backend-1".to_owned(), memory, ..Welcome::default() };
    let stream = edge.stream().await.welcome_with(welcome).await;
    (edge, stream)
}

fn logged(event: &str, position: &str) -> Kind {
    let (position, position_room) = (position.to_owned(), "a".to_owned());
    Kind::Emit(Emit { position, position_room, ..to_room("a", event) })
}

/// Alice, what her edge has told of her, and the offset of the last event that she has seen.
async fn seen_one() -> (Names, SocketOpened, String) {
    let (edge, mut stream) = start(MEMORY).await;
    let mut client = edge.socket_io().await;
    client.send(r#"40/chat,{"token":"ok:alice"}"#).await;
    let (socket, opened) = stream.opened().await;
    stream.instruct([Kind::Accept(Accept { socket })]).await;
    let names = Names::of(&client.packet().await);
    let elsewhere =
        Emit { position_room: "b".to_owned(), position: "q".to_owned(), ..to_room("b", "x") };
    stream.instruct([join(socket, "a"), logged("one", "p1"), Kind::Emit(elsewhere)]).await;
    stream.instruct([Kind::Emit(to_room("a", "not logged"))]).await;
    let (_, first) = next_event(&mut client).await;
    let (_, offset) = next_event(&mut client).await;
    assert!(first.ends_with(".ab.1") && offset.ends_with(".ab.2"), "{first} {offset}");
    (names, opened, offset)
}

#[tokio::test]
async fn a_client_that_no_edge_knows_goes_on_as_the_business_service_says() {
    let (names, before, offset) = seen_one().await;
    let Recoverability { key, window_ms } = before.recoverability.unwrap();
    assert_eq!((key.len(), window_ms), (32, 60_000));
    assert!(!names.pid.as_bytes().windows(4).any(|part| key.windows(4).any(|one| one == part)));

    let (edge, mut stream) = start(MEMORY + 1).await;
    let mut client = edge.socket_io().await;
    come_back(&mut client, "alice", &names, Some(&offset)).await;
    let (socket, opened) = stream.opened().await;
    let reentry = opened.reentry.unwrap();
    assert_eq!((&reentry.key, reentry.memory, reentry.delivered), (&key, MEMORY, 2));
    assert_ne!(opened.recoverability.unwrap().key, key);
    let recall = Recall { socket, socket_id: names.sid.clone() };
    stream.instruct([Kind::Recall(recall), join(socket, "a"), logged("two", "p2")]).await;

    assert_eq!(Names::of(&client.packet().await), names);
    let (name, offset) = next_event(&mut client).await;
    assert!(name == "two" && offset.ends_with(".ac.1"), "{offset}");

    drop(client);
    suspended(&mut stream).await;
    let mut client = edge.socket_io().await;
    come_back(&mut client, "alice", &names, Some(&offset)).await;
    assert_eq!(resumed(&mut stream).await, socket);
    assert_eq!(Names::of(&client.packet().await), names, "it is this edge's now");
}

#[tokio::test]
async fn a_client_that_the_business_service_does_not_know_is_a_new_socket() {
    let (names, _, offset) = seen_one().await;
    let (edge, mut stream) = start(MEMORY).await;
    let mut client = edge.socket_io().await;
    come_back(&mut client, "alice", &names, Some(&offset)).await;
    let (socket, opened) = stream.opened().await;
    assert!(opened.reentry.is_some());
    stream.instruct([Kind::Accept(Accept { socket })]).await;

    let fresh = Names::of(&client.packet().await);
    assert!(fresh.pid != names.pid && fresh.sid != names.sid);
}

#[tokio::test]
async fn nothing_is_asked_where_nothing_can_be_known() {
    let (names, _, offset) = seen_one().await;
    let (edge, mut stream) = start(0).await;
    let mut client = edge.socket_io().await;
    come_back(&mut client, "alice", &names, Some(&offset)).await;
    let (_, opened) = stream.opened().await;
    assert_eq!((opened.reentry, opened.recoverability), (None, None));

    let (edge, mut stream) = start(MEMORY).await;
    let mut clients = Vec::new();
    for offset in ["x-1", "x-1.ab", "x-1.0.1", "x-1.ab.y"] {
        let mut client = edge.socket_io().await;
        come_back(&mut client, "alice", &names, Some(offset)).await;
        let (_, opened) = stream.opened().await;
        assert_eq!(opened.reentry, None, "{offset}");
        clients.push(client);
    }
    let mut client = edge.socket_io().await;
    come_back(&mut client, "alice", &names, None).await;
    let reentry = stream.opened().await.1.reentry.unwrap();
    assert_eq!((reentry.memory, reentry.delivered), (0, 0), "it has seen nothing");
}

#[tokio::test]
async fn an_answer_that_nobody_asked_for_changes_nothing() {
    let (edge, mut stream) = start(MEMORY).await;
    let mut client = edge.socket_io().await;
    client.send(r#"40/chat,{"token":"ok:alice"}"#).await;
    let (socket, opened) = stream.opened().await;
    let recall = Recall { socket, socket_id: "another".to_owned() };
    stream.instruct([Kind::Recall(recall), Kind::Accept(Accept { socket })]).await;

    assert_eq!(Names::of(&client.packet().await).sid, opened.socket_id);
}
