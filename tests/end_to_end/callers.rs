//! Connections to the listeners for services, of callers that do not call.

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{Cluster, Program, eventually, get, own_host, within};

#[tokio::test]
async fn whoever_connects_and_says_nothing_is_cut_at_every_listener() {
    let host = own_host();
    let mut cluster = Cluster::builder()
        .edge("--edge-peer-listen", format!("{host}:0"))
        .auth(format!("--auth-ops-listen={host}:0"))
        .chat(format!("--chat-ops-listen={host}:0"))
        .start()
        .await;
    let auth_ops = cluster.process(Program::AuthService).address("auth-service", "ops").await;
    let chat_ops = cluster.process(Program::ChatService).address("chat-service", "ops").await;
    let peers = cluster.process(Program::EdgeGateway).address("edge-gateway", "peers").await;

    for (service, listener, ops) in [
        ("auth-service", cluster.auth, auth_ops),
        ("chat-service", cluster.chat, chat_ops),
        ("edge-gateway", peers, cluster.ops),
    ] {
        let mut silent = TcpStream::connect(listener).await.unwrap();
        let mut heard = Vec::new();
        within("its end", silent.read_to_end(&mut heard)).await.ok();

        let metrics = get(ops, "/metrics").await.body;
        let name = "sockeye_grpc_refused_connections_total";
        let cut = format!("{name}{{service=\"{service}\",reason=\"silent\"}} 1");
        assert!(metrics.lines().any(|line| line == cut), "{service}: {metrics}");
    }
}

#[tokio::test]
async fn so_many_callers_are_connected_to_a_service_and_no_more() {
    let cluster = Cluster::builder().auth("--auth-grpc-connections-max=4").start().await;
    // Another address than the edge has.
    let connect = async || {
        let mut stream = TcpStream::connect(cluster.auth).await.unwrap();
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.ok()?;
        let mut header = [0; 9];
        stream.read_exact(&mut header).await.ok()?;
        Some(stream)
    };
    let mut open = Vec::new();
    for _ in 0..4 {
        let Some(stream) = within("an answer or an end", connect()).await else { break };
        open.push(stream);
    }
    assert!((1..=2).contains(&open.len()), "{} of one address", open.len());

    open.pop();

    eventually("there is room again", connect).await;
}

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
    let probes = r#"sockeye_grpc_handshakes_total{service="auth-service",outcome="hung_up"} 1"#;
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
