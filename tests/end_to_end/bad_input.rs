//! What no good client sends, its exact answer, and that nobody else notices.

use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{Cluster, JsonClient, Program, SocketIoClient, eventually, within};

const PAYLOAD_BYTES_MAX: usize = 10_000;

async fn entered(cluster: &Cluster) -> SocketIoClient {
    cluster.socket_io("mallory").await
}

async fn assert_unharmed(cluster: &mut Cluster) {
    for program in [Program::EdgeGateway, Program::ChatService, Program::AuthService] {
        assert!(cluster.process(program).is_running(), "{program:?}");
    }
    let mut alice = cluster.socket_io("alice").await;
    alice.request("join", json!("unharmed")).await;
    let log = cluster.log();
    assert!(!log.contains("panicked"), "{log}");
}

#[tokio::test]
async fn packets_that_may_not_be_sent_close_the_connection() {
    let mut cluster = Cluster::start().await;
    let auth = json!({"token": cluster.mint.token("mallory")});

    for packet in [
        r#"42/chat,["message",{"room":"lobby","text":"too early"}]"#,
        r#"42["join","lobby"]"#,
        "41/chat,",
        "43/chat,1[]",
        "44/chat,{}",
        "40/chat,[]",
        r#"40/chat,"text""#,
        "40/chat,{bad",
        "4",
        "47",
        "4x",
        "2",
        "9",
        "",
    ] {
        let mut client = SocketIoClient::open(cluster.clients).await;
        client.send(packet).await;
        let (frames, code) = client.closed().await;
        assert!(frames.is_empty(), "{packet:?} before CONNECT: {frames:?}");
        assert!(matches!(code, Some(4500 | 4502)), "{packet:?} before CONNECT: {code:?}");
    }
    for packet in [
        &format!("40/chat,{auth}"),
        r#"42/,["join","lobby"]"#,
        r#"42/other,["join","lobby"]"#,
        "42/chat,[]",
        "42/chat,{}",
        "42/chat,[null]",
        r#"42/chat,["connect"]"#,
        r#"42/chat,["disconnect"]"#,
        r#"42/chat,["join","lobby""#,
        r#"42/chat,["join","lobby"]]"#,
        r#"42/chat,["join",'lobby']"#,
        "44/chat,{}",
        "47/chat,[]",
        r#"450-/chat,["join","lobby"]"#,
    ] {
        let mut client = entered(&cluster).await;
        client.send(packet).await;
        let (frames, code) = client.closed().await;
        assert!(frames.is_empty(), "{packet:?}: {frames:?}");
        assert!(matches!(code, Some(4500 | 4502)), "{packet:?}: {code:?}");
    }
    assert_unharmed(&mut cluster).await;
}

#[tokio::test]
async fn two_connects_at_once_close_the_connection() {
    let mut cluster = Cluster::start().await;
    let auth = json!({"token": cluster.mint.token("mallory")});
    let mut client = SocketIoClient::open(cluster.clients).await;

    client.send(format!("40/chat,{auth}")).await;
    client.send(format!("40/chat,{auth}")).await;

    let (frames, code) = client.closed().await;
    assert!(frames.len() <= 1, "{frames:?}");
    assert_eq!(code, Some(4502));
    assert_unharmed(&mut cluster).await;
}

