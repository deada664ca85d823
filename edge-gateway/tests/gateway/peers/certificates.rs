//! Edges that show each other certificates.

use std::net::SocketAddr;

use proto::peer::v1::{PollRequest, edge_peer_client::EdgePeerClient};
use service_kit::mutual_tls::HTTP_1;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::Code;

use super::{OWNER, Pair, ack, edge_with_peer, emit, forged_id};
use crate::support::{
    Edge, Stream,
    authority::{Authority, Certified},
    get,
    poller::{Poller, ok, unknown_session},
    within,
};

async fn owner(certified: &Certified) -> (Edge, Stream) {
    let files = certified.flags();
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    Edge::attached(&[&OWNER[..], &files].concat()).await
}

async fn other(peer: &str, certified: &Certified) -> Edge {
    let files = certified.flags();
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    edge_with_peer(peer, &files).await
}

#[tokio::test]
async fn edges_with_certificates_bring_each_other_what_a_session_needs() {
    let authority = Authority::new();
    let (owner, stream) = owner(&authority.certify("edge.sockeye.internal")).await;
    // Names are the same in capitals.
    let second = authority.certify("EDGE.sockeye.internal");
    let peer = format!("https://{}", owner.peers.unwrap());
    let other = other(&peer, &second).await;
    let mut pair = Pair { owner, stream, other };
    let (client, socket, elsewhere) = pair.client().await;
    let text = "x".repeat(500_000);

    for number in 0..10 {
        assert_eq!(elsewhere.post(&format!("42/chat,{number}[\"big\",\"{text}\"]")).await, ok());
        let (_, event) = pair.stream.event().await;
        assert!(event.args.len() >= text.len());
        pair.stream.instruct([ack(socket, event.ack_id.unwrap(), format!("[\"{text}\"]"))]).await;
        assert_eq!(elsewhere.get().await, (200, format!("43/chat,{number}[\"{text}\"]")));
    }

    let mut websocket = elsewhere.websocket().await;
    let (poll, ()) = tokio::join!(client.get(), async {
        websocket.send("2probe").await;
        assert_eq!(websocket.text().await, "3probe");
    });
    assert_eq!(poll, (200, "6".to_owned()), "the poll makes room");
    websocket.send("5").await;
    for number in 0..10 {
        websocket.send(&format!("42/chat,{number}[\"big\",\"{text}\"]")).await;
        assert!(pair.stream.event().await.1.args.len() >= text.len());
        pair.stream.instruct([emit(socket, "big", format!("[\"{text}\"]"))]).await;
        assert_eq!(websocket.text().await, format!("42/chat,[\"big\",\"{text}\"]"));
    }
    websocket.stream.close(None).await.unwrap();
    assert_eq!(pair.stream.closed().await, (socket, "closed_by_client".to_owned()));
    assert_eq!(websocket.close_code().await, Some(1000));
}

/// How a tunnel to a session of the edge is answered.
async fn tunnel(certified: &Certified, address: SocketAddr) -> String {
    let mut stream = certified.connect(address, HTTP_1).await.unwrap();
    let path = format!("/tunnel/{}", forged_id(2));
    let head = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\n");
    stream.write_all(format!("{head}Upgrade: sockeye-tunnel\r\n\r\n").as_bytes()).await.unwrap();
    let mut status = [0; 12];
    within("an answer", stream.read_exact(&mut status)).await.unwrap();
    String::from_utf8(status.to_vec()).unwrap()
}

#[tokio::test]
async fn only_edges_are_let_in_where_edges_call() {
    let authority = Authority::new();
    let edge = authority.certify("edge.sockeye.internal");
    let (owner, _stream) = owner(&edge).await;
    let address = owner.peers.unwrap();
    let poll = async |certified: &Certified| {
        let mut peer = EdgePeerClient::new(certified.channel(address).await);
        peer.poll(PollRequest { session: "no session".into() }).await.unwrap_err().code()
    };

    assert_eq!(poll(&edge).await, Code::InvalidArgument, "it is looked at");
    assert_eq!(tunnel(&edge, address).await, "HTTP/1.1 101");
    for name in ["backend.sockeye.internal", "admin.sockeye.internal", "edge.example"] {
        let caller = authority.certify(name);
        assert_eq!(poll(&caller).await, Code::PermissionDenied, "{name}");
        assert_eq!(tunnel(&caller, address).await, "HTTP/1.1 403", "{name}");
    }
    // Whoever speaks no TLS is cut off.
    let plain = other(&format!("http://{address}"), &authority.certify("plain.example")).await;
    let answer = Poller::of(&plain, &forged_id(2)).get().await;
    assert_eq!(answer, unknown_session());
    let metrics = get(plain.ops, "/metrics").await;
    assert!(metrics.contains("sockeye_edge_forwards_total{outcome=\"unreachable\"}"), "{metrics}");
}

#[tokio::test]
async fn an_edge_brings_nothing_to_whoever_is_not_that_edge() {
    let (ours, others) = (Authority::new(), Authority::new());
    let (impostor, mut stream) = owner(&others.certify("edge.sockeye.internal")).await;
    let client = Poller::open(&impostor).await;
    client.enter_chat(&mut stream).await;
    let peer = format!("https://{}", impostor.peers.unwrap());
    let other = other(&peer, &ours.certify("edge.sockeye.internal")).await;
    let elsewhere = Poller::of(&other, &client.session);

    assert_eq!(elsewhere.post("42/chat,[\"secret\"]").await, unknown_session());

    client.post("42/chat,[\"direct\"]").await;
    assert_eq!(stream.event().await.1.name, "direct");
}
