//! What one user and one tenant have on an edge and send to it, and how many bytes one connection sends.

use std::time::{Duration, Instant};

use futures_util::SinkExt;
use proto::edge::v1::{Accept, edge_event, instruction::Kind};
use tokio_tungstenite::tungstenite::Message;

use crate::support::{
    Client, Edge, Stream, limit_hits,
    poller::{Poller, ok},
};

const TOO_MANY: &str =
    r#"44/chat,{"message":"Too many sockets","data":{"code":"rate_limited","retryable":true}}"#;
const TERMS: &str = "[namespace.'/chat']\nrecovery = '1m'";
const NO_PINGS: &str = "--edge-ping-interval=1h";

/// A client that asks to be let in.
async fn asks(edge: &Edge, subject: &str) -> Client {
    let mut client = edge.socket_io().await;
    client.send(&format!("40/chat,{{\"token\":\"ok:{subject}\"}}")).await;
    client
}

/// One that is let in, and may come back.
async fn enter(edge: &Edge, stream: &mut Stream, subject: &str) -> (Client, u64) {
    let mut client = asks(edge, subject).await;
    let (socket, _) = stream.opened().await;
    stream.instruct([Kind::Accept(Accept { socket })]).await;
    assert!(client.packet().await.starts_with("40/chat,"));
    (client, socket)
}

async fn is_told_of_too_many(edge: &Edge, subject: &str) {
    assert_eq!(asks(edge, subject).await.packet().await, TOO_MANY);
}

async fn closes(client: Client, stream: &mut Stream) {
    drop(client);
    stream.closed().await;
}

/// An event of so many bytes with its name, which is `e`, and the answer that its client waits for.
fn event_of(bytes: usize, id: u64) -> String {
    format!("42/chat,{id}[\"e\",\"{}\"]", "x".repeat(bytes - 3))
}

