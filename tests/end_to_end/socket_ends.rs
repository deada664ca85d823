//! Other services hear of the end of each socket, with the reason, also when the edge is killed.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use proto::chat::v1::{
    WatchSocketsRequest, WatchSocketsResponse, chat_service_client::ChatServiceClient,
    socket_change::Kind,
};
use serde_json::json;
use tonic::Streaming;

use crate::support::{Cluster, Program, within};

const LEASE: Duration = Duration::from_secs(2);

async fn watch(cluster: &Cluster) -> Streaming<WatchSocketsResponse> {
    let url = format!("http://{}", cluster.chat);
    let mut chat = ChatServiceClient::connect(url).await.unwrap();
    chat.watch_sockets(WatchSocketsRequest::default()).await.unwrap().into_inner()
}

/// Reads on until so many ends have come: by subject, why.
async fn ends(
    watch: &mut Streaming<WatchSocketsResponse>,
    count: usize,
) -> BTreeMap<String, String> {
    let mut ends = BTreeMap::new();
    while ends.len() < count {
        let next = within("sockets end", watch.message()).await.unwrap();
        for change in next.expect("the stream goes on").changes {
            if let Some(Kind::Closed(closed)) = change.kind {
                ends.insert(closed.subject, closed.reason);
            }
        }
    }
    ends
}

fn reasons<const COUNT: usize>(pairs: [(&str, &str); COUNT]) -> BTreeMap<String, String> {
    pairs.map(|(subject, reason)| (subject.to_owned(), reason.to_owned())).into()
}

#[tokio::test]
async fn each_end_is_told_with_its_reason_and_within_a_lease_when_the_edge_is_killed() {
    let lease = format!("--chat-link-grace={}s", LEASE.as_secs());
    let mut cluster = Cluster::builder().chat(lease).start().await;
    let mut alice = cluster.socket_io("alice").await;
    let bob = cluster.json("bob").await;
    let mut carol = cluster.json("carol").await;
    carol.request("join", json!("lobby")).await.unwrap();
    let mut watch = watch(&cluster).await;

    alice.send("41/chat,").await;
    bob.close().await;
    let seen = ends(&mut watch, 2).await;
    assert_eq!(seen, reasons([("alice", "client_disconnect"), ("bob", "closed_by_client")]));

    let killed_at = Instant::now();
    cluster.kill(Program::EdgeGateway);
    assert_eq!(ends(&mut watch, 1).await, reasons([("carol", "edge_lost")]));

    assert!(killed_at.elapsed() < 2 * LEASE, "{:?}", killed_at.elapsed());
}
