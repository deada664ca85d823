//! The chat service falls silent: its process stands still, and its connections stay up.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::traffic::ROOM;
use crate::support::{Cluster, Program, eventually, get};

/// Two seconds until the edge asks, three for the answer, and as much again for a machine that is busy.
const NOTICED_WITHIN: Duration = Duration::from_secs(10);

/// Longer than the lease of an edge: when the chat service goes on, all it has heard of edges is older than that.
const EVENT_TIMEOUT: &str = "12s";

fn message(text: &str) -> Value {
    json!({"room": ROOM, "text": text})
}

/// Waits until the edge has no link to the chat service.
pub(super) async fn noticed(cluster: &Cluster) {
    eventually("the edge notices", async || {
        (get(cluster.ops, "/readyz").await.status == 503).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_silent_chat_service_is_noticed_and_goes_on_as_if_nothing_had_been() {
    let cluster = Cluster::builder().on_disk().edge("--edge-shards", 2);
    let mut cluster = cluster.edge("--edge-event-timeout", EVENT_TIMEOUT).start().await;
    let mut alice = cluster.socket_io("alice").await;
    let mut bob = cluster.json("bob").await;
    alice.request("join", json!(ROOM)).await;
    bob.request("join", json!(ROOM)).await.unwrap();
    alice.event("presence").await;
    alice.request("message", message("before")).await;
    assert_eq!(bob.event("message").await["text"], "before");

    cluster.process(Program::ChatService).pause();
    let silent_since = Instant::now();
    // On their way when nobody knows yet, with an answer and without.
    let given_up = alice.ask("message", message("given up")).await;
    bob.emit("message", message("given up too")).await;
    noticed(&cluster).await;
    assert!(silent_since.elapsed() < NOTICED_WITHIN, "{:?}", silent_since.elapsed());
    // Never sent. By the time that it is given up, the others have been for seconds: what the chat service takes their age for may be
    // too little by as much as the fastest frame took to reach it.
    let unsent = alice.ask("message", message("unsent")).await;
    let answer = alice.find(|packet| packet.ack_id == Some(given_up)).await;
    assert_eq!(answer.data[0]["error"]["code"], "unavailable", "{answer:?}");
    assert_eq!(bob.event("exception").await["code"], "unavailable");
    let answer = alice.find(|packet| packet.ack_id == Some(unsent)).await;
    assert_eq!(answer.data[0]["error"]["code"], "unavailable", "{answer:?}");
    let patient = alice.ask("message", message("patient")).await;
    cluster.process(Program::ChatService).go_on();

    let answer = alice.find(|packet| packet.ack_id == Some(patient)).await;
    assert!(answer.data[0]["position"].is_string(), "{answer:?}");
    assert_eq!(bob.event("message").await["text"], "patient");
    bob.request("message", message("after")).await.unwrap();
    let history = alice.request("history", json!({"room": ROOM})).await;
    let texts = history["messages"].as_array().unwrap().iter().map(|one| &one["text"]);
    assert_eq!(texts.collect::<Vec<_>>(), ["before", "patient", "after"]);
    for text in ["before", "patient", "after"] {
        assert_eq!(alice.event("message").await["text"], text);
    }
    assert_eq!(alice.unread_events().await, [] as [&str; 0], "nobody is said to have gone");
    assert_eq!(cluster.metric("sockeye_edge_connections", &[]).await, Some(2.0));
}
