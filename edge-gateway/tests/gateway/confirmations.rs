//! Clients that have got what their rooms' logs gave them, and how business services hear of it.

use futures_util::StreamExt;
use proto::edge::v1::{
    Accept, Audience, Delivered, Emit, Join, Refill, Welcome, edge_event, instruction::Kind,
};
use tokio::io::AsyncReadExt;
use tokio_tungstenite::tungstenite::Message;

use crate::support::{Client, Edge, Stream, poller::Poller, within};

/// Whoever is to be asked is asked at once.
const FLAGS: [&str; 1] = ["--edge-confirm-interval=1ms"];

async fn welcome(edge: &mut Edge, backend_id: &str, namespaces: &[&str]) -> Stream {
    let welcome = Welcome {
        backend_id: backend_id.to_owned(),
        refills: true,
        delivery_reports: namespaces.iter().map(|&name| name.to_owned()).collect(),
        ..Welcome::default()
    };
    edge.stream().await.welcome_with(welcome).await
}

async fn start(flags: &[&str]) -> (Edge, Stream) {
    let mut edge = Edge::start(&[&FLAGS, flags].concat()).await;
    let stream = welcome(&mut edge, "backend-1", &["/chat"]).await;
    (edge, stream)
}

fn join(sockets: &[u64], position: &str) -> Kind {
    let (room, position) = ("lobby".to_owned(), position.to_owned());
    Kind::Join(Join { sockets: sockets.to_vec(), room, position })
}

fn entry(position: &str) -> Emit {
    Emit {
        event: "said".to_owned(),
        args: format!("[\"{position}\"]").into(),
        position: position.to_owned(),
        position_room: "lobby".to_owned(),
        ..Emit::default()
    }
}

fn say(position: &str) -> Kind {
    let rooms = vec!["lobby".to_owned()];
    let audience = Audience { namespace: "/chat".to_owned(), rooms, ..Audience::default() };
    Kind::Emit(Emit { audience: Some(audience), ..entry(position) })
}

fn said(position: &str) -> String {
    format!("42/chat,[\"said\",\"{position}\"]")
}

async fn delivered(stream: &mut Stream) -> Delivered {
    let event = stream.next().await;
    assert_eq!(event.socket, 0, "it belongs to no single socket");
    match event.kind {
        Some(edge_event::Kind::Delivered(delivered)) => delivered,
        kind => panic!("{kind:?}"),
    }
}

/// Waits for the next report, of these sockets up to this position.
async fn expect(stream: &mut Stream, sockets: &[u64], position: &str) {
    let mut delivered = delivered(stream).await;
    delivered.sockets.sort_unstable();
    assert_eq!((&*delivered.room, &*delivered.position), ("lobby", position));
    assert_eq!(delivered.sockets, sockets);
}

/// Reads up to the next ping, and leaves it unanswered.
async fn ping(client: &mut Client) -> Vec<String> {
    let mut before = Vec::new();
    loop {
        match client.text().await {
            text if text == "2" => return before,
            text => before.push(text),
        }
    }
}

#[tokio::test]
async fn a_client_has_got_what_was_sent_once_it_answers_a_ping_and_not_before() {
    let (edge, mut stream) = start(&[]).await;
    let (mut ann, ann_socket) = edge.in_chat(&mut stream, "ann").await;
    let (mut bob, bob_socket) = edge.in_chat(&mut stream, "bob").await;

    stream.instruct([join(&[ann_socket, bob_socket], "p1")]).await;
    for client in [&mut ann, &mut bob] {
        assert!(ping(client).await.is_empty());
        client.send("3").await;
    }
    let mut sockets = delivered(&mut stream).await.sockets;
    if sockets.len() < 2 {
        sockets.extend(delivered(&mut stream).await.sockets);
    }
    sockets.sort_unstable();
    assert_eq!(sockets, [ann_socket, bob_socket]);

    stream.instruct([say("p2"), say("p3")]).await;
    for client in [&mut ann, &mut bob] {
        assert_eq!(ping(client).await, [said("p2"), said("p3")]);
    }
    ann.send("3").await;
    expect(&mut stream, &[ann_socket], "p3").await;

    // Bob has read it, but does not say so.
    bob.stream.close(None).await.unwrap();
    assert_eq!(stream.closed().await.0, bob_socket);
}

#[tokio::test]
async fn a_pong_stands_for_what_was_sent_before_its_ping_and_no_more() {
    let (edge, mut stream) = start(&["--edge-ping-interval=1s"]).await;
    let (mut client, socket) = edge.in_chat(&mut stream, "ann").await;
    assert!(ping(&mut client).await.is_empty(), "the heartbeat's");

    stream.instruct([join(&[socket], "p1"), say("p2")]).await;
    assert_eq!(ping(&mut client).await, [said("p2")]);
    stream.instruct([say("p3")]).await;
    assert_eq!(client.text().await, said("p3"));

    // The answer to the first ping says nothing of what came after it.
    client.send_at_once(&["3", "42/chat,[\"hi\"]"]).await;
    assert_eq!(stream.event().await.1.name, "hi");
    client.send("3").await;
    expect(&mut stream, &[socket], "p2").await;
    loop {
        // Pings of the heartbeat may be among them.
        ping(&mut client).await;
        client.send_at_once(&["3", "42/chat,[\"hi\"]"]).await;
        let event = stream.next().await;
        if let Some(edge_event::Kind::Delivered(delivered)) = event.kind {
            assert_eq!((delivered.sockets, &*delivered.position), (vec![socket], "p3"));
            break;
        }
    }
}

