//! Sessions on WebTransport: from their first packet on, and from long-polling.

use edge_gateway::BindError;
use proto::edge::v1::{Accept, Acknowledge, Audience, Emit, instruction::Kind};
use wtransport::error::ConnectingError;

use crate::support::{
    DEADLINE, Edge, Stream,
    echo::Echo,
    get,
    poller::{Poller, ok},
    webtransport::{Certificate, WebTransportClient},
    within,
};

const ENGINE_IO: &str = "/engine.io/?EIO=4&transport=webtransport";
const SOCKET_IO: &str = "/socket.io/?EIO=4&transport=webtransport";

/// An echo that takes WebTransport, with flags beside.
async fn echo(flags: &[&str]) -> (Echo, Certificate) {
    let certificate = Certificate::new();
    let own = certificate.flags();
    let flags: Vec<&str> = own.iter().map(String::as_str).chain(flags.iter().copied()).collect();
    (Echo::start(&flags).await, certificate)
}

/// A client on its stream, before the first packet.
async fn unopened((echo, certificate): &(Echo, Certificate)) -> WebTransportClient {
    let address = echo.webtransport.unwrap();
    WebTransportClient::connect(address, certificate, ENGINE_IO).await.unwrap()
}

/// A client whose session has begun.
async fn opened(edge: &(Echo, Certificate)) -> WebTransportClient {
    let mut client = unopened(edge).await;
    client.send("0").await;
    let open = client.text().await;
    assert!(open.starts_with("0{\"sid\":\""), "{open}");
    client
}

