//! An edge without room opens no more sessions, says so, and goes on with those that it has. The signals are the system's own.

use std::{net::SocketAddr, time::Duration};

use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time,
};

use crate::support::{
    Cluster, Process, Program, SocketIoClient, eventually, exchange, get, within,
};

const OPEN: &str = "/socket.io/?EIO=4&transport=polling";

/// What a stranger may send, and the header of its frame: masked with zeros.
const MESSAGE_BYTES: usize = 65_536;
const FRAME_HEADER: [u8; 14] = [0x81, 0xff, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];

/// All services in one process. Sessions may stay for as long as a test takes.
async fn start(flags: &[&str]) -> (Process, SocketAddr, SocketAddr) {
    let listeners = ["edge", "edge-ops", "auth", "chat"];
    let own = ["--edge-connect-timeout=1h", "--edge-ping-interval=1h", "--edge-shards=1"];
    let mut settings: Vec<_> = own.iter().chain(flags).map(|&flag| flag.to_owned()).collect();
    settings.extend(listeners.map(|listener| format!("--{listener}-listen=127.0.0.1:0")));
    let mut sockeye = Process::start(Program::Sockeye, &settings, &[]);
    let clients = sockeye.address("edge-gateway", "clients").await;
    let ops = sockeye.address("edge-gateway", "ops").await;
    eventually("it is ready", async || (get(ops, "/readyz").await.status == 200).then_some(()))
        .await;
    (sockeye, clients, ops)
}

async fn status(clients: SocketAddr) -> u16 {
    get(clients, OPEN).await.status
}

async fn counted(ops: SocketAddr, limit: &str) -> bool {
    let metric = format!("sockeye_edge_limit_hits_total{{limit=\"{limit}\"}} ");
    let metrics = get(ops, "/metrics").await.body;
    let hits = metrics.lines().find_map(|line| line.strip_prefix(&metric).map(str::to_owned));
    hits.is_some_and(|hits| hits != "0")
}

/// A session on long-polling that goes on whatever happens: its path.
async fn session(clients: SocketAddr) -> String {
    let open = get(clients, OPEN).await.body;
    let open: serde_json::Value = serde_json::from_str(open.strip_prefix('0').unwrap()).unwrap();
    format!("{OPEN}&sid={}", open["sid"].as_str().unwrap())
}

async fn assert_goes_on(clients: SocketAddr, path: &str) {
    let post = format!(
        "POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nConnection: close\r\n\r\n3"
    );
    let answer = exchange(clients, post.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("ok"), "{answer}");
}

async fn assert_refused_with_a_time(clients: SocketAddr) {
    let request = format!("GET {OPEN} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let answer = exchange(clients, request.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(answer.contains("\r\nretry-after: 10\r\n"), "{answer}");
}

/// A WebSocket whose client is going to send all but the end of a message.
async fn websocket(clients: SocketAddr) -> TcpStream {
    let mut stream = within("a connection", TcpStream::connect(clients)).await.unwrap();
    let request = "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\
                   Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    within("an answer", stream.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 101");
    stream
}

#[tokio::test]
async fn without_memory_no_session_is_opened_and_the_live_go_on() {
    // All services are in it, unoptimized: half of this is in use before anybody comes.
    let (sockeye, clients, ops) = start(&["--edge-memory-bytes-max=128000000"]).await;
    let live = session(clients).await;
    let mut hostile = Vec::new();
    for _ in 0..1_200 {
        hostile.push(websocket(clients).await);
    }
    let message = [&FRAME_HEADER[..], &vec![b'4'; MESSAGE_BYTES - 1]].concat();

    for client in &mut hostile {
        within("a write", client.write_all(&message)).await.unwrap();
    }

    eventually("a refusal", async || (status(clients).await == 503).then_some(())).await;
    assert!(sockeye.resident_bytes() > 128_000_000 / 10 * 8);
    assert_refused_with_a_time(clients).await;
    assert_goes_on(clients, &live).await;
    assert!(counted(ops, "memory").await);
    let ready = get(ops, "/readyz").await;
    assert_eq!((ready.status, ready.body.contains("room")), (503, true), "{ready:?}");
    assert!(
        get(ops, "/metrics").await.body.contains("sockeye_edge_pressure{signal=\"memory\"} 1\n")
    );
    let readable = "sockeye_edge_pressure_readable{signal=\"memory\"} 1\n";
    assert!(get(ops, "/metrics").await.body.contains(readable));

    // What they had the edge keep is of no use to it any more.
    drop(hostile);
    eventually("there is room again", async || (status(clients).await == 200).then_some(())).await;
    assert_goes_on(clients, &live).await;
}

