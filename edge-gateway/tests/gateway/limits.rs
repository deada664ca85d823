//! Bounds: what a client may send, how slow it may be, how long it may be silent.

use std::time::Duration;

use futures_util::StreamExt;
use proto::edge::v1::{Accept, Audience, Emit, Join, instruction::Kind};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_tungstenite::MaybeTlsStream;

use crate::support::{Client, Edge, get, limit_hits, within};

/// For clients that do not answer them, and tests that take their time.
const NO_PINGS: &str = "--edge-ping-interval=1h";

#[tokio::test]
async fn packets_that_break_the_protocol_close_the_connection() {
    let (edge, mut stream) = Edge::attached(&[]).await;
    let before_connect = [
        (r#"42/chat,["early"]"#, 4502),
        ("4abc", 4500),
        ("4", 4500),
        ("9", 4500),
        ("2", 4500),
        ("40/chat,[]", 4500),
        ("44/chat,{}", 4500),
    ];
    for (frame, code) in before_connect {
        let mut client = edge.socket_io().await;
        client.send(frame).await;
        assert_eq!(client.close_code().await, Some(code), "{frame}");
    }
    let after_connect = [
        (r#"40/chat,{"token":"ok:alice"}"#, 4502),
        (r#"42/chat,["connect"]"#, 4500),
        ("42/chat,[]", 4500),
        ("42/chat,{}", 4500),
        (r#"42/chat,["a""#, 4500),
        (r#"42["other namespace"]"#, 4502),
    ];
    for (frame, code) in after_connect {
        let (mut client, _) = edge.in_chat(&mut stream, "alice").await;
        client.send(frame).await;
        assert_eq!(client.close_code().await, Some(code), "{frame}");
        stream.closed().await;
    }
}

#[tokio::test]
async fn a_message_may_be_as_large_as_advertised_and_no_larger() {
    let (edge, mut stream) = Edge::attached(&["--edge-payload-bytes-max=1000"]).await;
    let (mut client, _) = edge.in_chat(&mut stream, "alice").await;
    let of_size = |bytes: usize| {
        format!(r#"42/chat,["{}"]"#, "x".repeat(200))
            .replace("]", &format!(",\"{}\"]", "y".repeat(bytes - 215)))
    };

    let largest = of_size(1000);
    assert_eq!(largest.len(), 1000);
    client.send(&largest).await;
    assert_eq!(stream.event().await.1.args.len(), 1000 - 213 + 2);

    client.send(&of_size(1001)).await;
    assert_eq!(client.close_code().await, Some(1009));
}

#[tokio::test]
async fn a_stranger_may_send_so_much_at_once_and_no_more() {
    let (edge, mut stream) =
        Edge::attached(&["--edge-unauthenticated-payload-bytes-max=1000"]).await;
    let connect_of = |bytes: usize| {
        let connect = r#"40/chat,{"token":"ok:alice","more":""}"#;
        connect.replace("\"\"", &format!("\"{}\"", "x".repeat(bytes - connect.len())))
    };
    let mut stranger = edge.socket_io().await;
    stranger.send(&connect_of(1001)).await;
    assert_eq!(stranger.close_code().await, Some(1009));

    let mut client = edge.socket_io().await;
    client.send(&connect_of(1000)).await;
    let (socket, _) = stream.opened().await;
    stream.instruct([Kind::Accept(Accept { socket })]).await;
    client.packet().await;

    client.send(&format!(r#"42/chat,["large","{}"]"#, "x".repeat(100_000))).await;
    assert_eq!(stream.event().await.1.args.len(), 100_000 + r#"[""]"#.len());
}

#[tokio::test]
async fn a_plain_json_client_is_a_stranger_until_it_is_in() {
    let (edge, mut stream) =
        Edge::attached(&["--edge-unauthenticated-payload-bytes-max=1000"]).await;
    let mut stranger = edge.websocket("/ws").await;
    stranger.send(&"x".repeat(1001)).await;
    assert_eq!(stranger.close_code().await, Some(1009));

    let (mut client, _) = edge.json_in_chat(&mut stream, "alice").await;
    client.send(&format!(r#"{{"event":"large","data":"{}"}}"#, "x".repeat(100_000))).await;
    assert_eq!(stream.event().await.1.args.len(), 100_000 + r#"[""]"#.len());
}

#[tokio::test]
async fn attachments_must_come_within_the_ping_timeout() {
    let flags = ["--edge-ping-interval=60s", "--edge-ping-timeout=200ms"];
    let (edge, mut stream) = Edge::attached(&flags).await;
    let (mut client, _) = edge.in_chat(&mut stream, "alice").await;

    client.send(r#"451-/chat,["e",{"_placeholder":true,"num":0}]"#).await;

    assert_eq!(client.close_code().await, Some(4500));
}

#[tokio::test]
async fn too_many_events_are_refused_and_then_the_connection_is_closed() {
    // The first is its CONNECT.
    let flags = ["--edge-events-per-second=1", "--edge-events-burst=4"];
    let (edge, mut stream) = Edge::attached(&flags).await;
    let (mut client, _) = edge.in_chat(&mut stream, "alice").await;

    for id in 0..4 {
        client.send(&format!(r#"42/chat,{id}["e"]"#)).await;
    }
    let refused = client.text().await;
    assert!(refused.starts_with(r#"43/chat,3[{"error":{"code":"rate_limited""#), "{refused}");
    assert!(refused.contains(r#""retryable":true,"retry_after_ms":"#), "{refused}");

    for _ in 0..4 {
        client.send(r#"42/chat,["e"]"#).await;
    }
    let (exceptions, code) = client.until_its_end().await;
    assert_eq!((exceptions.len(), code), (3, Some(4006)));
    for _ in 0..3 {
        stream.event().await;
    }
    assert_eq!(stream.closed().await.1, "rate_limited");
}

#[tokio::test]
async fn coming_and_going_counts_as_events() {
    let flags = ["--edge-events-per-second=1", "--edge-events-burst=5", NO_PINGS];
    let (edge, mut stream) = Edge::attached(&flags).await;
    let begun = std::time::Instant::now();
    let mut client = edge.socket_io().await;
    for _ in 0..2 {
        client.send(r#"40/chat,{"token":"ok:alice"}"#).await;
        let (socket, _) = stream.opened().await;
        stream.instruct([Kind::Accept(Accept { socket })]).await;
        assert!(client.packet().await.starts_with("40/chat,{"));
        client.send("41/chat,").await;
        assert_eq!(stream.closed().await.1, "client_disconnect");
    }

    let mut granted = 0;
    let refused = loop {
        client.send("40/nowhere,").await;
        let answer = client.packet().await;
        if answer != r#"44/nowhere,{"message":"Invalid namespace"}"# {
            break answer;
        }
        granted += 1;
        // One is left of the burst, and one comes each second.
        assert!(granted <= 1 + begun.elapsed().as_secs(), "{granted} in {:?}", begun.elapsed());
    };
    let data = r#"{"code":"rate_limited","retryable":true,"retry_after_ms":"#;
    let expected = format!(r#"44/nowhere,{{"message":"Too many events","data":{data}"#);
    assert!(refused.starts_with(&expected), "{refused}");

    for _ in 0..20 {
        client.send("40/nowhere,").await;
    }
    assert_eq!(client.until_its_end().await.1, Some(4006));
}

#[tokio::test]
async fn what_cannot_be_read_counts_as_an_event() {
    let flags = ["--edge-events-per-second=1", "--edge-events-burst=2"];
    let (edge, _stream) = Edge::attached(&flags).await;
    let mut client = edge.websocket("/ws").await;

    for _ in 0..5 {
        client.send("garbage").await;
    }

    let (answers, code) = client.until_its_end().await;
    let codes: Vec<_> = answers.iter().map(|answer| answer.contains("rate_limited")).collect();
    assert_eq!((codes, code), (vec![false, false, true, true], Some(4006)));
}

#[tokio::test]
async fn a_client_that_does_not_read_is_closed_and_nobody_waits_for_it() {
    let (edge, mut stream) = Edge::attached(&["--edge-outbox-bytes-max=100000", NO_PINGS]).await;
    let (_slow, slow_socket) = edge.in_chat(&mut stream, "slow").await;
    let (mut good, good_socket) = edge.in_chat(&mut stream, "good").await;
    let join = Join {
        sockets: vec![slow_socket, good_socket],
        room: "lobby".to_owned(),
        position: String::new(),
    };
    stream.instruct([Kind::Join(join)]).await;
    let payload: bytes::Bytes = format!("[\"{}\"]", "x".repeat(50_000)).into();
    let emit = |volatile| {
        let audience = Audience {
            namespace: "/chat".to_owned(),
            rooms: vec!["lobby".to_owned()],
            ..Audience::default()
        };
        Kind::Emit(Emit {
            audience: Some(audience),
            event: "big".to_owned(),
            args: payload.clone(),
            volatile,
            ..Emit::default()
        })
    };

    // Far more than the kernel's buffers hold; volatile events for a full socket are dropped and cost it nothing else.
    for _ in 0..400 {
        stream.instruct([emit(true)]).await;
        assert_eq!(good.text().await.len(), 50_000 + r#"42/chat,["big",""]"#.len());
    }
    for _ in 0..10 {
        stream.instruct([emit(false)]).await;
        good.text().await;
    }

    assert_eq!(stream.closed().await, (slow_socket, "slow_consumer".to_owned()));
    let metrics = get(edge.ops, "/metrics").await;
    assert!(metrics.contains("sockeye_edge_drops_total{reason=\"volatile\"}"), "{metrics}");
    assert!(metrics.contains("sockeye_edge_closes_total{reason=\"slow_consumer\"}"));
}

#[tokio::test]
async fn who_answers_pings_stays_and_who_does_not_is_closed() {
    let flags = ["--edge-ping-interval=300ms", "--edge-ping-timeout=2s"];
    let (edge, mut stream) = Edge::attached(&flags).await;
    let (mut answers, _) = edge.in_chat(&mut stream, "alice").await;
    let (mut silent, socket) = edge.in_chat(&mut stream, "bob").await;

    let silent = tokio::spawn(async move { silent.until_its_end().await });
    while !silent.is_finished() {
        assert_eq!(answers.text().await, "2");
        answers.send("3").await;
    }

    let (frames, code) = within("the end of the silent", silent).await.unwrap();
    assert_eq!((frames, code), (vec!["2".to_owned()], Some(4002)));
    assert_eq!(stream.closed().await, (socket, "ping_timeout".to_owned()));
}

#[tokio::test]
async fn refused_requests_close_their_connection() {
    let (edge, _stream) = Edge::attached(&[]).await;
    let cases = [
        ("GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 400"),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "HTTP/1.1 400"),
        ("GET /ws HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 426"),
        (
            "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Version: 8\r\nSec-WebSocket-Key: x\r\n\r\n",
            "HTTP/1.1 426",
        ),
        ("GET /socket.io/?EIO=3&transport=polling HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 400"),
    ];
    for (request, status) in cases {
        let mut connection = TcpStream::connect(edge.address).await.unwrap();
        let smuggled = format!("{request}GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n");
        connection.write_all(smuggled.as_bytes()).await.unwrap();
        let mut answer = String::new();
        within("the connection's end", connection.read_to_string(&mut answer)).await.unwrap();
        assert!(answer.starts_with(status), "{request}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{request}: {answer}");
    }
}

#[tokio::test]
async fn pings_keep_their_interval_where_the_timeout_is_longer() {
    let flags = ["--edge-ping-interval=100ms", "--edge-ping-timeout=50s"];
    let (edge, mut stream) = Edge::attached(&flags).await;
    let (mut client, _) = edge.in_chat(&mut stream, "alice").await;

    for _ in 0..3 {
        assert_eq!(client.text().await, "2");
        client.send("3").await;
    }
}

#[tokio::test]
async fn durations_beyond_all_clocks_mean_never() {
    let flags = [
        "--edge-connect-timeout=300000000000years",
        "--edge-event-timeout=300000000000years",
        "--edge-drain-timeout=300000000000years",
        "--edge-ping-interval=300000000000years",
        "--edge-ping-timeout=300000000000years",
    ];
    let (edge, mut stream) = Edge::attached(&flags).await;
    let (mut client, _) = edge.in_chat(&mut stream, "alice").await;

    client.send(r#"42/chat,1["e"]"#).await;
    assert_eq!(stream.event().await.1.ack_id, Some(1));

    edge.stop();
    assert_eq!(client.close_code().await, Some(4000));
    stream.closed().await;
    edge.stopped().await;
}

#[tokio::test]
async fn a_client_that_floods_delays_nobody_for_long() {
    let (edge, mut stream) = Edge::attached(&[]).await;
    let (mut good, _) = edge.in_chat(&mut stream, "good").await;
    let flooding = edge.socket_io().await;

    flood(flooding, [0x89, 0x80, 0, 0, 0, 0].repeat(100_000));

    within("five events", async {
        for _ in 0..5 {
            good.send(r#"42/chat,["e"]"#).await;
            stream.event().await;
        }
    })
    .await;
}

/// Writes `bytes` again and again, and reads what comes, until the connection ends.
fn flood(client: Client, bytes: Vec<u8>) {
    use std::io::{Read, Write};
    let MaybeTlsStream::Plain(stream) = client.stream.into_inner() else { panic!("no TLS here") };
    let mut write = stream.into_std().unwrap();
    write.set_nonblocking(false).unwrap();
    let mut read = write.try_clone().unwrap();
    std::thread::spawn(move || while write.write_all(&bytes).is_ok() {});
    std::thread::spawn(move || while read.read(&mut [0; 65536]).is_ok_and(|count| count > 0) {});
}

#[tokio::test]
async fn clients_that_come_all_at_once_wait_for_their_turn() {
    let (edge, _stream) = Edge::attached(&["--edge-opens-per-second=4"]).await;
    let path = "/socket.io/?EIO=4&transport=polling";

    let begun = std::time::Instant::now();
    for _ in 0..4 {
        assert!(get(edge.address, path).await.starts_with("HTTP/1.1 200"));
    }
    edge.socket_io().await;

    // The fifth is a quarter of a second early, less what the others took.
    assert!(begun.elapsed() >= Duration::from_millis(250));
    assert!(get(edge.address, "/").await.starts_with("HTTP/1.1 404"), "others do not wait");
}

#[tokio::test]
async fn clients_that_would_wait_too_long_are_refused() {
    let (edge, _stream) = Edge::attached(&["--edge-opens-per-second=1"]).await;
    let path = "/socket.io/?EIO=4&transport=polling";

    let refused = {
        let asked: Vec<_> = (0..15).map(|_| Box::pin(get(edge.address, path))).collect();
        let mut asked = futures_util::stream::FuturesUnordered::from_iter(asked);
        loop {
            let answer = within("a refusal", asked.next()).await.unwrap();
            if !answer.starts_with("HTTP/1.1 200") {
                break answer;
            }
        }
    };

    assert!(refused.starts_with("HTTP/1.1 503"), "{refused}");
    assert!(refused.contains("\r\nretry-after: 10\r\n"), "{refused}");
    let body = r#"{"error":{"code":"rate_limited","message":"too many clients come at once; try again later","retryable":true,"retry_after_ms":10000}}"#;
    assert!(refused.ends_with(body), "{refused}");
    edge.stop();
    edge.stopped().await;
}

#[tokio::test]
async fn a_request_has_so_many_headers_and_no_more() {
    let edge = Edge::start(&[]).await;
    let answer = async |headers: String| {
        let mut connection = TcpStream::connect(edge.address).await.unwrap();
        let head =
            "GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: a\r\nConnection: close\r\n";
        connection.write_all(format!("{head}{headers}\r\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        within("an answer", connection.read_to_string(&mut answer)).await.unwrap();
        answer.lines().next().unwrap_or_default().to_owned()
    };
    let many = |count| (0..count).map(|number| format!("X-{number}: a\r\n")).collect::<String>();
    let long = |bytes| format!("X: {}\r\n", "x".repeat(bytes));

    let refused = async || limit_hits(edge.ops, "headers").await;
    let before = refused().await;

    // Two are there already.
    assert!(answer(many(62)).await.starts_with("HTTP/1.1 200"));
    assert!(answer(many(63)).await.starts_with("HTTP/1.1 431"));
    assert!(answer(long(16 * 1024 - 200)).await.starts_with("HTTP/1.1 200"));
    assert!(answer(long(16 * 1024)).await.starts_with("HTTP/1.1 431"));
    // Counted a moment later.
    within("two counts", async { while refused().await < before + 2 {} }).await;
}
