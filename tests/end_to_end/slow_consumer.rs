//! A client that does not read costs little, hurts nobody, and gets what it missed when it reads again.

use std::collections::VecDeque;

use serde_json::{Value, json};

use crate::support::{
    Cluster, Incoming, JsonClient, Program, SOCKET_IO_PATH, SocketIoClient, WebSocket, eventually,
};

/// More than the kernel's buffers and the log of a room hold together.
const MESSAGES_COUNT: usize = 1500;
/// More than the kernel's buffers hold, and so little more that the log has it.
const PAUSE_COUNT: usize = 350;
const TEXT_BYTES: usize = 16_000;
const OUTBOX_BYTES_MAX: u64 = 256 * 1024;
/// For the clients that read, the kernel's own buffers aside, and an allocator that keeps what it once had.
const GROWTH_BYTES_MAX: u64 = 4 * 1024 * 1024;

const CLOSES: &str = "sockeye_edge_closes_total";

/// A sender, a reader, and a client that does not read, all in the lobby.
struct Scene {
    cluster: Cluster,
    sender: JsonClient,
    reader: SocketIoClient,
    slow: WebSocket,
    said: usize,
}

impl Scene {
    async fn start(history: usize, flags: &[(&str, &str)]) -> Self {
        let mut builder = Cluster::builder()
            .edge("--edge-outbox-bytes-max", OUTBOX_BYTES_MAX)
            .edge("--edge-events-per-second", 1_000_000)
            .edge("--edge-events-burst", 1_000_000)
            .chat(format!("--chat-history-count-max={history}"))
            .chat("--chat-presence-grace=0s");
        for (flag, value) in flags {
            builder = builder.edge(flag, value);
        }
        let cluster = builder.start().await;
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
        Self { cluster, sender, reader, slow, said: 0 }
    }

    /// Says something that the sender and the reader must see at once.
    async fn say(&mut self, text_bytes: usize) {
        let id = format!("m{}", self.said);
        self.said += 1;
        let message = json!({"room": "lobby", "text": "x".repeat(text_bytes), "id": id});
        self.sender.request("message", message).await.unwrap();
        assert_eq!(self.sender.event("message").await["id"], *id);
        assert_eq!(self.reader.event("message").await["id"], *id);
    }

    /// Says that much, while the slow client does not read. The edge must not grow.
    async fn say_all(&mut self, count: usize) {
        let before = self.cluster.process(Program::EdgeGateway).resident_bytes();
        let mut largest = before;
        for _ in 0..count {
            self.say(TEXT_BYTES).await;
            largest = largest.max(self.cluster.process(Program::EdgeGateway).resident_bytes());
        }
        let growth = largest - before;
        assert!(growth < GROWTH_BYTES_MAX, "grew by {growth} bytes");
    }

    async fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        self.cluster.metric(name, labels).await.unwrap_or_default()
    }

    /// The next event that the slow client reads.
    async fn read(&mut self) -> (String, Value) {
        loop {
            let Incoming::Text(text) = self.slow.next().await else {
                panic!("the connection has ended")
            };
            if text == "2" {
                self.slow.send("3").await;
                continue;
            }
            let mut event: VecDeque<Value> =
                serde_json::from_str(text.strip_prefix("42/chat,").unwrap()).unwrap();
            let name = event.pop_front().unwrap().as_str().unwrap().to_owned();
            return (name, event.pop_front().unwrap());
        }
    }

    async fn is_behind_no_more(&self) {
        let caught_up = eventually("the client is behind no more", async || {
            (!self.is_behind().await).then_some(())
        });
        caught_up.await;
    }

    async fn is_behind(&self) -> bool {
        self.metric("sockeye_edge_lagging_connections", &[]).await > 0.0
    }
}

