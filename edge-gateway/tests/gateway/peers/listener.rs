//! The listener for other edges, as one that makes mistakes would use it.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use proto::peer::v1::{
    LeaveRequest, Left, PollRequest, PostPart, edge_peer_client::EdgePeerClient, post_part::Part,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tonic::Code;

use super::{OWNER, emit, forged_id};
use crate::support::{Edge, poller::Poller, within};

#[tokio::test]
async fn calls_that_are_cancelled_before_they_are_seen_do_not_cost_others_their_connection() {
    let (owner, mut stream) = Edge::attached(&OWNER).await;
    let client = Poller::open(&owner).await;
    let socket = client.enter_chat(&mut stream).await;
    let url = format!("http://{}", owner.peers.unwrap());
    let peer = EdgePeerClient::connect(url).await.unwrap();
    let poll = async |session: &str| {
        let session = URL_SAFE_NO_PAD.decode(session).unwrap().into();
        peer.clone().poll(PollRequest { session }).await
    };
    let burst = async {
        for turns in 0..40 {
            let unknown = forged_id(2);
            let calls = futures_util::future::join_all((0..60).map(|_| poll(&unknown)));
            let cancelled = async {
                // In some rounds enough for the calls to be written, and too few for the edge to read them.
                for _ in 0..turns {
                    tokio::task::yield_now().await;
                }
            };
            tokio::select! {
                biased;
                _ = calls => {}
                () = cancelled => {}
            }
        }
        stream.instruct([emit(socket, "still there", "[]".to_owned())]).await;
    };

    let (answer, ()) = tokio::join!(poll(&client.session), burst);

    let payload = answer.unwrap().into_inner().payload;
    assert_eq!(payload, r#"42/chat,["still there"]"#);
}

#[tokio::test]
async fn calls_that_make_no_sense_are_refused() {
    let (owner, mut stream) = Edge::attached(&OWNER).await;
    let client = Poller::open(&owner).await;
    let socket = client.enter_chat(&mut stream).await;
    let url = format!("http://{}", owner.peers.unwrap());
    let mut peer = EdgePeerClient::connect(url).await.unwrap();
    let id = |text: &str| Bytes::from(URL_SAFE_NO_PAD.decode(text).unwrap());
    let poll = |session| PollRequest { session };
    let part = |part| tokio_stream::once(PostPart { part: Some(part) });
    let leave = |left: Left| LeaveRequest { session: id(&client.session), left: left.into() };

    let code = peer.poll(poll(Bytes::from_static(b"short"))).await.unwrap_err().code();
    assert_eq!(code, Code::InvalidArgument);
    let code = peer.poll(poll(id(&forged_id(1)))).await.unwrap_err().code();
    assert_eq!(code, Code::FailedPrecondition);
    let code = peer.post(part(Part::Body("3".into()))).await.unwrap_err().code();
    assert_eq!(code, Code::InvalidArgument);
    let code = peer.leave(leave(Left::Unspecified)).await.unwrap_err().code();
    assert_eq!(code, Code::InvalidArgument);

    // A poll that lost its answer ends the session; one that is on long-polling has no WebSocket to close.
    peer.leave(leave(Left::Websocket)).await.unwrap();
    peer.leave(leave(Left::LostAnswer)).await.unwrap();
    assert_eq!(stream.closed().await, (socket, "transport_closed".to_owned()));
}

/// A call without a body, whose headers have so many bytes as HTTP/2 counts them: with 32 for each.
fn call_with_headers(bytes: usize) -> Vec<u8> {
    let path = b"/sockeye.peer.v1.EdgePeer/Poll";
    // `POST` and `http` of the static table, and the names of path and authority.
    let mut block = [&[0x83, 0x86, 0x04, 30][..], path, &[0x01, 1, b'a']].concat();
    let begun = (7 + 4 + 32) + (7 + 4 + 32) + (5 + 30 + 32) + (10 + 1 + 32);
    let mut rest = bytes - begun;
    while rest > 0 {
        // No more in one than a byte can tell, and enough left for another.
        let header = if rest > 150 { 100 } else { rest };
        let value = vec![b'v'; header - 33];
        block.extend([0, 1, b'n', u8::try_from(value.len()).unwrap()]);
        block.extend(value);
        rest -= header;
    }
    let length = u32::try_from(block.len()).unwrap().to_be_bytes();
    let headers = [&length[1..], &[1, 4 | 1, 0, 0, 0, 1], &block].concat();
    [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0", &headers[..]].concat()
}

#[tokio::test]
async fn a_call_of_an_edge_has_so_many_bytes_of_headers_and_no_more() {
    let (owner, _stream) = Edge::attached(&OWNER).await;
    let ask = async |bytes: usize| {
        let mut stream = TcpStream::connect(owner.peers.unwrap()).await.unwrap();
        stream.write_all(&call_with_headers(bytes)).await.unwrap();
        loop {
            let mut head = [0; 9];
            within("a frame", stream.read_exact(&mut head)).await.unwrap();
            let [high, middle, low, kind, ..] = head;
            let mut payload = vec![0; u32::from_be_bytes([0, high, middle, low]) as usize];
            within("its payload", stream.read_exact(&mut payload)).await.unwrap();
            if kind == 1 {
                // The status is the first of an answer's headers: 200 has a place in the static table.
                return payload[0] == 0x88;
            }
        }
    };

    assert!(ask(2 * 1024 - 1).await);
    assert!(!ask(2 * 1024).await);
}

#[tokio::test]
async fn only_a_session_of_this_edge_is_led_to_by_a_tunnel() {
    let (owner, _stream) = Edge::attached(&OWNER).await;
    let address = owner.peers.unwrap();
    let ask = async |path: &str, upgrade: &str| {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let head = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\n");
        stream.write_all(format!("{head}Upgrade: {upgrade}\r\n\r\n").as_bytes()).await.unwrap();
        let mut status = [0; 12];
        within("an answer", stream.read_exact(&mut status)).await.unwrap();
        String::from_utf8(status.to_vec()).unwrap()
    };

    let ours = format!("/tunnel/{}", forged_id(2));
    assert_eq!(ask(&ours, "sockeye-tunnel").await, "HTTP/1.1 101");
    assert_eq!(ask(&ours, "websocket").await, "HTTP/1.1 400");
    let foreign = format!("/tunnel/{}", forged_id(1));
    assert_eq!(ask(&foreign, "sockeye-tunnel").await, "HTTP/1.1 400");
    assert_eq!(ask("/tunnel/", "sockeye-tunnel").await, "HTTP/1.1 400");
}
