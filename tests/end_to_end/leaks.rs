//! What clients cost in memory: little while they idle, nothing once they are gone.

use serde_json::{Value, json};

use crate::{
    reflection,
    support::{Cluster, Incoming, Program, SOCKET_IO_PATH, WebSocket, eventually},
};

/// Memory must stay where it is for so many rounds,
const STEADY_ROUNDS_COUNT: usize = 4;
/// of at most so many: an allocator takes what it needs in steps of megabytes, which may come late.
const ROUNDS_MAX: usize = 16;
const CLIENTS_COUNT: usize = 250;
/// What an allocator and the timer wheel keep for the next ones. In as many rounds as that, half a kilobyte lost with each client
/// would be more.
const GROWTH_BYTES_MAX: u64 = 512 * 1024;

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
    let mut resident: Vec<[u64; 2]> = Vec::new();

    while !is_steady(&resident) {
        assert!(resident.len() < ROUNDS_MAX, "memory after each round: {resident:?}");
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
}

/// Whether no process has grown in the last rounds, the first one not counted.
fn is_steady(resident: &[[u64; 2]]) -> bool {
    let [_, rounds @ ..] = resident else { return false };
    let [.., last] = rounds else { return false };
    let Some(earlier) = rounds.len().checked_sub(1 + STEADY_ROUNDS_COUNT) else { return false };
    let grown =
        rounds[earlier].iter().zip(last).map(|(before, after)| after.saturating_sub(*before));
    grown.max() < Some(GROWTH_BYTES_MAX)
}
