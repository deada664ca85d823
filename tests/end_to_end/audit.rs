//! Audit logs: who entered, who was turned away, and who was cut off, each with the client's address; who was put out of rooms, with
//! the caller's.

use proto::chat::v1::{
    BanRequest, KickRequest, UnbanRequest, UserId, chat_service_client::ChatServiceClient,
    kick_request::Who,
};
use serde_json::{Value, json};

use crate::support::{Cluster, Program, SocketIoClient, exchange};

#[tokio::test]
async fn the_audit_log_of_an_edge_says_who_came_in_from_where() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit.jsonl");
    let mut cluster = Cluster::builder().edge("--audit-log", path.display()).start().await;
    let mut client = SocketIoClient::open(cluster.clients).await;
    let good = cluster.mint.token("ada");
    client.connect("/chat", &json!({"token": "canary-token"})).await.unwrap_err();
    client.connect("/chat", &json!({"token": good})).await.unwrap();
    client.request_error("auth:refresh", json!({"token": "canary-refresh"})).await;
    client.send_binary(b"\x01\x02").await;
    client.closed().await;

    let edge = cluster.process(Program::EdgeGateway);
    edge.terminate();
    assert_eq!(edge.exit_code().await, Some(0));

    let text = std::fs::read_to_string(&path).unwrap();
    let told = text.lines().map(|line| {
        let line: Value = serde_json::from_str(line).unwrap();
        assert_eq!(
            (&line["service"], &line["address"]),
            (&json!("edge-gateway"), &json!("127.0.0.1"))
        );
        json!([line["event"], line["decision"], line["reason"], line["subject"]])
    });
    assert_eq!(
        told.collect::<Vec<_>>(),
        [
            json!(["connect", "denied", "rejected", null]),
            json!(["connect", "allowed", null, "ada"]),
            json!(["refresh", "denied", null, "ada"]),
            json!(["close", "denied", "malformed_packet", "ada"]),
        ]
    );
    assert!(!text.contains("canary") && !text.contains(&good), "{text}");
}

#[tokio::test]
async fn the_audit_log_of_the_chat_service_says_who_was_put_out_and_kept_out() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit.jsonl");
    let mut cluster =
        Cluster::builder().chat(format!("--audit-log={}", path.display())).start().await;
    let mut chat = ChatServiceClient::connect(format!("http://{}", cluster.chat)).await.unwrap();
    let room = || "canary-room".to_owned();
    let ada = || UserId { issuer: "sockeye".to_owned(), subject: "ada".to_owned() };
    let reason = || "canary-reason".to_owned();

    for who in [Who::User(ada()), Who::SocketId("canary-socket".to_owned())] {
        let kick =
            KickRequest { room: room(), who: Some(who), reason: reason(), ..Default::default() };
        chat.kick(kick).await.unwrap();
    }
    let ban =
        BanRequest { room: room(), user: Some(ada()), reason: reason(), ..Default::default() };
    chat.ban(ban).await.unwrap();
    let unban = UnbanRequest { room: room(), user: Some(ada()), ..Default::default() };
    chat.unban(unban).await.unwrap();
    chat.unban(UnbanRequest { room: room(), ..Default::default() }).await.unwrap_err();
    let service = cluster.process(Program::ChatService);
    service.terminate();
    assert_eq!(service.exit_code().await, Some(0));

    let text = std::fs::read_to_string(&path).unwrap();
    let told = text.lines().map(|line| {
        let line: Value = serde_json::from_str(line).unwrap();
        assert!(line["address"].is_string(), "{line}");
        json!([line["service"], line["event"], line["decision"], line["subject"]])
    });
    let done = |event: &str, subject: Value| json!(["chat-service", event, "allowed", subject]);
    assert_eq!(
        told.collect::<Vec<_>>(),
        [
            done("kick", json!("ada")),
            done("kick", Value::Null),
            done("ban", json!("ada")),
            done("unban", json!("ada")),
        ]
    );
    assert!(!text.contains("canary"), "{text}");
}

#[tokio::test]
async fn the_audit_log_says_once_what_a_connection_was_refused() {
    let directory = tempfile::tempdir().unwrap();
    let [of_edge, of_chat] = ["edge.jsonl", "chat.jsonl"].map(|name| directory.path().join(name));
    let mut cluster = Cluster::builder()
        .edge("--audit-log", of_edge.display())
        .edge("--edge-events-per-second", 1)
        .edge("--edge-events-burst", 20)
        .chat(format!("--audit-log={}", of_chat.display()))
        .chat("--chat-joins-per-second=1")
        .chat("--chat-joins-burst=1")
        .start()
        .await;
    for _ in 0..2 {
        let mut client = cluster.socket_io("ada").await;
        let mut refused = 0;
        while refused < 3 {
            let joined = client.request("join", json!("canary-room")).await;
            refused += u32::from(joined["error"]["code"] == "rate_limited");
        }
        // Before it is refused an event gets through each second, so that there may be some more of them.
        refused = 0;
        while refused < 3 {
            let answer = client.request("canary-event", Value::Null).await;
            refused += u32::from(answer["error"]["code"] == "rate_limited");
        }
    }
    for service in [Program::EdgeGateway, Program::ChatService] {
        let process = cluster.process(service);
        process.terminate();
        assert_eq!(process.exit_code().await, Some(0));
    }

    for (path, reason) in [(of_edge, "events"), (of_chat, "joins")] {
        let text = std::fs::read_to_string(&path).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let told = lines.filter(|line| line["event"] == "limit").map(|line| {
            assert_eq!(
                (&line["decision"], &line["reason"], &line["subject"]),
                (&json!("denied"), &json!(reason), &json!("ada"))
            );
            line["count"].as_u64().unwrap_or(1)
        });
        assert_eq!(told.sum::<u64>(), 2, "one of each connection: {text}");
        assert!(!text.contains("canary"), "{text}");
    }
}

#[tokio::test]
async fn the_audit_log_tells_of_headers_and_of_json_beyond_their_limits() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("edge.jsonl");
    let mut cluster = Cluster::builder().edge("--audit-log", path.display()).start().await;
    let headers = "X-Canary: a\r\n".repeat(65);
    let request = format!("GET / HTTP/1.1\r\nHost: a\r\n{headers}\r\n");
    assert!(exchange(cluster.clients, request.as_bytes()).await.starts_with("HTTP/1.1 431"));
    let mut client = cluster.json("ada").await;
    let deep = "[".repeat(65) + "\"canary\"" + &"]".repeat(65);
    for _ in 0..2 {
        client.send(format!(r#"{{"event":"canary","data":{deep},"id":1}}"#)).await;
        assert_eq!(client.message().await["error"]["code"], "bad_request");
    }
    let process = cluster.process(Program::EdgeGateway);
    process.terminate();
    assert_eq!(process.exit_code().await, Some(0));

    let text = std::fs::read_to_string(&path).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let told: Vec<_> = lines
        .filter(|line| line["event"] == "limit")
        .map(|line| (line["reason"].clone(), line["address"].clone(), line["subject"].clone()))
        .collect();
    let expected = [
        (json!("headers"), json!("127.0.0.1"), Value::Null),
        (json!("json_depth"), json!("127.0.0.1"), json!("ada")),
    ];
    assert_eq!(told, expected, "{text}");
    assert!(!text.contains("canary"), "{text}");
}
