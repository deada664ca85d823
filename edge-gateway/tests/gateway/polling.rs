//! Sessions on HTTP long-polling, and their way to a WebSocket.

use std::{collections::HashSet, pin::pin};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use proto::edge::v1::{Accept, Acknowledge, Audience, Emit, edge_event, instruction::Kind};
use tokio::io::AsyncWriteExt;
use tokio_tungstenite::tungstenite::Message;

use crate::support::{
    Edge, Stream, limit_hits,
    poller::{Poller, bad_request, ok, respond, unknown_session},
    within,
};

/// The shard that a session was opened on: the third byte of its id.
fn shard_of(client: &Poller) -> u8 {
    URL_SAFE_NO_PAD.decode(&client.session).unwrap()[2]
}

fn ack(socket: u64, ack_id: u64, args: &'static str) -> Kind {
    Kind::Acknowledge(Acknowledge { socket, ack_id, args: args.into(), ..Acknowledge::default() })
}

#[tokio::test]
async fn a_stranger_may_post_so_much_at_once_and_no_more() {
    let flags = ["--edge-unauthenticated-payload-bytes-max=1000", "--edge-shards=2"];
    let mut edge = Edge::start(&flags).await;
    let mut streams = Vec::new();
    for _ in 0..2 {
        streams.push(edge.stream().await.welcome("backend-1").await);
    }
    let before = limit_hits(edge.ops, "body_bytes").await;
    let client = Poller::open(&edge).await;
    let connect = r#"40/chat,{"token":"ok:alice","more":""}"#;
    let of_size = |bytes: usize| {
        connect.replace("\"\"", &format!("\"{}\"", "x".repeat(bytes - connect.len())))
    };

    for _ in 0..4 {
        assert_eq!(client.post(&of_size(1001)).await.0, 413, "at whatever shard");
    }
    assert!(limit_hits(edge.ops, "body_bytes").await >= before + 4);

    assert_eq!(client.post(&of_size(1000)).await, ok());
    let [one, other] = &mut streams[..] else { panic!("two shards") };
    let (stream, socket) = tokio::select! {
        opened = one.opened() => (&mut *one, opened.0),
        opened = other.opened() => (&mut *other, opened.0),
    };
    stream.instruct([Kind::Accept(Accept { socket })]).await;
    assert_eq!(client.get().await.0, 200);
    for _ in 0..4 {
        let event = format!(r#"42/chat,["large","{}"]"#, "x".repeat(100_000));
        assert_eq!(client.post(&event).await, ok());
        assert_eq!(stream.event().await.1.args.len(), 100_000 + r#"[""]"#.len());
    }
}

#[tokio::test]
async fn a_session_lives_on_polls_and_posts() {
    let (edge, mut stream) = Edge::attached(&[]).await;
    let client = Poller::open(&edge).await;
    let socket = client.enter_chat(&mut stream).await;

    assert_eq!(client.post("42/chat,1[\"a\"]\x1e42/chat,2[\"b\"]").await, ok());
    assert_eq!(stream.event().await.1.name, "a");
    assert_eq!(stream.event().await.1.name, "b");
    stream.instruct([ack(socket, 1, "[1]"), ack(socket, 2, "[2]")]).await;

    assert_eq!(client.get().await, (200, "43/chat,1[1]\x1e43/chat,2[2]".to_owned()));
}

#[tokio::test]
async fn binary_parts_are_base64_on_long_polling() {
    let (edge, mut stream) = Edge::attached(&[]).await;
    let client = Poller::open(&edge).await;
    let socket = client.enter_chat(&mut stream).await;
    let placeholder = r#"{"_placeholder":true,"num":0}"#;

    let post = format!("451-/chat,1[\"blob\",{placeholder}]\x1ebAQIDBA==");
    assert_eq!(client.post(&post).await, ok());
    let (_, event) = stream.event().await;
    assert_eq!(event.attachments, [&[1, 2, 3, 4][..]]);
    let ack = Acknowledge { socket, ack_id: 1, args: event.args, attachments: event.attachments };
    stream.instruct([Kind::Acknowledge(ack)]).await;

    let answer = format!("461-/chat,1[{placeholder}]\x1ebAQIDBA==");
    assert_eq!(client.get().await, (200, answer));
}

#[tokio::test]
async fn a_volatile_event_is_for_who_is_polling() {
    let (edge, mut stream) = Edge::attached(&[]).await;
    let client = Poller::open(&edge).await;
    let socket = client.enter_chat(&mut stream).await;
    let emit = |event: &str, volatile| {
        let chat = Audience { namespace: "/chat".to_owned(), ..Audience::default() };
        Kind::Emit(Emit {
            audience: Some(Audience { sockets: vec![socket], ..chat }),
            event: event.to_owned(),
            args: "[]".into(),
            volatile,
            ..Emit::default()
        })
    };

    stream.instruct([emit("too early", true), emit("kept", false), emit("behind it", true)]).await;
    stream.read_until(|stream| stream.acknowledged == stream.sent).await;
    assert_eq!(client.get().await, (200, r#"42/chat,["kept"]"#.to_owned()));

    // Until the poll has arrived.
    let mut poll = pin!(client.get());
    let (status, body) = loop {
        stream.instruct([emit("in time", true)]).await;
        tokio::select! {
            answer = &mut poll => break answer,
            () = stream.read_until(|stream| stream.acknowledged == stream.sent) => {}
        }
    };
    assert_eq!((status, body.as_str()), (200, r#"42/chat,["in time"]"#));
}

#[tokio::test]
async fn requests_find_their_session_on_whatever_shard_they_arrive() {
    let mut edge = Edge::start(&["--edge-shards=4"]).await;
    for _ in 0..4 {
        let stream = edge.stream().await.welcome("backend").await;
        tokio::spawn(accept_and_acknowledge(stream));
    }
    let client = Poller::open(&edge).await;
    assert_eq!(client.post(r#"40/chat,{"token":"ok:alice"}"#).await, ok());
    assert!(client.get().await.1.starts_with("40/chat,"));

    for id in 0..20 {
        assert_eq!(client.post(&format!("42/chat,{id}[\"e\"]")).await, ok());
        assert_eq!(client.get().await, (200, format!("43/chat,{id}[]")));
    }
    let mut websocket = client.websocket().await;
    websocket.send("2probe").await;
    assert_eq!(websocket.text().await, "3probe");
    websocket.send("5").await;
    websocket.send("42/chat,99[\"e\"]").await;
    assert_eq!(websocket.text().await, "43/chat,99[]");
}

async fn accept_and_acknowledge(mut stream: Stream) {
    loop {
        let event = stream.next().await;
        let socket = event.socket;
        match event.kind {
            Some(edge_event::Kind::Opened(_)) => {
                stream.instruct([Kind::Accept(Accept { socket })]).await;
            }
            Some(edge_event::Kind::Event(event)) => {
                stream.instruct([ack(socket, event.ack_id.unwrap(), "[]")]).await;
            }
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_waiting_poll_is_answered_with_a_ping() {
    let (edge, _stream) = Edge::attached(&["--edge-ping-interval=100ms"]).await;
    let client = Poller::open(&edge).await;

    assert_eq!(client.get().await, (200, "2".to_owned()));
    assert_eq!(client.post("3").await, ok());
    assert_eq!(client.get().await, (200, "2".to_owned()));
}

#[tokio::test]
async fn two_polls_at_once_end_the_session() {
    let (edge, _stream) = Edge::attached(&[]).await;
    let client = Poller::open(&edge).await;

    let (first, second) = tokio::join!(client.get(), client.get());

    let mut answers = [first, second];
    answers.sort();
    assert_eq!(answers, [(200, "1".to_owned()), (400, String::new())]);
    assert_eq!(client.get().await, unknown_session());
}

#[tokio::test]
async fn an_aborted_poll_ends_the_session() {
    let (edge, mut stream) = Edge::attached(&[]).await;
    let client = Poller::open(&edge).await;
    let socket = client.enter_chat(&mut stream).await;

    let poll = client.begin("GET", "", 0).await;
    // Whoever is answered now comes after the poll has begun.
    Poller::open(&edge).await;
    assert!(poll.try_read(&mut [0]).is_err(), "nothing to say yet");
    drop(poll);

    assert_eq!(stream.closed().await, (socket, "transport_closed".to_owned()));
    assert_eq!(client.get().await, unknown_session());
}

#[tokio::test]
async fn a_post_that_is_too_large_leaves_the_session_alone() {
    let (edge, _stream) = Edge::attached(&["--edge-payload-bytes-max=1000"]).await;
    let client = Poller::open(&edge).await;

    assert_eq!(client.post(&"4".repeat(1001)).await, (413, String::new()));

    let largest = format!("3{}", "x".repeat(999));
    assert_eq!(client.post(&largest).await, ok());
    assert_eq!(client.post("3").await, ok(), "the session lives on");
}

#[tokio::test]
async fn a_client_that_closes_has_its_poll_ended() {
    let (edge, mut stream) = Edge::attached(&[]).await;
    let client = Poller::open(&edge).await;
    let socket = client.enter_chat(&mut stream).await;

    let (poll, post) = tokio::join!(client.get(), async {
        client.post("3").await;
        client.post("1").await
    });

    assert_eq!((poll, post), ((200, "6".to_owned()), ok()));
    assert_eq!(stream.closed().await, (socket, "closed_by_client".to_owned()));
    assert_eq!(client.get().await, unknown_session());
}

#[tokio::test]
async fn polls_are_answered_when_the_edge_is_stopped() {
    // Again and again, as a request arrives on any shard.
    for _ in 0..5 {
        let edge = Edge::start(&["--edge-shards=4"]).await;
        let client = Poller::open(&edge).await;
        let poll = async {
            let answer = client.get().await;
            assert_eq!(answer, (200, "1".to_owned()));
        };
        let stop = async {
            // Whoever is answered now by the shard that has the poll comes after it.
            let mut answered = HashSet::new();
            while answered.len() < 4 {
                answered.insert(shard_of(&Poller::open(&edge).await));
            }
            edge.stop();
        };
        tokio::join!(poll, stop);
    }
}

#[tokio::test]
async fn an_upgrade_takes_everything_along() {
    let (edge, mut stream) = Edge::attached(&[]).await;
    let client = Poller::open(&edge).await;
    let socket = client.enter_chat(&mut stream).await;
    client.post("42/chat,1[\"a\"]\x1e42/chat,2[\"b\"]\x1e42/chat,3[\"c\"]").await;
    let mut websocket = client.websocket().await;

    let (poll, ()) = tokio::join!(client.get(), async {
        websocket.send("2probe").await;
        assert_eq!(websocket.text().await, "3probe");
    });
    assert_eq!(poll, (200, "6".to_owned()), "the poll makes room");
    stream.instruct([ack(socket, 1, "[1]"), ack(socket, 2, "[2]")]).await;
    websocket.send("5").await;
    assert_eq!(websocket.text().await, "43/chat,1[1]");
    assert_eq!(websocket.text().await, "43/chat,2[2]");

    stream.instruct([ack(socket, 3, "[3]")]).await;
    assert_eq!(websocket.text().await, "43/chat,3[3]");
    assert_eq!(client.get().await, bad_request());
    assert_eq!(client.post("3").await, bad_request());
    websocket.send("42/chat,[\"over\"]").await;
    for name in ["a", "b", "c", "over"] {
        assert_eq!(stream.event().await.1.name, name);
    }
}

#[tokio::test]
async fn a_websocket_that_says_something_else_is_closed_and_the_session_lives() {
    let (edge, mut stream) = Edge::attached(&[]).await;
    let client = Poller::open(&edge).await;
    client.enter_chat(&mut stream).await;

    for frame in ["2", "2x", "3probe", "42/chat,[\"e\"]", "abc", ""] {
        let mut websocket = client.websocket().await;
        websocket.send(frame).await;
        websocket.close_code().await;
    }
    let mut websocket = client.websocket().await;
    websocket.send_binary(b"\x01").await;
    websocket.close_code().await;

    client.post("42/chat,[\"alive\"]").await;
    assert_eq!(stream.event().await.1.name, "alive");
}

#[tokio::test]
async fn only_one_websocket_at_a_time_may_try_to_take_over() {
    let (edge, _stream) = Edge::attached(&[]).await;
    let client = Poller::open(&edge).await;
    let mut first = client.websocket().await;

    let mut second = client.websocket().await;
    second.stream.send(Message::text("2probe")).await.ok();
    assert_eq!(second.close_code().await, None);
    first.send("2probe").await;
    assert_eq!(first.text().await, "3probe");
}

#[tokio::test]
async fn an_upgrade_waits_for_the_end_of_a_post() {
    let (edge, mut stream) = Edge::attached(&[]).await;
    let client = Poller::open(&edge).await;
    client.enter_chat(&mut stream).await;
    let mut websocket = client.websocket().await;
    websocket.send("2probe").await;
    assert_eq!(websocket.text().await, "3probe");
    let mut post = client.begin("POST", "42/chat,[\"post\"]", 1).await;
    // Whoever is answered now comes after the post has begun.
    Poller::open(&edge).await;

    // In one write with what follows.
    websocket.stream.feed(Message::text("5")).await.unwrap();
    websocket.send("42/chat,[\"websocket\"]").await;
    Poller::open(&edge).await;
    post.write_all(b"]").await.unwrap();

    assert_eq!(stream.event().await.1.name, "post");
    assert_eq!(stream.event().await.1.name, "websocket");
    assert_eq!(client.get().await, bad_request());
}

#[tokio::test]
async fn a_post_of_many_packets_lets_others_have_their_turn() {
    let large = "--edge-unauthenticated-payload-bytes-max=1000000";
    let (edge, _stream) = Edge::attached(&[large]).await;
    let client = Poller::open(&edge).await;
    let mut other = edge.socket_io().await;
    let mut turn = async || {
        other.stream.send(Message::Ping(Bytes::new())).await.unwrap();
        let pong = within("a pong", other.stream.next()).await;
        assert!(matches!(pong, Some(Ok(Message::Pong(_)))), "{pong:?}");
    };
    let body = ["6"; 400_000].join("\x1e");
    let mut post = client.begin("POST", &body, 1).await;
    // Until the edge has read what there is.
    for _ in 0..100 {
        turn().await;
    }

    post.write_all(b"6").await.unwrap();

    let mut turns = 0;
    while post.try_read(&mut [0]).is_err() {
        turn().await;
        turns += 1;
    }
    assert!(turns > 2, "{turns} turns while 400 000 packets were taken");
}

#[tokio::test]
async fn a_session_on_a_websocket_cannot_be_taken_over() {
    let (edge, _stream) = Edge::attached(&[]).await;
    let mut victim = edge.websocket("/socket.io/?EIO=4&transport=websocket").await;
    let open: serde_json::Value =
        serde_json::from_str(victim.text().await.strip_prefix('0').unwrap()).unwrap();
    let session = open["sid"].as_str().unwrap().to_owned();

    let poller = Poller::of(&edge, &session);
    let mut second = poller.websocket().await;
    second.stream.send(Message::text("2probe")).await.ok();
    assert_eq!(second.close_code().await, None);
    assert_eq!(poller.get().await, bad_request());
}

#[tokio::test]
async fn pages_of_listed_origins_may_poll() {
    let (edge, _stream) = Edge::attached(&["--edge-cors-origin=https://page.example"]).await;
    let from = |origin: &str, method: &str| {
        let mut request = Poller::of(&edge, "").request(method, "");
        request.headers_mut().insert("origin", origin.parse().unwrap());
        request.headers_mut().insert("access-control-request-headers", "x-y".parse().unwrap());
        request
    };
    let allowed = respond(edge.address, from("https://page.example", "GET")).await;
    assert_eq!(allowed.headers()["access-control-allow-origin"], "https://page.example");
    assert_eq!(allowed.headers()["access-control-allow-credentials"], "true");
    assert_eq!(allowed.headers()["cache-control"], "no-store");
    let other = respond(edge.address, from("https://evil.example", "GET")).await;
    assert!(!other.headers().contains_key("access-control-allow-origin"));
    let preflight = respond(edge.address, from("https://page.example", "OPTIONS")).await;
    assert_eq!(preflight.status(), 204);
    assert_eq!(preflight.headers()["access-control-allow-headers"], "x-y");
}