#[tokio::test]
async fn an_event_right_behind_its_connect_is_not_lost_or_let_through_early() {
    let mut cluster = Cluster::start().await;
    let mut client = SocketIoClient::open(cluster.clients).await;

    client.send(r#"40/chat,{"token":"garbage"}"#).await;
    client.send(r#"42/chat,1["join","lobby"]"#).await;

    let (frames, code) = client.closed().await;
    assert!(frames.iter().all(|frame| frame.starts_with("44/chat,")), "{frames:?}");
    assert_eq!(code, Some(4502));
    assert_unharmed(&mut cluster).await;
}

#[tokio::test]
async fn an_unknown_namespace_is_refused_and_the_connection_stays() {
    let cluster = Cluster::start().await;
    let mut client = entered(&cluster).await;

    for namespace in ["/nope", "/chat2", "/chat/sub", "/chat?room=1", "/CHAT"] {
        client.send(format!("40{namespace},")).await;
        assert_eq!(
            client.frame().await,
            format!(r#"44{namespace},{{"message":"Invalid namespace"}}"#)
        );
    }

    client.request("join", json!("lobby")).await;
}

#[tokio::test]
async fn an_oversized_frame_is_closed_with_1009() {
    let mut cluster =
        Cluster::builder().edge("--edge-payload-bytes-max", PAYLOAD_BYTES_MAX).start().await;
    let frame_of = |bytes: usize| {
        let start = r#"42/chat,1["unknown",""#;
        let fill = "x".repeat(bytes - start.len() - 2);
        format!(r#"{start}{fill}"]"#)
    };

    let mut client = entered(&cluster).await;
    client.send(frame_of(PAYLOAD_BYTES_MAX)).await;
    assert!(client.frame().await.starts_with("43/chat,1["), "the largest frame passes");
    client.send(frame_of(PAYLOAD_BYTES_MAX + 1)).await;
    assert_eq!(client.closed().await, (vec![], Some(1009)));

    let mut client = cluster.json("mallory").await;
    client.send("x".repeat(PAYLOAD_BYTES_MAX + 1)).await;
    assert_eq!(client.closed().await, (vec![], Some(1009)));
    assert_unharmed(&mut cluster).await;
}

#[tokio::test]
async fn ten_thousand_levels_of_json_hurt_nobody() {
    // An edge refuses so many, unless it is told to pass them on.
    let mut cluster = Cluster::builder().edge("--edge-json-depth-max", 10_001).start().await;
    let deep = format!("{}1{}", "[".repeat(10_000), "]".repeat(10_000));
    let deep_object = format!("{}1{}", r#"{"a":"#.repeat(10_000), "}".repeat(10_000));

    for value in [&deep, &deep_object] {
        let mut client = entered(&cluster).await;
        for (event, code) in [
            ("unknown", "unknown_event"),
            ("message", "invalid_payload"),
            ("join", "invalid_payload"),
        ] {
            client.send(format!(r#"42/chat,1["{event}",{value}]"#)).await;
            let answer = client.frame().await;
            assert!(
                answer.starts_with(&format!(r#"43/chat,1[{{"error":{{"code":"{code}""#)),
                "{event}: {answer}"
            );
        }
        let mut client = SocketIoClient::open(cluster.clients).await;
        client.send(format!(r#"40/chat,{{"deep":{value}}}"#)).await;
        let answer = client.frame().await;
        assert_eq!(answer, r#"44/chat,{"message":"Unauthorized","data":{"code":"unauthorized"}}"#);

        let mut client = cluster.json("mallory").await;
        client.send(format!(r#"{{"event":"message","data":{value},"id":1}}"#)).await;
        assert_eq!(client.message().await["error"]["code"], "invalid_payload");
    }
    assert_unharmed(&mut cluster).await;
}

#[tokio::test]
async fn a_room_is_closed_to_those_who_are_not_in_it() {
    let cluster = Cluster::start().await;
    let mut member = cluster.socket_io("alice").await;
    member.request("join", json!("private")).await;
    let mut outsider = entered(&cluster).await;

    for (event, data) in [
        ("message", json!({"room": "private", "text": "let me in"})),
        ("typing", json!({"room": "private", "typing": true})),
        ("history", json!({"room": "private"})),
        ("presence", json!("private")),
        ("message", json!({"room": "no such room", "text": "anyone?"})),
    ] {
        assert_eq!(outsider.request_error(event, data.clone()).await, "not_a_member", "{event}");
        outsider.emit(event, data).await;
        let exception = outsider.event("exception").await;
        assert_eq!(
            (&exception["status"], &exception["code"]),
            (&json!("error"), &json!("not_a_member")),
            "{event}"
        );
    }
    let left = outsider.request("leave", json!("private")).await;
    assert_eq!(
        left,
        json!({"room": "private"}),
        "leaving twice is harmless, and tells nothing of the room"
    );
    assert_eq!(member.unread_events().await, [] as [&str; 0]);
}

#[tokio::test]
async fn an_unknown_event_is_answered() {
    let cluster = Cluster::start().await;
    let mut client = entered(&cluster).await;
    let mut json = cluster.json("mallory").await;

    client.send(r#"42/chat,3["no such event",1,2,3]"#).await;
    let answer = client.frame().await;
    assert!(answer.starts_with(r#"43/chat,3[{"error":{"code":"unknown_event""#), "{answer}");
    client.emit("no such event", json!(null)).await;
    assert_eq!(client.event("exception").await["code"], "unknown_event");

    let error = json.request("no such event", json!(null)).await.unwrap_err();
    assert_eq!((&error["code"], &error["retryable"]), (&json!("unknown_event"), &json!(false)));
    assert!(error["message"].is_string());
    json.emit("no such event", json!(null)).await;
    assert_eq!(json.event("exception").await["code"], "unknown_event");
}

#[tokio::test]
async fn payloads_are_checked_and_never_echoed() {
    let cluster = Cluster::start().await;
    let mut client = entered(&cluster).await;
    client.request("join", json!("lobby")).await;
    let canary = "canary-7f3a";

    for (event, data) in [
        ("join", json!({"canary": canary})),
        ("join", json!("")),
        ("join", json!(format!("{canary}\u{7}"))),
        ("join", json!(canary.repeat(20))),
        ("join", json!(7)),
        ("message", json!(canary)),
        ("message", json!({"room": "lobby"})),
        ("message", json!({"room": "lobby", "text": ""})),
        ("message", json!({"room": "lobby", "text": 1, "canary": canary})),
        ("message", json!({"room": "lobby", "text": canary.repeat(1500)})),
        ("message", json!({"room": "lobby", "text": canary, "id": ""})),
        ("message", json!({"room": "lobby", "text": canary, "id": canary.repeat(12)})),
        ("typing", json!({"room": "lobby", "typing": canary})),
        ("history", json!({"room": "lobby", "limit": canary})),
        ("history", json!({"room": "lobby", "limit": -1})),
        ("history", json!({"room": "lobby", "before": canary})),
    ] {
        let answer = client.request(event, data.clone()).await;
        assert_eq!(answer["error"]["code"], "invalid_payload", "{event} {data}");
        assert_eq!(answer["error"]["retryable"], false, "{event} {data}");
        assert!(!answer.to_string().contains(canary), "{event}: {answer}");
    }
    assert_eq!(client.unread_events().await, [] as [&str; 0]);
}

#[tokio::test]
async fn plain_json_that_is_no_message_is_answered_and_the_connection_stays() {
    let mut cluster = Cluster::start().await;
    let mut client = cluster.json("mallory").await;

    for text in [
        "",
        "nonsense",
        "[]",
        "1",
        "null",
        "{",
        r#"{"event":1}"#,
        r#"{"data":1}"#,
        r#"{"event":"a","id":{}}"#,
        r#"{"event":"a"}}"#,
    ] {
        client.send(text).await;
        let exception = client.message().await;
        assert_eq!(exception["event"], "exception", "{text}: {exception}");
        assert_eq!(exception["data"]["code"], "bad_request", "{text}: {exception}");
    }
    client.request("join", json!("lobby")).await.unwrap();
    assert_unharmed(&mut cluster).await;
}

#[tokio::test]
async fn binary_frames_are_refused() {
    let mut cluster = Cluster::start().await;

    let mut client = entered(&cluster).await;
    client.send_binary(b"\x01\x02").await;
    let (frames, code) = client.closed().await;

    assert!(frames.is_empty());
    assert!(matches!(code, Some(4500 | 4502)), "{code:?}");
    assert_unharmed(&mut cluster).await;
}

#[tokio::test]
async fn a_hundred_half_open_handshakes_are_cut_and_the_others_served() {
    let mut cluster = Cluster::builder().edge("--edge-connect-timeout", "1s").start().await;
    let mut half_open = Vec::new();
    for number in 0..100 {
        let mut stream = TcpStream::connect(cluster.clients).await.unwrap();
        let request =
            "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: slow\r\nX-Slow: ";
        stream.write_all(&request.as_bytes()[..number % request.len()]).await.unwrap();
        half_open.push(stream);
    }

    assert_unharmed(&mut cluster).await;
    for mut stream in half_open {
        let mut answer = Vec::new();
        // A reset is an end as well.
        let _ = within("the connection is cut", stream.read_to_end(&mut answer)).await;
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{answer}");
    }
    eventually("a hundred are counted", async || {
        let labels = ["limit=\"header_time\""];
        let cut = cluster.metric("sockeye_edge_limit_hits_total", &labels).await;
        (cut == Some(100.0)).then_some(())
    })
    .await;
    assert_unharmed(&mut cluster).await;
}

#[tokio::test]
async fn neither_logs_nor_metrics_hold_what_clients_sent() {
    let mut cluster = Cluster::builder().all("--log-filter=debug").start().await;
    let secret = cluster.mint.secret().to_owned();
    let token = cluster.mint.token("canary-subject");
    let auth = json!({"token": token, "password": "canary-auth"});
    let mut client =
        SocketIoClient::open_with_headers(cluster.clients, &[("x-note", "canary-header")]).await;
    client.connect("/chat", &auth).await.unwrap();
    client.request("join", json!("canary-room")).await;
    client.request("message", json!({"room": "canary-room", "text": "canary-text"})).await;
    client.request("message", json!({"room": "canary-room", "text": {"deep": "canary-bad"}})).await;
    client.emit("no such event", json!("canary-unknown")).await;
    client.event("exception").await;
    client.send(r#"42/chat,["canary-malformed""#).await;
    client.closed().await;
    let bad = JsonClient::open_with_token(cluster.clients, "canary-token").await.closed().await;
    assert_eq!(bad.1, Some(4501));
    let mut plain = JsonClient::enter(cluster.clients, &token).await;
    plain.send("canary-nonsense").await;
    plain.event("exception").await;

    let metrics = crate::support::get(cluster.ops, "/metrics").await.body;
    for program in [Program::EdgeGateway, Program::ChatService, Program::AuthService] {
        cluster.process(program).terminate();
        cluster.process(program).exit_code().await;
    }

    let log = cluster.log();
    assert!(log.contains("listening"));
    for (what, text) in [("log", &log), ("metrics", &metrics)] {
        for secret in ["canary-", &secret, &token, token.rsplit('.').next().unwrap()] {
            let line = text.lines().find(|line| line.contains(secret));
            assert_eq!(line, None, "the {what} holds {secret}");
        }
    }
}
