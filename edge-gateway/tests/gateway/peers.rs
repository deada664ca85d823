//! Two edges of a cluster: requests that arrive at the one for sessions that the other has.

mod certificates;
mod listener;
mod upgrade;

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use proto::edge::v1::{Acknowledge, Audience, Emit, instruction::Kind};
use tokio::{
    net::TcpListener,
    time::{self, Instant},
};

use crate::support::{
    DEADLINE, Edge, Stream, get,
    poller::{Poller, ok, respond, unknown_session},
};

const OWNER: [&str; 2] = ["--edge-number=2", "--edge-peer-listen=127.0.0.1:0"];

/// The edge that has the sessions, its business service, and another edge that knows it as number 2.
struct Pair {
    owner: Edge,
    stream: Stream,
    other: Edge,
}

impl Pair {
    async fn start(flags: &[&str]) -> Self {
        let (owner, stream) = Edge::attached(&[&OWNER[..], flags].concat()).await;
        let other = other_edge(owner.peers.unwrap(), flags).await;
        Self { owner, stream, other }
    }

    /// A client of the owner that is in `/chat`, the handle of its socket, and the same client as it comes to the other edge.
    async fn client(&mut self) -> (Poller, u64, Poller) {
        let client = Poller::open(&self.owner).await;
        let socket = client.enter_chat(&mut self.stream).await;
        let elsewhere = Poller::of(&self.other, &client.session);
        (client, socket, elsewhere)
    }
}

/// An edge with number 1 that finds edge 2 at this address.
async fn other_edge(peer: std::net::SocketAddr, flags: &[&str]) -> Edge {
    edge_with_peer(&format!("http://{peer}"), flags).await
}

/// An edge with number 1 that finds edge 2 there.
async fn edge_with_peer(peer: &str, flags: &[&str]) -> Edge {
    let peer = format!("--edge-peer=2={peer}");
    let own = ["--edge-number=1", "--edge-peer-listen=127.0.0.1:0", &peer];
    Edge::start(&[&own[..], flags].concat()).await
}

fn ack(socket: u64, ack_id: u64, args: String) -> Kind {
    let attachments = Vec::new();
    Kind::Acknowledge(Acknowledge { socket, ack_id, args: args.into(), attachments })
}

fn emit(socket: u64, event: &str, args: String) -> Kind {
    let audience =
        Audience { namespace: "/chat".to_owned(), sockets: vec![socket], ..Audience::default() };
    let (audience, event) = (Some(audience), event.to_owned());
    Kind::Emit(Emit { audience, event, args: args.into(), ..Emit::default() })
}

/// An id that names an edge and its first shard, and that nobody has.
fn forged_id(edge: u16) -> String {
    let mut bytes = [7; 36];
    [bytes[0], bytes[1]] = edge.to_be_bytes();
    // The first shard, and bound to nothing.
    [bytes[2], bytes[3]] = [0, 0];
    URL_SAFE_NO_PAD.encode(bytes)
}

#[tokio::test]
async fn a_session_is_reached_through_another_edge() {
    let mut pair = Pair::start(&[]).await;
    let (client, socket, elsewhere) = pair.client().await;

    for number in 0..20 {
        let ways = [&client, &elsewhere];
        let (posts, polls) = (ways[number % 2], ways[number / 2 % 2]);
        let placeholder = r#"{"_placeholder":true,"num":0}"#;
        let post = format!("451-/chat,{number}[\"{number}\",{placeholder}]\x1ebAQIDBA==");
        assert_eq!(posts.post(&post).await, ok());
        let (_, event) = pair.stream.event().await;
        assert_eq!((event.name, event.attachments.len()), (number.to_string(), 1));
        pair.stream.instruct([ack(socket, event.ack_id.unwrap(), format!("[{number}]"))]).await;
        assert_eq!(polls.get().await, (200, format!("43/chat,{number}[{number}]")));
    }
}

#[tokio::test]
async fn an_aborted_poll_at_another_edge_ends_the_session() {
    let mut pair = Pair::start(&[]).await;
    let (_, socket, elsewhere) = pair.client().await;

    let poll = elsewhere.begin("GET", "", 0).await;
    // Whoever is answered now comes after the poll has begun.
    Poller::open(&pair.other).await;
    assert!(poll.try_read(&mut [0]).is_err(), "nothing to say yet");
    drop(poll);

    assert_eq!(pair.stream.closed().await, (socket, "transport_closed".to_owned()));
    assert_eq!(elsewhere.get().await, unknown_session());
}

#[tokio::test]
async fn a_post_that_breaks_off_at_another_edge_ends_the_session() {
    let mut pair = Pair::start(&[]).await;
    let (_, socket, elsewhere) = pair.client().await;

    let post = elsewhere.begin("POST", "42/chat,[\"e\"]", 1).await;
    drop(post);

    assert_eq!(pair.stream.closed().await, (socket, "transport_closed".to_owned()));
    assert_eq!(elsewhere.get().await, unknown_session());
}