#[tokio::test]
async fn a_client_that_polls_has_got_what_was_sent_once_it_polls_again() {
    let (edge, mut stream) = start(&[]).await;
    let client = Poller::open(&edge).await;
    let socket = client.enter_chat(&mut stream).await;

    stream.instruct([join(&[socket], "p1"), say("p2")]).await;
    assert_eq!(client.get().await, (200, said("p2")));
    // It has the answer, but the edge cannot know.
    client.post("42/chat,[\"hi\"]").await;
    assert_eq!(stream.event().await.1.name, "hi");

    let poll = client.begin("GET", "", 0).await;
    expect(&mut stream, &[socket], "p2").await;
    stream.instruct([say("p3")]).await;
    client.post("42/chat,[\"hi\"]").await;
    assert_eq!(stream.event().await.1.name, "hi", "its poll is over, and no other has come");
    drop(poll);
}

#[tokio::test]
async fn pings_of_the_websocket_ask_clients_that_know_no_others() {
    let (edge, mut stream) = start(&["--edge-allow-eio3"]).await;
    let (mut plain, plain_socket) = edge.json_in_chat(&mut stream, "ann").await;
    let older = "/socket.io/?EIO=3&transport=websocket&token=ok:bob";
    let mut older = edge.websocket(older).await;
    older.text().await;
    let (root, _) = stream.opened().await;
    stream.instruct([Kind::Accept(Accept { socket: root })]).await;
    assert_eq!(older.text().await, "40");
    older.send("40/chat").await;
    let (older_socket, _) = stream.opened().await;
    stream.instruct([Kind::Accept(Accept { socket: older_socket })]).await;
    assert_eq!(older.text().await, "40/chat,");

    for (client, socket) in [(&mut plain, plain_socket), (&mut older, older_socket)] {
        stream.instruct([join(&[socket], "p1")]).await;
        let frame = within("a ping", client.stream.next()).await.unwrap().unwrap();
        assert!(matches!(frame, Message::Ping(_)), "{frame:?}");
        // Reading on, the client answers it.
        let reading = async { within("a frame", client.stream.next()).await };
        tokio::select! {
            delivered = delivered(&mut stream) => {
                assert_eq!((delivered.sockets, &*delivered.position), (vec![socket], "p1"));
            }
            frame = reading => panic!("{frame:?}"),
        }
    }
}