/// A session on long-polling, and a stream that asks for it.
async fn probing(edge: &(Echo, Certificate)) -> (Poller, WebTransportClient) {
    let poller = edge.0.polling().await;
    let mut client = unopened(edge).await;
    client.send(&format!(r#"0{{"sid":"{}"}}"#, poller.session)).await;
    (poller, client)
}

/// An edge with a client in `/chat` that came on WebTransport.
async fn in_chat() -> (Edge, Stream, WebTransportClient, u64) {
    let certificate = Certificate::new();
    let flags = certificate.flags();
    let (edge, mut stream) = Edge::attached(&flags.each_ref().map(String::as_str)).await;
    let address = edge.webtransport.unwrap();
    let mut client = WebTransportClient::connect(address, &certificate, SOCKET_IO).await.unwrap();
    client.send("0").await;
    client.text().await;
    client.send(r#"40/chat,{"token":"ok:alice"}"#).await;
    let (socket, opened) = stream.opened().await;
    stream.instruct([Kind::Accept(Accept { socket })]).await;
    assert_eq!(client.text().await, format!(r#"40/chat,{{"sid":"{}"}}"#, opened.socket_id));
    (edge, stream, client, socket)
}

#[tokio::test]
async fn settings_that_make_no_listener_are_named() {
    let (own, other) = (Certificate::new(), Certificate::new());
    let [listen, certificate, key] = own.flags();
    let [.., other_key] = other.flags();
    let cases: [(&[&str], &str); 5] = [
        (&[&listen], "EDGE_WEBTRANSPORT_LISTEN needs EDGE_WEBTRANSPORT_CERTIFICATE and"),
        (&[&certificate, &key], "go together"),
        (
            &[&listen, &certificate, "--edge-webtransport-key=none"],
            "EDGE_WEBTRANSPORT_KEY names none",
        ),
        (
            &[&listen, "--edge-webtransport-certificate=none", &key],
            "EDGE_WEBTRANSPORT_CERTIFICATE names none",
        ),
        (&[&listen, &certificate, &other_key], "cannot be used"),
    ];
    for (flags, expected) in cases {
        let error = Echo::refused(flags).await;
        assert!(matches!(error, BindError::Config(_)), "{error:?}");
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[tokio::test]
async fn without_a_certificate_of_its_own_it_shows_that_of_tls_also_a_new_one() {
    let certificate = Certificate::new();
    let echo = Echo::start(&certificate.shared_flags().each_ref().map(String::as_str)).await;
    let address = echo.webtransport.unwrap();
    WebTransportClient::connect(address, &certificate, ENGINE_IO).await.unwrap();

    let new = certificate.replaced();

    // It is trusted by its hash.
    within("the new certificate", async {
        while WebTransportClient::connect(address, &new, ENGINE_IO).await.is_err() {}
    })
    .await;
}

#[tokio::test]
async fn a_handshake_tells_what_a_client_must_know() {
    let edge = echo(&["--edge-ping-interval=300ms", "--edge-ping-timeout=200ms"]).await;
    let told = |handshake: &str| {
        let mut open: serde_json::Value = serde_json::from_str(&handshake[1..]).unwrap();
        assert!(open["sid"].take().is_string(), "{handshake}");
        open
    };
    let expected = |upgrades: &[&str]| {
        serde_json::json!({
            "sid": null, "upgrades": upgrades, "pingInterval": 300, "pingTimeout": 200, "maxPayload": 1_000_000,
        })
    };
    let mut client = unopened(&edge).await;

    client.send("0").await;

    assert_eq!(told(&client.text().await), expected(&[]));
    let (_, polling) = edge.0.unopened().get().await;
    assert_eq!(told(&polling), expected(&["websocket", "webtransport"]));
}

#[tokio::test]
async fn packets_come_back_as_they_were_sent() {
    let edge = echo(&[]).await;
    let mut client = opened(&edge).await;

    for len in [1, 124, 125, 126, 65_534, 65_535, 65_536, 999_999] {
        let text = format!("4{}", "é".repeat(len / 2));
        client.send(&text).await;
        assert_eq!(client.text().await, text);
        client.send_binary(&vec![7; len]).await;
        assert_eq!(client.binary().await, vec![7; len]);
    }
}

#[tokio::test]
async fn frames_may_arrive_in_any_pieces() {
    let edge = echo(&[]).await;
    let mut client = opened(&edge).await;

    // A length need not be written as short as it could be.
    for bytes in [&b"\x024a\x7e\x00"[..], b"\x024b\x7f\0\0\0", b"\0\0\0\0\x02", b"4", b"c\x81\x07"]
    {
        client.write(bytes).await;
    }

    assert_eq!(client.text().await, "4a");
    assert_eq!(client.text().await, "4b");
    assert_eq!(client.text().await, "4c");
    assert_eq!(client.binary().await, [7]);
}

#[tokio::test]
async fn a_first_packet_that_opens_nothing_ends_the_session() {
    let edge = echo(&[]).await;
    let long = format!("\x7e\x01\x010{}", " ".repeat(256));
    let frames = ["\x00", "\x011", "\x024a", "\x020{", "\x030{}", "\x0c0{\"sid\":\"x\"}", &long];

    for frame in frames {
        let mut client = unopened(&edge).await;
        client.write(frame.as_bytes()).await;
        assert_eq!(client.until_its_end().await, [""; 0], "{frame:?}");
    }
    let mut client = unopened(&edge).await;
    client.send_binary(b"0").await;
    assert_eq!(client.until_its_end().await, [""; 0]);
}

#[tokio::test]
async fn a_request_for_something_else_is_refused() {
    let (echo, certificate) = echo(&[]).await;

    for path in ["/", "/engine.io", "/socket.io/?EIO=4", "/engine.io/?EIO=3"] {
        let address = echo.webtransport.unwrap();
        let refused = WebTransportClient::connect(address, &certificate, path).await;
        assert!(matches!(refused, Err(ConnectingError::SessionRejected)), "{path}");
    }
}

#[tokio::test]
async fn sessions_of_all_ways_in_are_opened_at_one_rate() {
    let edge = echo(&["--edge-opens-per-second=1"]).await;
    let path = "/engine.io/?EIO=4&transport=polling";
    let refused = {
        let asked = (0..15).map(|_| Box::pin(get(edge.0.address, path)));
        let mut asked = futures_util::stream::FuturesUnordered::from_iter(asked);
        loop {
            let answer = futures_util::StreamExt::next(&mut asked);
            let answer = within("a refusal", answer).await.unwrap();
            if !answer.starts_with("HTTP/1.1 200") {
                break answer;
            }
        }
    };
    assert!(refused.starts_with("HTTP/1.1 503"), "{refused}");

    let address = edge.0.webtransport.unwrap();
    let opened = WebTransportClient::connect(address, &edge.1, ENGINE_IO).await;

    assert!(matches!(opened, Err(ConnectingError::SessionRejected)), "{:?}", opened.err());
}

#[tokio::test]
async fn an_event_is_acknowledged() {
    let (_edge, mut stream, mut client, socket) = in_chat().await;

    client.send(r#"42/chat,7["hello",{"a":1}]"#).await;
    let (from, event) = stream.event().await;
    let ack = Acknowledge {
        socket,
        ack_id: event.ack_id.unwrap(),
        args: "[2]".into(),
        ..Acknowledge::default()
    };
    stream.instruct([Kind::Acknowledge(ack)]).await;

    assert_eq!((from, event.name.as_str()), (socket, "hello"));
    assert_eq!(client.text().await, "43/chat,7[2]");
}

#[tokio::test]
async fn what_a_client_may_not_send_ends_its_session() {
    let cases: [(&[u8], &str); 5] = [
        (b"\x00", "malformed_packet"),
        (b"\x80", "malformed_packet"),
        (b"\x019", "malformed_packet"),
        (b"\x024\xff", "bad_text"),
        (b"\xff\0\0\0\0\0\x0f\x42\x41", "payload_too_large"),
    ];
    for (bytes, reason) in cases {
        let (_edge, mut stream, mut client, socket) = in_chat().await;

        client.write(bytes).await;

        assert_eq!(stream.closed().await, (socket, reason.to_owned()));
        assert_eq!(client.until_its_end().await, [""; 0]);
    }
}

#[tokio::test]
async fn a_client_that_closes_is_gone_at_once() {
    let (_edge, mut stream, client, socket) = in_chat().await;
    client.connection.close(0_u32.into(), b"");
    assert_eq!(stream.closed().await, (socket, "closed_by_client".to_owned()));

    let (_edge, mut stream, mut client, socket) = in_chat().await;
    client.send.finish().await.unwrap();
    assert_eq!(stream.closed().await, (socket, "closed_by_client".to_owned()));
    assert_eq!(client.until_its_end().await, [""; 0]);
}

#[tokio::test]
async fn a_client_that_answers_no_ping_is_given_up() {
    let edge = echo(&["--edge-ping-interval=150ms", "--edge-ping-timeout=2s"]).await;
    let mut client = opened(&edge).await;

    assert_eq!(client.text().await, "2");
    client.send("3").await;
    assert_eq!(client.until_its_end().await, ["2"]);
}

#[tokio::test]
async fn a_session_moves_from_long_polling_with_all_that_waits() {
    let edge = echo(&[]).await;
    let (poller, mut client) = probing(&edge).await;

    client.send("2probe").await;
    assert_eq!(client.text().await, "3probe");
    assert_eq!(poller.get().await, (200, "6".to_owned()));
    assert_eq!(poller.post("4a\x1ebAQID\x1e4b").await, ok());
    client.send("5").await;
    client.send("4c").await;

    assert_eq!(client.text().await, "4a");
    assert_eq!(client.binary().await, [1, 2, 3]);
    assert_eq!(client.text().await, "4b");
    assert_eq!(client.text().await, "4c");
}

#[tokio::test]
async fn an_upgrade_that_goes_wrong_leaves_the_session_where_it_is() {
    let edge = echo(&[]).await;
    let (poller, mut client) = probing(&edge).await;

    client.send("4early").await;

    assert_eq!(client.until_its_end().await, [""; 0]);
    assert_eq!(poller.post("4a").await, ok());
    assert_eq!(poller.get().await, (200, "4a".to_owned()));
}

#[tokio::test]
async fn a_session_that_has_left_long_polling_is_not_taken_over() {
    let edge = echo(&[]).await;
    let (poller, mut first) = probing(&edge).await;
    first.send("5").await;
    first.send("4a").await;
    assert_eq!(first.text().await, "4a");
    let mut second = unopened(&edge).await;

    second.send(&format!(r#"0{{"sid":"{}"}}"#, poller.session)).await;

    assert_eq!(second.until_its_end().await, [""; 0]);
    first.send("4b").await;
    assert_eq!(first.text().await, "4b");
}

#[tokio::test]
async fn a_session_of_another_edge_is_taken_over() {
    const CLUSTER: &str = "--edge-peer-listen=127.0.0.1:0";
    let (owner, mut stream) = Edge::attached(&["--edge-number=2", CLUSTER]).await;
    let peer = format!("--edge-peer=2=http://{}", owner.peers.unwrap());
    let certificate = Certificate::new();
    let flags = certificate.flags();
    let flags = flags.each_ref().map(String::as_str);
    let other = Edge::start(&[&["--edge-number=1", CLUSTER, &peer], &flags[..]].concat()).await;
    let poller = Poller::open(&owner).await;
    let socket = poller.enter_chat(&mut stream).await;
    let address = other.webtransport.unwrap();
    let mut client = WebTransportClient::connect(address, &certificate, SOCKET_IO).await.unwrap();

    client.send(&format!(r#"0{{"sid":"{}"}}"#, poller.session)).await;
    client.send("2probe").await;
    assert_eq!(client.text().await, "3probe");
    client.send("5").await;
    client.send(r#"42/chat,["hello"]"#).await;

    let (from, event) = stream.event().await;
    assert_eq!((from, event.name.as_str()), (socket, "hello"));
}

#[tokio::test]
async fn a_client_that_does_not_read_is_a_slow_consumer() {
    let (_edge, mut stream, _client, socket) = in_chat().await;
    let audience =
        Audience { namespace: "/chat".to_owned(), sockets: vec![socket], ..Audience::default() };
    let emit = Emit {
        audience: Some(audience),
        event: "flood".to_owned(),
        args: format!(r#"["{}"]"#, "x".repeat(100_000)).into(),
        ..Emit::default()
    };

    for _ in 0..60 {
        stream.instruct([Kind::Emit(emit.clone())]).await;
    }

    assert_eq!(stream.closed().await, (socket, "slow_consumer".to_owned()));
}

#[tokio::test]
async fn clients_are_closed_when_the_edge_is_stopped() {
    let certificate = Certificate::new();
    let flags = certificate.flags();
    let flags: Vec<&str> =
        flags.iter().map(String::as_str).chain(["--edge-drain-timeout=10ms"]).collect();
    let (edge, _stream) = Edge::attached(&flags).await;
    let address = edge.webtransport.unwrap();
    let mut client = WebTransportClient::connect(address, &certificate, SOCKET_IO).await.unwrap();
    client.send("0").await;
    client.text().await;

    edge.stop();

    assert_eq!(client.until_its_end().await, [""; 0]);
    tokio::time::timeout(DEADLINE, edge.stopped()).await.unwrap();
}
