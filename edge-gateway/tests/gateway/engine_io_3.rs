//! Clients of Socket.IO 2 over Engine.IO 3, byte by byte. What the stock one makes of it is tested in `tests/interop`.

use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use proto::edge::v1::{
    Accept, AckRequest, Acknowledge, Audience, ClientEvent, Disconnect, Emit, Refuse,
    instruction::Kind,
};

use crate::support::{Client, Edge, Stream, echo::Echo, poller};

const ALLOWED: &str = "--edge-allow-eio3";
const WEBSOCKET: &str = "/socket.io/?EIO=3&transport=websocket";
const PLACEHOLDER: &str = r#"{"_placeholder":true,"num":0}"#;

/// A client on long-polling.
struct Poller {
    edge: std::net::SocketAddr,
    /// The query of its requests.
    query: String,
}

/// Status, content type and body.
type Answer = (u16, String, Vec<u8>);

fn text(body: &str) -> Answer {
    (200, "text/plain; charset=UTF-8".to_owned(), body.as_bytes().to_vec())
}

fn ok() -> Answer {
    (200, "text/html; charset=utf-8".to_owned(), b"ok".to_vec())
}

impl Poller {
    async fn open(edge: &Edge, query: &str) -> Self {
        let mut client = Self { edge: edge.address, query: query.to_owned() };
        let (status, content_type, body) = client.get().await;
        assert_eq!((status, content_type.as_str()), (200, "text/plain; charset=UTF-8"));
        let body = String::from_utf8(body).unwrap();
        let (length, packet) = body.split_once(':').unwrap();
        assert_eq!(length, packet.len().to_string());
        let open: serde_json::Value =
            serde_json::from_str(packet.strip_prefix('0').unwrap()).unwrap();
        assert_eq!(open["upgrades"], serde_json::json!(["websocket"]));
        client.query = format!("{query}&sid={}", open["sid"].as_str().unwrap());
        client
    }

    async fn get(&self) -> Answer {
        self.request("GET", "text/plain", Bytes::new()).await
    }

    async fn post(&self, body: &str) -> Answer {
        self.request("POST", "text/plain;charset=UTF-8", body.to_owned().into()).await
    }

    async fn post_binary(&self, body: &[u8]) -> Answer {
        self.request("POST", "application/octet-stream", body.to_vec().into()).await
    }

    async fn request(&self, method: &str, content_type: &str, body: Bytes) -> Answer {
        let request = Request::builder()
            .method(method)
            .uri(format!("/socket.io/?{}", self.query))
            .header("host", self.edge.to_string())
            .header("content-type", content_type)
            .body(Full::from(body))
            .unwrap();
        let response = poller::respond(self.edge, request).await;
        let content_type = response.headers().get("content-type");
        let content_type = content_type.map_or("", |value| value.to_str().unwrap()).to_owned();
        (response.status().as_u16(), content_type, response.into_body().to_vec())
    }
}

/// Lets in the next socket, which must be that of `subject` in `namespace`.
async fn accept(stream: &mut Stream, namespace: &str, subject: &str) -> u64 {
    let (socket, opened) = stream.opened().await;
    assert_eq!(opened.namespace, namespace);
    assert_eq!(opened.identity.unwrap().subject, subject);
    stream.instruct([Kind::Accept(Accept { socket })]).await;
    socket
}

fn blob(attachment: &'static [u8]) -> (Bytes, Vec<Bytes>) {
    (format!("[{PLACEHOLDER}]").into(), vec![Bytes::from_static(attachment)])
}

async fn opened(edge: &Edge, path: &str) -> Client {
    let mut client = Client::connect(edge.address, path).await;
    let open = client.text().await;
    assert!(open.starts_with("0{\"sid\":\""), "{open}");
    client
}

#[tokio::test]
async fn a_client_is_taken_into_the_main_namespace_with_the_token_of_its_handshake() {
    let (edge, mut stream) = Edge::attached(&[ALLOWED]).await;
    let mut client = opened(&edge, "/socket.io/?token=ok%3Aalice&transport=websocket&EIO=3").await;

    accept(&mut stream, "/", "alice").await;
    assert_eq!(client.text().await, "40");
    client.send("40/chat").await;
    let socket = accept(&mut stream, "/chat", "alice").await;
    assert_eq!(client.text().await, "40/chat,");
    client.send("42/chat,7[\"e\",1]").await;

    assert_eq!(stream.event().await.0, socket);
    stream
        .instruct([Kind::Disconnect(Disconnect { sockets: vec![socket], close_connection: false })])
        .await;
    assert_eq!(client.text().await, "41/chat,");
}

