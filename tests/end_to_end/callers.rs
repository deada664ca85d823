//! Connections to the listeners for services, of callers that do not call.

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{Cluster, Program, eventually, get, own_host, within};

#[tokio::test]
async fn a_probe_is_counted_and_not_in_the_audit_log() {
    let directory = tempfile::tempdir().unwrap();
    let audit = directory.path().join("audit.jsonl");
    let mut cluster = Cluster::builder()
        .mutual_tls()
        .auth(format!("--audit-log={}", audit.display()))
        .auth(format!("--auth-ops-listen={}:0", own_host()))
        .start()
        .await;
    let listener = cluster.auth;
    let process = cluster.process(Program::AuthService);
    let ops = process.address("auth-service", "ops").await;

    drop(TcpStream::connect(listener).await.unwrap());
    let probes =
        r#"sockeye_grpc_handshakes_total{service="auth-service",outcome="hung_up"} 1"#;
    eventually("the probe is counted", async || {
        get(ops, "/metrics").await.body.lines().any(|line| line == probes).then_some(())
    })
    .await;
    let mut stranger = TcpStream::connect(listener).await.unwrap();
    stranger.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    within("the end of plaintext", stranger.read_to_end(&mut Vec::new())).await.ok();

    process.terminate();
    assert_eq!(process.exit_code().await, Some(0));
    let lines = std::fs::read_to_string(&audit).unwrap();
    let events = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let denied: Vec<Value> = events.filter(|event| event["event"] == "grpc_tls").collect();
    assert_eq!(denied.len(), 1, "{denied:?}");
    assert_eq!(denied[0]["reason"], "failed");
}
