//! A client that does not read costs little, is closed, and hurts nobody.

use serde_json::json;

use crate::support::{Cluster, Incoming, Program, SOCKET_IO_PATH, WebSocket, eventually};

const MESSAGES_COUNT: usize = 1500;
const TEXT_BYTES: usize = 16_000;
const OUTBOX_BYTES_MAX: u64 = 256 * 1024;
/// For the clients that read, the kernel's own buffers aside, and an allocator that keeps what it once had.
const GROWTH_BYTES_MAX: u64 = 4 * 1024 * 1024;

#[tokio::test]
async fn a_client_that_does_not_read_is_closed_and_the_others_miss_nothing() {
    let mut cluster = Cluster::builder()
        .edge("--edge-outbox-bytes-max", OUTBOX_BYTES_MAX)
        .edge("--edge-events-per-second", 1_000_000)
        .edge("--edge-events-burst", 1_000_000)
        .chat("--chat-history-count-max=10")
        .chat("--chat-presence-grace=0s")
        .start()
        .await;
    let mut reader = cluster.socket_io("reader").await;
    reader.request("join", json!("lobby")).await;
    let mut sender = cluster.json("sender").await;
    sender.request("join", json!("lobby")).await.unwrap();
    let mut slow = WebSocket::open_with_small_buffer(cluster.clients, SOCKET_IO_PATH).await;
    slow.next().await;
    slow.send(format!("40/chat,{}", json!({"token": cluster.mint.token("slow")}))).await;
    slow.next().await;
    slow.send(r#"42/chat,0["join","lobby"]"#).await;
    slow.next().await;
    reader.unread_events().await;
    let before = cluster.process(Program::EdgeGateway).resident_bytes();

    let text = "x".repeat(TEXT_BYTES);
    let mut largest = before;
    for number in 0..MESSAGES_COUNT {
        let id = format!("m{number}");
        let message = json!({"room": "lobby", "text": text, "id": id});
        sender.request("message", message).await.unwrap();
        assert_eq!(sender.event("message").await["id"], *id);
        assert_eq!(reader.event("message").await["id"], *id);
        largest = largest.max(cluster.process(Program::EdgeGateway).resident_bytes());
    }

    assert!(largest - before < GROWTH_BYTES_MAX, "grew by {} bytes", largest - before);
    let closes = eventually("the slow client is closed", async || {
        cluster
            .metric("sockeye_edge_closes_total", &["slow_consumer"])
            .await
            .filter(|closes| *closes > 0.0)
    })
    .await;
    assert_eq!(closes, 1.0);
    let left = reader
        .find(|packet| packet.event().is_some_and(|(_, data)| data["left"][0]["id"] == "slow"))
        .await;
    assert_eq!(left.data[0], "presence");
    loop {
        if let Incoming::Closed(code) = slow.next().await {
            assert!(matches!(code, Some(4001) | None), "{code:?}");
            break;
        }
    }
    let queued = eventually("the outbox is given back", async || {
        cluster.metric("sockeye_edge_outbox_bytes", &[]).await.filter(|bytes| *bytes == 0.0)
    });
    queued.await;
}