#[tokio::test]
async fn a_namespace_may_have_a_token_of_its_own() {
    let (edge, mut stream) = Edge::attached(&[ALLOWED]).await;
    let mut client = opened(&edge, WEBSOCKET).await;
    assert_eq!(client.text().await, r#"44{"code":"unauthorized"}"#);

    // Longer than a namespace may be: its query does not count.
    let padding = "x".repeat(1000);
    client.send(&format!("40/chat?padding={padding}&token=ok%3abob,")).await;

    accept(&mut stream, "/chat", "bob").await;
    assert_eq!(client.text().await, "40/chat,");
    client.send("40/nope?token=ok:bob,").await;
    assert_eq!(client.text().await, r#"44/nope,{"message":"Invalid namespace"}"#);
}

#[tokio::test]
async fn a_refusal_is_one_value() {
    let (edge, mut stream) = Edge::attached(&[ALLOWED]).await;
    let mut client = opened(&edge, WEBSOCKET).await;
    client.text().await;

    for (data, refusal) in [("", r#""no way""#), (r#"{"a":1}"#, r#"{"a":1}"#)] {
        client.send("40/chat?token=ok:alice,").await;
        let (socket, _) = stream.opened().await;
        let (message, data) = ("no way".to_owned(), data.into());
        stream.instruct([Kind::Refuse(Refuse { socket, message, data })]).await;
        assert_eq!(client.text().await, format!("44/chat,{refusal}"));
    }
}

#[tokio::test]
async fn bytes_have_the_form_that_the_client_takes() {
    let (edge, mut stream) = Edge::attached(&[ALLOWED]).await;
    let (args, attachments) = blob(b"\x01\x02\xff");
    let mut clients = Vec::new();
    for path in [WEBSOCKET.to_owned(), format!("{WEBSOCKET}&b64=1")] {
        let takes_bytes = !path.ends_with("b64=1");
        let mut client = opened(&edge, &path).await;
        client.text().await;
        client.send("40/chat?token=ok:alice,").await;
        let socket = accept(&mut stream, "/chat", "alice").await;
        client.text().await;

        client.send(&format!("451-/chat,3[\"e\",{PLACEHOLDER}]")).await;
        if takes_bytes {
            client.send_binary(b"\x04\x01\x02\xff").await;
        } else {
            client.send("b4AQL/").await;
        }
        let (_, ClientEvent { attachments: sent, .. }) = stream.event().await;
        assert_eq!(sent, attachments);
        let ask = AckRequest { tag: 1, timeout_ms: 0 };
        let audience = Audience {
            namespace: "/chat".to_owned(),
            sockets: vec![socket],
            ..Audience::default()
        };
        let (args, attachments) = (args.clone(), attachments.clone());
        stream
            .instruct([
                Kind::Acknowledge(Acknowledge {
                    socket,
                    ack_id: 3,
                    args: args.clone(),
                    attachments: attachments.clone(),
                }),
                Kind::Emit(Emit {
                    audience: Some(audience),
                    event: "q".to_owned(),
                    args,
                    attachments,
                    ask: Some(ask),
                    ..Emit::default()
                }),
            ])
            .await;

        let first = format!("461-/chat,3[{PLACEHOLDER}]");
        for expected in [first, format!("451-/chat,1[\"q\",{PLACEHOLDER}]")] {
            assert!(client.text().await.starts_with(&expected[..7]));
            if takes_bytes {
                assert_eq!(client.binary().await, &b"\x04\x01\x02\xff"[..]);
            } else {
                assert_eq!(client.text().await, "b4AQL/");
            }
        }
        // Its end would be another event.
        clients.push(client);
    }
}

#[tokio::test]
async fn packets_have_their_lengths_in_bodies() {
    let (edge, mut stream) = Edge::attached(&[ALLOWED, "--edge-shards=1"]).await;
    let client = Poller::open(&edge, "EIO=3&transport=polling&token=ok:alice").await;
    accept(&mut stream, "/", "alice").await;
    assert_eq!(client.get().await, text("2:40"));

    assert_eq!(client.post("16:421[\"e\",\"é…😀x\"]").await, ok());
    let (socket, event) = stream.event().await;
    assert_eq!(event.args, Bytes::from("[\"é…😀x\"]"));
    let answer = Acknowledge { socket, ack_id: 1, args: event.args, attachments: Vec::new() };
    stream.instruct([Kind::Acknowledge(answer)]).await;
    assert_eq!(client.get().await, text("12:431[\"é…😀x\"]"));

    let mut body = b"\0\x04\x00\xff451-2[\"e\",{\"_placeholder\":true,\"num\":0}]".to_vec();
    body.extend(b"\x01\x04\xff\x04\x01\x02\xff");
    assert_eq!(client.post_binary(&body).await, ok());
    let (_, event) = stream.event().await;
    assert_eq!(event.attachments, [&b"\x01\x02\xff"[..]]);
    let ClientEvent { args, attachments, .. } = event;
    let answer = Acknowledge { socket, ack_id: 2, args, attachments };
    stream.instruct([Kind::Acknowledge(answer)]).await;
    let mut expected = b"\0\x03\x06\xff461-2[{\"_placeholder\":true,\"num\":0}]".to_vec();
    expected.extend(b"\x01\x04\xff\x04\x01\x02\xff");
    assert_eq!(client.get().await, (200, "application/octet-stream".to_owned(), expected));

    assert_eq!(client.post("1:2").await, ok());
    assert_eq!(client.get().await, text("1:3"));
    assert_eq!(client.post("1:1").await, ok());
    assert_eq!(stream.closed().await, (socket, "closed_by_client".to_owned()));
    assert_eq!(client.get().await, text("1:6"));
}

#[tokio::test]
async fn a_body_that_cannot_be_read_ends_the_session() {
    let (edge, _stream) = Edge::attached(&[ALLOWED]).await;
    for body in ["abc", "", "3:40", "1:3"] {
        let client = Poller::open(&edge, "EIO=3&transport=polling").await;

        assert_eq!(client.post(body).await.0, 200);

        assert_eq!(client.get().await.0, 400, "{body}");
    }
}

#[tokio::test]
async fn an_upgrade_that_says_another_revision_is_refused() {
    let flags = [ALLOWED, "--edge-number=2", "--edge-peer-listen=127.0.0.1:0"];
    let (edge, _stream) = Edge::attached(&flags).await;
    let peer = format!("--edge-peer=2=http://{}", edge.peers.unwrap());
    let own = [ALLOWED, "--edge-number=1", "--edge-peer-listen=127.0.0.1:0", &peer];
    let other = Edge::start(&own).await;
    let older = Poller::open(&edge, "EIO=3&transport=polling").await;
    let older = older.query.rsplit_once("sid=").unwrap().1.to_owned();
    let newer = poller::Poller::open(&edge).await.session;

    for at in [edge.address, other.address] {
        for (session, eio, status) in [
            (&older, "&EIO=4", 400),
            (&newer, "&EIO=3", 400),
            (&newer, "", 400),
            (&newer, "&EIO=5", 400),
            (&older, "", 101),
            (&newer, "&EIO=4", 101),
        ] {
            let answer =
                upgrade_status(at, &format!("transport=websocket&sid={session}{eio}")).await;
            assert_eq!(answer, status, "{eio} at {at}");
        }
    }
}

/// The status of the answer to a handshake, whose connection ends with that.
async fn upgrade_status(at: std::net::SocketAddr, query: &str) -> u16 {
    let request = Request::builder()
        .uri(format!("/socket.io/?{query}"))
        .header("host", at.to_string())
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .body(Full::default())
        .unwrap();
    poller::respond(at, request).await.status().as_u16()
}

#[tokio::test]
async fn a_client_that_does_not_ping_is_given_up() {
    let flags = [ALLOWED, "--edge-ping-interval=1s", "--edge-ping-timeout=2s"];
    let (edge, mut stream) = Edge::attached(&flags).await;
    let mut client = opened(&edge, "/socket.io/?EIO=3&transport=websocket&token=ok:alice").await;
    let socket = accept(&mut stream, "/", "alice").await;
    assert_eq!(client.text().await, "40");

    client.send("2").await;
    assert_eq!(client.text().await, "3");

    // It is never pinged before.
    assert_eq!(client.until_its_end().await, (Vec::new(), Some(4002)));
    assert_eq!(stream.closed().await, (socket, "ping_timeout".to_owned()));
}

#[tokio::test]
async fn a_pong_or_bytes_of_version_4_close_the_connection() {
    let (edge, _stream) = Edge::attached(&[ALLOWED]).await;
    for is_pong in [true, false] {
        let mut client = opened(&edge, WEBSOCKET).await;
        client.text().await;

        if is_pong {
            client.send("3").await;
        } else {
            client.send_binary(b"\x01\x02").await;
        }

        assert_eq!(client.close_code().await, Some(4500));
    }
}

#[tokio::test]
async fn nothing_is_said_of_a_main_namespace_that_has_no_route() {
    let echo = Echo::start(&[ALLOWED]).await;
    let mut client =
        Client::connect(echo.address, "/engine.io/?EIO=3&transport=websocket&token=x").await;
    assert!(client.text().await.starts_with("0{"));

    client.send("4hello").await;
    client.send_binary(b"\x04\x01\x02\x03\x04").await;

    assert_eq!(client.text().await, "4hello");
    assert_eq!(client.binary().await, &b"\x04\x01\x02\x03\x04"[..]);
}
