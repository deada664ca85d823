//! The edge's audit log: who entered, who was turned away, and who was cut off, each with the client's address.

use serde_json::{Value, json};

use crate::support::{Cluster, Program, SocketIoClient};

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