#[tokio::test]
async fn clients_of_namespaces_that_nobody_asks_about_are_not_asked() {
    let mut edge = Edge::start(&FLAGS).await;
    let mut stream = welcome(&mut edge, "backend-1", &["/"]).await;
    let (mut ann, ann_socket) = edge.in_chat(&mut stream, "ann").await;
    let mut bob = edge.socket_io().await;
    bob.send(r#"40{"token":"ok:bob"}"#).await;
    let (bob_socket, _) = stream.opened().await;
    stream.instruct([Kind::Accept(Accept { socket: bob_socket })]).await;
    bob.text().await;

    stream.instruct([join(&[ann_socket], "p1"), say("p2"), join(&[bob_socket], "p7")]).await;
    assert!(ping(&mut bob).await.is_empty());
    bob.send("3").await;
    expect(&mut stream, &[bob_socket], "p7").await;

    // Whoever was to be asked with Bob has been asked.
    stream.instruct([say("p3")]).await;
    assert_eq!([ann.text().await, ann.text().await], [said("p2"), said("p3")]);
}

#[tokio::test]
async fn what_was_left_out_for_a_client_is_not_reported_until_it_was_given() {
    let (edge, mut stream) = start(&["--edge-outbox-bytes-max=100000"]).await;
    let client = Poller::open(&edge).await;
    let socket = client.enter_chat(&mut stream).await;
    let large = |position: &str| {
        let Kind::Emit(emit) = say(position) else { unreachable!() };
        Kind::Emit(Emit { args: format!("[\"{}\"]", "x".repeat(20_000)).into(), ..emit })
    };

    // The third is left out, as more than a quarter of the bound waits.
    stream.instruct([join(&[socket], "p0"), large("p1"), large("p2"), large("p3")]).await;
    let (_, body) = client.get().await;
    assert_eq!(body.matches("said").count(), 2);
    let event = stream.next().await;
    let Some(edge_event::Kind::CatchUp(catch_up)) = event.kind else { panic!("{event:?}") };
    assert_eq!(catch_up.position, "p2");
    let mut poll = client.begin("GET", "", 0).await;
    expect(&mut stream, &[socket], "p2").await;

    let refill = Refill {
        socket,
        room: "lobby".to_owned(),
        after: "p2".to_owned(),
        events: vec![entry("p3")],
        position: "p3".to_owned(),
        more: false,
    };
    stream.instruct([Kind::Refill(refill)]).await;
    // The poll that waited takes it, and the next one says so.
    let mut answer = String::new();
    while !answer.contains("p3") {
        let mut bytes = [0; 1024];
        let count = within("an answer", poll.read(&mut bytes)).await.unwrap();
        assert!(count > 0, "{answer}");
        answer.push_str(str::from_utf8(&bytes[..count]).unwrap());
    }
    let _poll = client.begin("GET", "", 0).await;
    expect(&mut stream, &[socket], "p3").await;
}

#[tokio::test]
async fn a_report_that_a_business_service_has_not_taken_reaches_its_next_life() {
    let (mut edge, mut stream) = start(&[]).await;
    let (mut client, socket) = edge.in_chat(&mut stream, "ann").await;
    stream.instruct([join(&[socket], "p1")]).await;
    ping(&mut client).await;
    stream.acknowledges = false;
    client.send("3").await;
    expect(&mut stream, &[socket], "p1").await;

    drop(stream);
    let mut stream = welcome(&mut edge, "backend-2", &["/chat"]).await;

    assert!(stream.opened().await.1.announced);
    expect(&mut stream, &[socket], "p1").await;
}

#[tokio::test]
async fn a_business_service_that_starts_anew_hears_of_all_who_are_here_without_a_message() {
    let (mut edge, mut stream) = start(&[]).await;
    let (mut ann, ann_socket) = edge.in_chat(&mut stream, "ann").await;
    let (mut bob, bob_socket) = edge.in_chat(&mut stream, "bob").await;
    stream.instruct([join(&[ann_socket], "p1")]).await;
    ping(&mut ann).await;
    ann.send("3").await;
    expect(&mut stream, &[ann_socket], "p1").await;
    stream.instruct([join(&[bob_socket], "p2")]).await;
    ping(&mut bob).await;
    bob.send("3").await;
    expect(&mut stream, &[bob_socket], "p2").await;
    stream.read_until(|stream| stream.acknowledged == stream.sent).await;

    drop(stream);
    let mut stream = welcome(&mut edge, "backend-2", &["/chat"]).await;
    for _ in 0..2 {
        assert!(stream.opened().await.1.announced);
    }
    ping(&mut ann).await;
    ann.send("3").await;
    expect(&mut stream, &[ann_socket], "p1").await;
    ping(&mut bob).await;
    bob.send("3").await;
    expect(&mut stream, &[bob_socket], "p2").await;

    // One that does not want to know has nobody asked.
    drop(stream);
    let mut stream = welcome(&mut edge, "backend-3", &[]).await;
    for _ in 0..2 {
        assert!(stream.opened().await.1.announced);
    }
    stream.instruct([say("p3")]).await;
    for client in [&mut ann, &mut bob] {
        assert_eq!(client.text().await, said("p3"));
    }
}

#[tokio::test]
async fn a_socket_without_its_client_has_got_nothing_until_that_is_back() {
    let terms = "[namespace.'/chat']\nrecovery = '1m'";
    let mut edge = Edge::start_with_terms(terms, &FLAGS).await;
    let mut stream = welcome(&mut edge, "backend-1", &["/chat"]).await;
    let mut client = edge.socket_io().await;
    client.send(r#"40/chat,{"token":"ok:ann"}"#).await;
    let (socket, _) = stream.opened().await;
    stream.instruct([Kind::Accept(Accept { socket }), join(&[socket], "p1")]).await;
    let connected = client.text().await;
    let names: serde_json::Value =
        serde_json::from_str(connected.strip_prefix("40/chat,").unwrap()).unwrap();
    ping(&mut client).await;
    client.send("3").await;
    expect(&mut stream, &[socket], "p1").await;
    client.stream.close(None).await.unwrap();
    let event = stream.next().await;
    assert!(matches!(event.kind, Some(edge_event::Kind::Suspended(_))), "{event:?}");

    stream.instruct([say("p2")]).await;
    stream.read_until(|stream| stream.acknowledged == stream.sent).await;
    let mut client = edge.socket_io().await;
    let pid = names["pid"].as_str().unwrap();
    client.send(&format!(r#"40/chat,{{"token":"ok:ann","pid":"{pid}"}}"#)).await;
    let event = stream.next().await;
    assert!(matches!(event.kind, Some(edge_event::Kind::Resumed(_))), "{event:?}");

    let missed = ping(&mut client).await;
    assert!(missed[0].starts_with("42/chat,[\"said\",\"p2\""), "{missed:?}");
    client.send("3").await;
    expect(&mut stream, &[socket], "p2").await;
}