#[tokio::test]
async fn a_client_that_pauses_under_traffic_gets_every_message_once_and_in_order() {
    let mut scene = Scene::start(1000, &[]).await;

    scene.say_all(PAUSE_COUNT).await;
    assert!(scene.is_behind().await);
    let waiting = scene.metric("sockeye_edge_outbox_bytes", &[]).await;
    assert!(waiting <= OUTBOX_BYTES_MAX as f64 / 2.0, "{waiting}");

    let mut seen = 0;
    while seen < scene.said {
        let (name, message) = scene.read().await;
        assert_eq!((&*name, &message["id"]), ("message", &json!(format!("m{seen}"))));
        seen += 1;
        if seen % 10 == 0 && scene.said < PAUSE_COUNT + 30 {
            // The room goes on while it catches up.
            scene.say(TEXT_BYTES).await;
        }
    }
    scene.is_behind_no_more().await;
    assert!(scene.metric("sockeye_edge_refills_total", &[]).await > 5.0);
    assert!(scene.metric("sockeye_edge_collapsed_total", &[]).await > 50.0);
    // It may have fallen behind again when the room went on.
    assert!(scene.metric("sockeye_edge_caught_up_total", &[]).await > 0.0);
    assert_eq!(scene.metric(CLOSES, &[]).await, 0.0);
    scene.say(TEXT_BYTES).await;
    assert_eq!(scene.read().await.1["id"], *format!("m{seen}"));
}

#[tokio::test]
async fn a_client_whose_missed_messages_are_gone_is_told_and_goes_on() {
    let mut scene = Scene::start(10, &[]).await;
    scene.say_all(MESSAGES_COUNT).await;

    let mut seen = 0;
    let gap = loop {
        let (name, data) = scene.read().await;
        if name != "message" {
            break data;
        }
        assert_eq!(data["id"], *format!("m{seen}"));
        seen += 1;
    };
    assert_eq!((&gap["code"], &gap["room"]), (&json!("gap"), &json!("lobby")));
    assert!(seen < MESSAGES_COUNT - 10, "{seen}");
    let caught_up =
        eventually("it is behind no more", async || (!scene.is_behind().await).then_some(()));
    caught_up.await;
    scene.say(TEXT_BYTES).await;
    assert_eq!(scene.read().await.1["id"], *format!("m{MESSAGES_COUNT}"));
}

#[tokio::test]
async fn a_client_that_never_reads_is_closed_and_resumes_where_it_was() {
    let flags = [("--edge-ping-interval", "2s"), ("--edge-ping-timeout", "2s")];
    let mut scene = Scene::start(100_000, &flags).await;
    while scene.metric(CLOSES, &[]).await == 0.0 {
        // The room's log must have what it misses in the end, and the reader must have something to read, so that it sees
        // its pings.
        let text_bytes = if scene.is_behind().await { 1 } else { TEXT_BYTES };
        scene.say(text_bytes).await;
    }
    let left = scene
        .reader
        .find(|packet| packet.event().is_some_and(|(_, data)| data["left"][0]["id"] == "slow"))
        .await;
    assert_eq!(left.data[0], "presence");
    assert_eq!(scene.metric(CLOSES, &[]).await, 1.0);
    let given_back = eventually("the outbox is given back", async || {
        (scene.metric("sockeye_edge_outbox_bytes", &[]).await == 0.0).then_some(())
    });
    given_back.await;
    scene.is_behind_no_more().await;

    let mut seen = 0;
    let mut position = Value::Null;
    while let Incoming::Text(text) = scene.slow.next().await {
        if let Some(event) = text.strip_prefix("42/chat,") {
            let event: Value = serde_json::from_str(event).unwrap();
            assert_eq!(event[1]["id"], *format!("m{seen}"));
            position = event[1]["position"].clone();
            seen += 1;
        }
    }
    let mut back = scene.cluster.json("slow").await;
    back.request("join", json!("lobby")).await.unwrap();
    assert!(seen > 0 && seen < scene.said, "{seen}");
    while seen < scene.said {
        let page = json!({"room": "lobby", "after": position, "limit": 1000});
        let page = back.request("history", page).await.unwrap();
        for message in page["messages"].as_array().unwrap() {
            assert_eq!(message["id"], *format!("m{seen}"));
            position = message["position"].clone();
            seen += 1;
        }
    }
}
