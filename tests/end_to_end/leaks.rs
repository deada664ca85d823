//! What clients cost in memory: little while they idle, nothing once they are gone.

use serde_json::{Value, json};

use crate::{
    reflection,
    support::{Cluster, Incoming, Program, SOCKET_IO_PATH, WebSocket, eventually},
};

const ROUNDS_COUNT: usize = 18;
const CLIENTS_COUNT: usize = 250;
/// A process gets its memory in steps of 2 MiB here, of which one may come late. Of the 4,000 clients behind the first two rounds, a
/// little more than a kilobyte lost with each takes two.
const GROWTH_BYTES_MAX: u64 = 5 * 512 * 1024;

const IDLE_COUNT: usize = 600;
/// About three times of what was measured. Whatever keeps a buffer of the handshake or of an answer is far above.
const IDLE_BYTES_MAX: u64 = 10 * 1024;

/// Ends a life in one of the ways in which clients do.
async fn live_and_go(cluster: &Cluster, number: usize) {
    let user = format!("user-{}", number % 50);
    match number % 5 {
        0 => {
            let mut client = cluster.json(&user).await;
            client.request("join", json!("lobby")).await.unwrap();
        }
        1 => {
            let mut socket = WebSocket::open(cluster.clients, SOCKET_IO_PATH, &[]).await;
            socket.next().await;
            socket.send("nonsense").await;
            while !matches!(socket.next().await, Incoming::Closed(_)) {}
        }
        2 => {
            let mut client = cluster.socket_io(&user).await;
            client.ask("join", json!(format!("room {number}"))).await;
            client.send("41/chat,").await;
        }
        3 => {
            let mut client = cluster.socket_io(&user).await;
            client.request("join", json!("lobby")).await;
            client.close().await;
        }
        _ => {
            let mut client = cluster.socket_io(&user).await;
            client.ask("join", json!("lobby")).await;
            client.ask("message", json!({"room": "lobby", "text": "and gone"})).await;
        }
    }
}

#[tokio::test]
async fn an_idle_client_costs_little() {
    // They answer no ping, and are not to be closed for that.
    let mut cluster = Cluster::builder().edge("--edge-ping-interval", "1h").start().await;
    // The first ones warm up what all of them share.
    let mut clients = vec![cluster.socket_io("first").await, cluster.socket_io("second").await];
    let before = cluster.process(Program::EdgeGateway).resident_bytes();

    for number in 0..IDLE_COUNT {
        clients.push(cluster.socket_io(&format!("user-{number}")).await);
    }

    let after = cluster.process(Program::EdgeGateway).resident_bytes();
    let each = after.saturating_sub(before) / IDLE_COUNT as u64;
    assert!(each < IDLE_BYTES_MAX, "{each} bytes for each of {} clients", clients.len());
}

#[tokio::test]
async fn clients_that_come_and_go_leave_nothing_behind() {
    let mut cluster = Cluster::builder().chat("--chat-history-count-max=10").start().await;
    let mut resident = Vec::new();

    for _ in 0..ROUNDS_COUNT {
        for number in 0..CLIENTS_COUNT {
            live_and_go(&cluster, number).await;
        }
        eventually("all are gone", async || {
            let connections = cluster.metric("sockeye_edge_connections", &[]).await?;
            let sockets = cluster.metric("sockeye_edge_sockets", &[]).await?;
            (connections == 0.0 && sockets == 0.0).then_some(())
        })
        .await;
        resident.push(
            [Program::EdgeGateway, Program::ChatService]
                .map(|it| cluster.process(it).resident_bytes()),
        );
    }

    let rooms = eventually("nobody is in any room", async || {
        let answer = reflection::call(cluster.chat, "sockeye.chat.v1.ChatService/Rooms", "{}")
            .await
            .unwrap();
        let rooms = answer["rooms"].as_array().unwrap().clone();
        rooms.iter().all(|room| room["sockets"] == 0).then_some(rooms)
    })
    .await;
    let names: Vec<&Value> = rooms.iter().map(|room| &room["name"]).collect();
    assert_eq!(names, ["lobby"], "a room without members or a log is gone");
    let (warm, last) = (resident[1], resident[ROUNDS_COUNT - 1]);
    for (warm, last) in warm.into_iter().zip(last) {
        assert!(
            last.saturating_sub(warm) < GROWTH_BYTES_MAX,
            "memory after each round: {resident:?}"
        );
    }
}