#[tokio::test]
async fn without_memory_volatile_events_are_dropped_and_others_are_not() {
    let cluster = Cluster::builder()
        .edge("--edge-memory-bytes-max", 64_000_000)
        .edge("--edge-connect-timeout", "1h")
        .edge("--edge-ping-interval", "1h")
        .start()
        .await;
    // Ada is at an edge that has memory.
    let (_other, address) = another_edge(&cluster).await;
    let mut ada = SocketIoClient::open(address).await;
    ada.connect("/chat", &json!({"token": cluster.mint.token("ada")})).await.unwrap();
    let mut bob = cluster.socket_io("bob").await;
    for client in [&mut ada, &mut bob] {
        client.request("join", json!("lobby")).await;
    }
    let mut hostile = Vec::new();
    for _ in 0..900 {
        hostile.push(websocket(cluster.clients).await);
    }
    let message = [&FRAME_HEADER[..], &vec![b'4'; MESSAGE_BYTES - 1]].concat();
    for client in &mut hostile {
        within("a write", client.write_all(&message)).await.unwrap();
    }
    eventually("a refusal", async || (status(cluster.clients).await == 503).then_some(())).await;

    let dropped =
        async || cluster.metric("sockeye_edge_drops_total", &[r#"reason="memory""#]).await;
    assert_eq!(dropped().await.filter(|dropped| *dropped > 0.0), None);
    let (mut from, mut to) = (&mut ada, &mut bob);
    for _ in 0..2 {
        from.emit("typing", json!({"room": "lobby", "typing": true})).await;
        from.request("message", json!({"room": "lobby", "text": "hello"})).await;

        let mut frame = to.frame().await;
        while !frame.contains("hello") {
            assert!(!frame.contains("typing"), "{frame}");
            frame = to.frame().await;
        }
        std::mem::swap(&mut from, &mut to);
    }
    // One on its way out, and one on its way in.
    let dropped = dropped().await;
    assert!(dropped.is_some_and(|dropped| dropped >= 2.0), "{dropped:?}");
}

/// One more edge of a cluster, and where its clients come.
pub(crate) async fn another_edge(cluster: &Cluster) -> (Process, SocketAddr) {
    let mut settings: Vec<String> =
        ["--edge-listen", "--edge-ops-listen"].map(|flag| format!("{flag}=127.0.0.1:0")).into();
    settings.push(format!("--edge-auth-url=http://{}", cluster.auth));
    settings.push(format!("--edge-route=/chat=http://{}", cluster.chat));
    let mut edge = Process::start(Program::EdgeGateway, &settings, &[]);
    let clients = edge.address("edge-gateway", "clients").await;
    let ops = edge.address("edge-gateway", "ops").await;
    eventually("it is ready", async || (get(ops, "/readyz").await.status == 200).then_some(()))
        .await;
    (edge, clients)
}

#[tokio::test]
async fn with_few_descriptors_left_no_session_is_opened_until_there_are_some() {
    let (sockeye, clients, ops) = start(&[]).await;
    let live = session(clients).await;
    // 64 are kept back, and 64 more must be there before sessions are opened again.
    sockeye.limit_descriptors(sockeye.descriptors() + 200);

    let flood = eventually("a refusal", async || {
        // Connections that say nothing are closed in time, so these are new ones each time.
        let mut flood = Vec::new();
        for _ in 0..150 {
            flood.push(within("a connection", TcpStream::connect(clients)).await.unwrap());
        }
        (status(clients).await == 503).then_some(flood)
    })
    .await;
    assert_goes_on(clients, &live).await;
    assert!(counted(ops, "descriptors").await);
    drop(flood);

    eventually("there is room again", async || (status(clients).await == 200).then_some(())).await;
    eventually("it is ready", async || (get(ops, "/readyz").await.status == 200).then_some(()))
        .await;
}

#[tokio::test]
async fn a_process_that_gets_no_processor_opens_no_session_until_it_keeps_up() {
    let (sockeye, clients, ops) = start(&["--edge-lag-max=300ms"]).await;
    let live = session(clients).await;

    eventually("a refusal", async || {
        sockeye.pause();
        time::sleep(Duration::from_secs(4)).await;
        sockeye.go_on();
        (status(clients).await == 503).then_some(())
    })
    .await;

    assert_goes_on(clients, &live).await;
    assert!(counted(ops, "loop_lag").await);
    assert!(get(ops, "/metrics").await.body.contains("sockeye_edge_loop_lag_seconds_bucket"));
    eventually("it keeps up again", async || (status(clients).await == 200).then_some(())).await;
}
