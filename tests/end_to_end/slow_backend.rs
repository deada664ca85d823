//! A business service that does not read slows those who talk to it, and nobody else.

use serde_json::json;
use tokio::task::JoinSet;

use crate::{
    echo_backend::{EchoBackend, NAMESPACE, STALL},
    support::{Cluster, Program, eventually},
};

const EVENT_BYTES: usize = 64 * 1024;
/// Far more than may wait anywhere between the client and the service.
const EVENTS_COUNT: usize = 1000;
const WAITING_BYTES_MIN: f64 = 1024.0 * 1024.0;
/// What may wait for a business service, and one event more.
const WAITING_BYTES_MAX: f64 = 4.0 * 1024.0 * 1024.0 + 2.0 * EVENT_BYTES as f64;
const GROWTH_BYTES_MAX: u64 = 16 * 1024 * 1024;

#[tokio::test]
async fn a_backend_that_does_not_read_slows_only_those_who_talk_to_it() {
    let echo = EchoBackend::start().await;
    let mut cluster = Cluster::builder()
        .route(NAMESPACE, echo.address())
        .edge("--edge-events-per-second", 1_000_000)
        .edge("--edge-events-burst", 1_000_000)
        .start()
        .await;
    let mut flooding = cluster.socket_io_in(NAMESPACE, "flooding").await;
    let mut bystander = cluster.socket_io("bystander").await;
    bystander.request("join", json!("lobby")).await;
    let before = cluster.process(Program::EdgeGateway).resident_bytes();

    flooding.emit(STALL, json!(null)).await;
    let mut flood = JoinSet::new();
    flood.spawn(async move {
        for _ in 0..EVENTS_COUNT {
            flooding.emit("echo", json!("x".repeat(EVENT_BYTES))).await;
        }
    });
    eventually("events pile up at the edge", async || {
        cluster
            .metric("sockeye_edge_link_queue_bytes", &[])
            .await
            .filter(|bytes| *bytes > WAITING_BYTES_MIN)
    })
    .await;

    for number in 0..50 {
        let text = format!("number {number}");
        bystander.request("message", json!({"room": "lobby", "text": text})).await;
        assert_eq!(bystander.event("message").await["text"], text);
        let waiting = cluster.metric("sockeye_edge_link_queue_bytes", &[]).await.unwrap();
        assert!(waiting <= WAITING_BYTES_MAX, "{waiting} bytes wait");
    }
    let grown = cluster.process(Program::EdgeGateway).resident_bytes().saturating_sub(before);
    assert!(grown < GROWTH_BYTES_MAX, "grew by {grown} bytes");
    assert!(flood.try_join_next().is_none(), "whoever floods is not read any more");
}