async fn is_refused(client: &mut Client, id: u32) {
    let answer = client.packet().await;
    let expected = format!(r#"43/chat,{id}[{{"error":{{"code":"rate_limited""#);
    assert!(answer.starts_with(&expected), "{answer}");
}

#[tokio::test]
async fn a_user_has_so_many_sockets_and_no_more() {
    let (edge, mut stream) = Edge::attached(&["--edge-subject-sockets-max=2", NO_PINGS]).await;
    let (first, _) = edge.in_chat(&mut stream, "alice").await;
    let (_second, _) = edge.json_in_chat(&mut stream, "alice").await;

    is_told_of_too_many(&edge, "alice").await;
    let mut json = edge.websocket("/ws").await;
    json.send(r#"{"event":"auth","data":{"token":"ok:alice"},"id":1}"#).await;
    let answer = json.text().await;
    assert!(answer.contains(r#""code":"rate_limited""#), "{answer}");
    assert_eq!(json.close_code().await, Some(4006));
    assert!(limit_hits(edge.ops, "subject_sockets").await >= 2);

    let (_other, _) = edge.in_chat(&mut stream, "bob").await;
    let (_of_tenant, _) = edge.in_chat(&mut stream, "alice@t").await;
    closes(first, &mut stream).await;
    let (_third, _) = edge.in_chat(&mut stream, "alice").await;
    is_told_of_too_many(&edge, "alice").await;
}

#[tokio::test]
async fn sockets_of_a_user_count_on_whatever_shard_they_are() {
    let mut edge =
        Edge::start(&["--edge-subject-sockets-max=3", "--edge-shards=2", NO_PINGS]).await;
    let mut one = edge.stream().await.welcome("backend-1").await;
    let mut other = edge.stream().await.welcome("backend-1").await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut client = edge.socket_io().await;
        client.send("40/chat,{\"token\":\"ok:alice\"}").await;
        let (stream, socket) = tokio::select! {
            opened = one.opened() => (&mut one, opened.0),
            opened = other.opened() => (&mut other, opened.0),
        };
        stream.instruct([Kind::Accept(Accept { socket })]).await;
        assert!(client.packet().await.starts_with("40/chat,"));
        clients.push(client);
    }

    for _ in 0..8 {
        is_told_of_too_many(&edge, "alice").await;
    }
}

#[tokio::test]
async fn a_socket_that_waits_for_its_client_keeps_no_other_out() {
    let flags = ["--edge-subject-sockets-max=2", NO_PINGS];
    let (edge, mut stream) = Edge::with_terms(TERMS, &flags).await;
    let (lost, first) = enter(&edge, &mut stream, "alice").await;
    let (_there, second) = enter(&edge, &mut stream, "alice").await;
    let (others, _) = enter(&edge, &mut stream, "bob").await;
    for client in [lost, others] {
        drop(client);
        assert!(matches!(stream.next().await.kind, Some(edge_event::Kind::Suspended(_))));
    }

    let mut client = asks(&edge, "alice").await;

    assert_eq!(stream.closed().await, (first, "transport_closed".to_owned()));
    let (socket, _) = stream.opened().await;
    assert_ne!(socket, second);
    stream.instruct([Kind::Accept(Accept { socket })]).await;
    assert!(client.packet().await.starts_with("40/chat,"));
    assert!(limit_hits(edge.ops, "suspended_sockets").await >= 1);
    is_told_of_too_many(&edge, "alice").await;
}

#[tokio::test]
async fn sockets_that_wait_on_any_shard_keep_no_other_out() {
    let flags = ["--edge-subject-sockets-max=1", "--edge-shards=2", NO_PINGS];
    let mut edge = Edge::start_with_terms(TERMS, &flags).await;
    let mut streams = [
        edge.stream().await.welcome("backend-1").await,
        edge.stream().await.welcome("backend-1").await,
    ];
    let mut waits: Option<(usize, u64)> = None;
    for _ in 0..8 {
        let mut client = asks(&edge, "alice").await;
        let mut is_there = None;
        // Whichever shard it comes to, it is let in, and the one that waits goes.
        while waits.is_some() || is_there.is_none() {
            let [one, other] = &mut streams;
            let (at, event) = tokio::select! {
                event = one.next() => (0, event),
                event = other.next() => (1, event),
            };
            match event.kind {
                Some(edge_event::Kind::Opened(_)) => is_there = Some((at, event.socket)),
                Some(edge_event::Kind::Closed(_)) => {
                    assert_eq!(waits.take(), Some((at, event.socket)));
                }
                kind => panic!("{kind:?}"),
            }
        }
        let Some((at, socket)) = is_there else { unreachable!() };
        streams[at].instruct([Kind::Accept(Accept { socket })]).await;
        assert!(client.packet().await.starts_with("40/chat,"));
        drop(client);
        let event = streams[at].next().await;
        assert!(matches!(event.kind, Some(edge_event::Kind::Suspended(_))), "{event:?}");
        waits = is_there;
    }
}

#[tokio::test]
async fn a_tenant_has_so_many_sockets_and_no_more() {
    let (edge, mut stream) = Edge::attached(&["--edge-tenant-sockets-max=2", NO_PINGS]).await;
    let (first, _) = edge.in_chat(&mut stream, "alice@t").await;
    let (_second, _) = edge.in_chat(&mut stream, "bob@t").await;

    is_told_of_too_many(&edge, "carol@t").await;
    assert!(limit_hits(edge.ops, "tenant_sockets").await > 0);

    let (_other, _) = edge.in_chat(&mut stream, "carol@u").await;
    closes(first, &mut stream).await;
    let (_third, _) = edge.in_chat(&mut stream, "carol@t").await;
}

#[tokio::test]
async fn a_socket_that_waits_keeps_no_other_of_its_tenant_out() {
    let flags = ["--edge-tenant-sockets-max=2", NO_PINGS];
    let (edge, mut stream) = Edge::with_terms(TERMS, &flags).await;
    let (lost, first) = enter(&edge, &mut stream, "alice@t").await;
    let (others, _) = enter(&edge, &mut stream, "alice@u").await;
    let (_there, _) = enter(&edge, &mut stream, "bob@t").await;
    for client in [lost, others] {
        drop(client);
        assert!(matches!(stream.next().await.kind, Some(edge_event::Kind::Suspended(_))));
    }

    let (_client, _) = enter(&edge, &mut stream, "carol@t").await;

    assert_eq!(stream.closed().await, (first, "transport_closed".to_owned()));
    is_told_of_too_many(&edge, "alice@t").await;
}

#[tokio::test]
async fn a_socket_that_is_to_go_for_another_does_not_come_back() {
    let (edge, mut stream) =
        Edge::with_terms(TERMS, &["--edge-tenant-sockets-max=1", NO_PINGS]).await;
    let mut lost = asks(&edge, "alice@t").await;
    let (socket, _) = stream.opened().await;
    stream.instruct([Kind::Accept(Accept { socket })]).await;
    let connected = lost.packet().await;
    let (_, names) = connected.split_once(r#""pid":""#).unwrap();
    let (pid, _) = names.split_once('"').unwrap();
    drop(lost);
    assert!(matches!(stream.next().await.kind, Some(edge_event::Kind::Suspended(_))));
    // Those of a whole tenant are looked for at the next tick.
    let mut back = edge.socket_io().await;
    let (_other, _) = enter(&edge, &mut stream, "bob@t").await;

    back.send(&format!(r#"40/chat,{{"token":"ok:alice@t","pid":"{pid}"}}"#)).await;

    assert_eq!(back.packet().await, TOO_MANY);
    assert_eq!(stream.closed().await, (socket, "transport_closed".to_owned()));
}

#[tokio::test]
async fn all_sockets_of_a_user_or_a_tenant_send_so_many_events_and_no_more() {
    for (flag, others, limit) in [
        ("--edge-subject-events-per-second=1", ["alice@t", "bob@t"], "subject_events"),
        ("--edge-tenant-events-per-second=1", ["bob@t", "alice@u"], "tenant_events"),
    ] {
        let (edge, mut stream) = Edge::attached(&[flag, NO_PINGS]).await;
        let (mut first, _) = edge.in_chat(&mut stream, "alice@t").await;
        let [same, other] = others;
        let (mut same, _) = edge.in_chat(&mut stream, same).await;
        let (mut other, _) = edge.in_chat(&mut stream, other).await;

        for id in 0..2 {
            first.send(&event_of(10, id)).await;
            assert_eq!(stream.event().await.1.ack_id, Some(id));
        }
        same.send(&event_of(10, 2)).await;

        is_refused(&mut same, 2).await;
        other.send(&event_of(10, 3)).await;
        assert_eq!(stream.event().await.1.ack_id, Some(3), "{flag}");
        assert!(limit_hits(edge.ops, limit).await > 0);
    }
}

#[tokio::test]
async fn all_sockets_of_a_user_or_a_tenant_send_so_many_bytes_and_no_more() {
    for (flag, others, limit) in [
        ("--edge-subject-bytes-per-second=1000", ["alice@t", "bob@t"], "subject_bytes"),
        ("--edge-tenant-bytes-per-second=1000", ["bob@t", "alice@u"], "tenant_bytes"),
    ] {
        let flags = [flag, "--edge-payload-bytes-max=2000", NO_PINGS];
        let (edge, mut stream) = Edge::attached(&flags).await;
        let (mut first, _) = edge.in_chat(&mut stream, "alice@t").await;
        let [same, other] = others;
        let (mut same, _) = edge.in_chat(&mut stream, same).await;
        let (mut other, _) = edge.in_chat(&mut stream, other).await;

        first.send(&event_of(1900, 1)).await;
        assert_eq!(stream.event().await.1.ack_id, Some(1));
        same.send(&event_of(1900, 2)).await;

        is_refused(&mut same, 2).await;
        other.send(&event_of(1900, 3)).await;
        assert_eq!(stream.event().await.1.ack_id, Some(3), "{flag}");
        assert!(limit_hits(edge.ops, limit).await > 0);
    }
}

#[tokio::test]
async fn a_connection_sends_so_many_bytes_and_no_more() {
    let flags = ["--edge-bytes-per-second=2000", "--edge-payload-bytes-max=4000", NO_PINGS];
    let (edge, mut stream) = Edge::attached(&flags).await;
    let (mut client, _) = edge.in_chat(&mut stream, "alice").await;
    let begun = Instant::now();

    client.send(&event_of(3900, 1)).await;
    // What is no event counts as well.
    client.send(&format!("43/chat,1[\"{}\"]", "x".repeat(3900))).await;
    client.send(&event_of(3900, 2)).await;

    assert_eq!(stream.event().await.1.ack_id, Some(1));
    assert_eq!(stream.event().await.1.ack_id, Some(2));
    let earliest = Duration::from_millis((2 * 3900 - 4000) / 2);
    assert!(begun.elapsed() >= earliest, "{:?}", begun.elapsed());
    assert!(limit_hits(edge.ops, "bytes").await >= 1);
}

#[tokio::test]
async fn a_connection_that_is_not_read_for_a_while_keeps_no_other_waiting() {
    let flags = ["--edge-bytes-per-second=100", "--edge-payload-bytes-max=4000", NO_PINGS];
    let (edge, mut stream) = Edge::attached(&flags).await;
    let (mut client, _) = edge.in_chat(&mut stream, "alice").await;
    let (mut other, _) = edge.in_chat(&mut stream, "alice").await;

    for id in 1..=3 {
        client.send(&event_of(3900, id)).await;
    }
    assert_eq!(stream.event().await.1.ack_id, Some(1));
    assert_eq!(stream.event().await.1.ack_id, Some(2), "it is here");

    // The third is read half a minute later.
    other.send(&event_of(3900, 4)).await;
    assert_eq!(stream.event().await.1.ack_id, Some(4));
}

#[tokio::test]
async fn attachments_have_their_time_once_they_are_read_again() {
    let flags = [
        "--edge-bytes-per-second=2000",
        "--edge-payload-bytes-max=4000",
        "--edge-ping-timeout=300ms",
        NO_PINGS,
    ];
    let (edge, mut stream) = Edge::attached(&flags).await;
    let (mut client, _) = edge.in_chat(&mut stream, "alice").await;

    client.send(&event_of(3900, 1)).await;
    let padding = "x".repeat(1900);
    let begins = format!(r#"451-/chat,2["e","{padding}",{{"_placeholder":true,"num":0}}]"#);
    client.send(&begins).await;
    // It is read when the ping timeout has passed three times.
    client.send_binary(b"attached").await;
    let begun = Instant::now();

    assert_eq!(stream.event().await.1.ack_id, Some(1));
    assert_eq!(stream.event().await.1.attachments, ["attached"]);
    assert!(begun.elapsed() > Duration::from_millis(300), "it was not read for a while");
    client.send(r#"451-/chat,["e",{"_placeholder":true,"num":0}]"#).await;
    assert_eq!(client.close_code().await, Some(4500));
}

#[tokio::test]
async fn a_client_that_sends_as_fast_as_it_may_loses_nothing() {
    let flags = [
        "--edge-bytes-per-second=20000",
        "--edge-payload-bytes-max=10000",
        "--edge-events-burst=1000",
        NO_PINGS,
    ];
    let (edge, mut stream) = Edge::attached(&flags).await;
    let (mut client, _) = edge.in_chat(&mut stream, "alice").await;

    for id in 0..16 {
        client.send(&event_of(5000, id)).await;
    }

    for id in 0..16 {
        assert_eq!(stream.event().await.1.ack_id, Some(id));
    }
    assert!(limit_hits(edge.ops, "bytes").await >= 1);
    client.send(r#"42/chat,["still here"]"#).await;
    assert_eq!(stream.event().await.1.name, "still here");
}

#[tokio::test]
async fn frames_that_hold_nothing_count_as_bytes_too() {
    let flags = ["--edge-bytes-per-second=2000", "--edge-payload-bytes-max=4000", NO_PINGS];
    let (edge, mut stream) = Edge::attached(&flags).await;
    let (mut client, _) = edge.in_chat(&mut stream, "alice").await;
    let begun = Instant::now();

    // Six bytes each, with the key of their mask, and those of a message in pieces are no less.
    for _ in 0..900 {
        client.stream.feed(Message::Pong("".into())).await.unwrap();
    }
    client.stream.flush().await.unwrap();
    client.send(&event_of(100, 1)).await;

    assert_eq!(stream.event().await.1.ack_id, Some(1));
    let earliest = Duration::from_millis((6 * 900 - 4000) / 2);
    assert!(begun.elapsed() >= earliest, "{:?}", begun.elapsed());
}

/// A client on long-polling that is let in, and may send 2,000 bytes a second, 4,000 at once.
async fn slow_poller() -> (Edge, Stream, Poller) {
    let flags = ["--edge-bytes-per-second=2000", "--edge-payload-bytes-max=4000", NO_PINGS];
    let (edge, mut stream) = Edge::attached(&flags).await;
    let client = Poller::open(&edge).await;
    assert_eq!(client.post(r#"40/chat,{"token":"ok:alice"}"#).await, ok());
    let (socket, _) = stream.opened().await;
    stream.instruct([Kind::Accept(Accept { socket })]).await;
    assert_eq!(client.get().await.0, 200);
    (edge, stream, client)
}

#[tokio::test]
async fn posts_that_are_too_large_count_as_bytes_too() {
    let (_edge, _stream, client) = slow_poller().await;

    let begun = Instant::now();
    for _ in 0..2 {
        assert_eq!(client.post(&event_of(5000, 1)).await.0, 413);
    }

    let earliest = Duration::from_millis((2 * 4000 - 4000) / 2);
    assert!(begun.elapsed() >= earliest, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn posts_count_as_bytes_of_their_connection() {
    let (edge, mut stream, client) = slow_poller().await;

    let begun = Instant::now();
    assert_eq!(client.post(&event_of(3900, 1)).await, ok());
    assert_eq!(stream.event().await.1.ack_id, Some(1));
    assert_eq!(client.post(&event_of(3900, 2)).await, ok());

    let earliest = Duration::from_millis((2 * 3900 - 4000) / 2);
    assert!(begun.elapsed() >= earliest, "{:?}", begun.elapsed());
    assert_eq!(stream.event().await.1.ack_id, Some(2));
    assert!(limit_hits(edge.ops, "bytes").await >= 1);
}