#[tokio::test]
async fn two_polls_at_two_edges_end_the_session() {
    let mut pair = Pair::start(&[]).await;
    let (client, socket, elsewhere) = pair.client().await;

    let (first, second) = tokio::join!(client.get(), elsewhere.get());

    let mut answers = [first, second];
    answers.sort();
    assert_eq!(answers, [(200, "1".to_owned()), (400, String::new())]);
    assert_eq!(pair.stream.closed().await, (socket, "protocol_violation".to_owned()));
}

#[tokio::test]
async fn many_aborted_polls_do_not_cost_others_theirs() {
    // A ping would answer the poll.
    let mut pair = Pair::start(&["--edge-ping-interval=1h"]).await;
    let (_, socket, elsewhere) = pair.client().await;
    let poll = elsewhere.get();
    let burst = async {
        for _ in 0..20 {
            let mut aborted = Vec::new();
            for _ in 0..20 {
                let session = Poller::open(&pair.owner).await.session;
                aborted.push(Poller::of(&pair.other, &session).begin("GET", "", 0).await);
            }
            drop(aborted);
        }
        pair.stream.instruct([emit(socket, "still there", "[]".to_owned())]).await;
    };

    let (answer, ()) = tokio::join!(poll, burst);

    assert_eq!(answer, (200, r#"42/chat,["still there"]"#.to_owned()));
}

#[tokio::test]
async fn however_many_polls_wait_a_post_gets_through() {
    // A ping or the end of a session would answer a poll.
    let pair = Pair::start(&["--edge-ping-interval=1h", "--edge-connect-timeout=1h"]).await;
    let mut waiting = Vec::new();
    for _ in 0..300 {
        let session = Poller::open(&pair.owner).await.session;
        waiting.push(Poller::of(&pair.other, &session).begin("GET", "", 0).await);
    }

    let client = Poller::open(&pair.owner).await;
    let elsewhere = Poller::of(&pair.other, &client.session);
    assert_eq!(elsewhere.post("3").await, ok());
    for poll in &waiting {
        assert!(poll.try_read(&mut [0]).is_err(), "nobody has been answered");
    }
}

#[tokio::test]
async fn a_post_that_is_too_large_is_judged_at_another_edge_as_well() {
    let mut pair = Pair::start(&["--edge-payload-bytes-max=1000"]).await;
    let (_, _, elsewhere) = pair.client().await;

    assert_eq!(elsewhere.post(&"4".repeat(1001)).await, (413, String::new()));
    assert_eq!(elsewhere.post("42/chat,[\"alive\"]").await, ok());
    assert_eq!(pair.stream.event().await.1.name, "alive");
}

#[tokio::test]
async fn the_owner_holds_posts_to_its_own_limit() {
    let (owner, mut stream) =
        Edge::attached(&[&OWNER[..], &["--edge-payload-bytes-max=1000"]].concat()).await;
    let other = other_edge(owner.peers.unwrap(), &[]).await;
    let client = Poller::open(&owner).await;
    client.enter_chat(&mut stream).await;
    let elsewhere = Poller::of(&other, &client.session);

    assert_eq!(elsewhere.post(&"4".repeat(1001)).await, (413, String::new()));
    assert_eq!(elsewhere.post("42/chat,[\"alive\"]").await, ok());
}

#[tokio::test]
async fn a_stranger_may_post_no_more_at_another_edge_than_at_its_own() {
    let mut pair = Pair::start(&["--edge-unauthenticated-payload-bytes-max=1000"]).await;
    let stranger = Poller::open(&pair.owner).await;
    let stranger = Poller::of(&pair.other, &stranger.session);
    let (_, socket, elsewhere) = pair.client().await;
    let large = format!("42/chat,[\"large\",\"{}\"]", "x".repeat(100_000));

    assert_eq!(stranger.post(&large).await.0, 413);

    assert_eq!(elsewhere.post(&large).await, ok());
    assert_eq!(pair.stream.event().await.0, socket);
}

#[tokio::test]
async fn an_answer_of_another_edge_may_be_as_large_as_an_outbox() {
    let mut pair = Pair::start(&["--edge-outbox-bytes-max=8000000"]).await;
    let (_, socket, elsewhere) = pair.client().await;
    let text = "x".repeat(1_000_000);

    for _ in 0..6 {
        pair.stream.instruct([emit(socket, "big", format!("[\"{text}\"]"))]).await;
    }
    pair.stream.instruct([emit(socket, "last", "[]".to_owned())]).await;

    let mut heard = String::new();
    while !heard.ends_with("[\"last\"]") {
        let (status, body) = elsewhere.get().await;
        assert_eq!(status, 200);
        heard.push_str(&body);
    }
    assert_eq!(heard.matches(&text).count(), 6);
}

#[tokio::test]
async fn an_edge_that_nobody_knows_is_not_asked() {
    let pair = Pair::start(&[]).await;

    // Of an unknown edge, of one that has no such session, and of one that has no such shard.
    for session in [forged_id(9), forged_id(2), forged_id(1)] {
        let client = Poller::of(&pair.other, &session);
        assert_eq!(client.get().await, unknown_session());
        assert_eq!(client.post("3").await, unknown_session());
        let websocket = format!("/socket.io/?EIO=4&transport=websocket&sid={session}");
        let url = format!("ws://{}{websocket}", pair.other.address);
        let refused = tokio_tungstenite::connect_async(url).await.unwrap_err();
        assert!(refused.to_string().contains("400"), "{refused}");
    }
    let metrics = get(pair.other.ops, "/metrics").await;
    assert!(metrics.contains("sockeye_edge_forwards_total{outcome=\"unknown_edge\"}"), "{metrics}");
}

#[tokio::test]
async fn while_an_edge_is_down_its_sessions_are_unknown_at_once() {
    let mut pair = Pair::start(&["--edge-drain-timeout=0s"]).await;
    let (_, _, elsewhere) = pair.client().await;
    let poll = async {
        let answer = elsewhere.get().await;
        assert_eq!(answer, (200, "1".to_owned()), "the last answer of an edge that is stopped");
    };
    tokio::join!(poll, async { pair.owner.stop() });
    pair.owner.stopped().await;

    let begun = Instant::now();
    for _ in 0..20 {
        assert_eq!(elsewhere.get().await, unknown_session());
        assert_eq!(elsewhere.post("3").await, unknown_session());
    }

    assert!(begun.elapsed() < DEADLINE / 2, "{:?}", begun.elapsed());
    let metrics = get(pair.other.ops, "/metrics").await;
    assert!(metrics.contains("sockeye_edge_forwards_total{outcome=\"unreachable\"}"), "{metrics}");
}

#[tokio::test]
async fn a_request_is_passed_on_once_and_no_further() {
    // Edge 1 takes edge 3 for edge 2, which edge 3 itself takes for somebody else.
    let somebody = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let elsewhere = format!("--edge-peer=2=http://{}", somebody.local_addr().unwrap());
    let flags = ["--edge-number=3", "--edge-peer-listen=127.0.0.1:0", &elsewhere];
    let (mistaken, _stream) = Edge::attached(&flags).await;
    let other = other_edge(mistaken.peers.unwrap(), &[]).await;
    let client = Poller::of(&other, &forged_id(2));

    assert_eq!(client.get().await, unknown_session());
    assert_eq!(client.post("3").await, unknown_session());

    let asked = time::timeout(Duration::from_millis(100), somebody.accept()).await;
    assert!(asked.is_err(), "{asked:?}");
    let metrics = get(other.ops, "/metrics").await;
    assert!(metrics.contains("sockeye_edge_forwards_total{outcome=\"misrouted\"}"), "{metrics}");
}

#[tokio::test]
async fn pages_are_told_once_that_they_may_read_an_answer_of_another_edge() {
    let mut pair = Pair::start(&["--edge-cors-origin=https://page.example"]).await;
    let (client, _, elsewhere) = pair.client().await;
    let from = |poller: &Poller, method: &str| {
        let mut request = poller.request(method, "3");
        request.headers_mut().insert("origin", "https://page.example".parse().unwrap());
        request
    };

    let direct = respond(pair.owner.address, from(&client, "POST")).await;
    let passed_on = respond(pair.other.address, from(&elsewhere, "POST")).await;

    let named = |answer: &http::Response<Bytes>| {
        let mut names: Vec<_> = answer.headers().iter().collect();
        names.retain(|(name, _)| *name != "date");
        names.iter().map(|(name, value)| format!("{name}: {value:?}")).collect::<Vec<_>>()
    };
    assert_eq!(named(&passed_on), named(&direct));
    assert_eq!(passed_on.headers()["access-control-allow-origin"], "https://page.example");
}

#[tokio::test]
async fn an_edge_that_is_stopped_gives_back_the_polls_it_held() {
    let mut pair = Pair::start(&[]).await;
    let (client, socket, elsewhere) = pair.client().await;
    let held = async {
        let answer = respond(pair.other.address, elsewhere.request("GET", "")).await;
        assert_eq!((answer.status().as_u16(), &answer.body()[..]), (200, &b"6"[..]));
        assert_eq!(answer.headers()["connection"], "close");
    };
    let stop = async {
        // Whoever is answered now comes after the poll has begun.
        for _ in 0..20 {
            Poller::open(&pair.other).await;
        }
        pair.other.stop();
    };

    tokio::join!(held, stop);
    pair.other.stopped().await;

    pair.stream.instruct([emit(socket, "still here", "[]".to_owned())]).await;
    assert_eq!(client.get().await, (200, r#"42/chat,["still here"]"#.to_owned()));
}
