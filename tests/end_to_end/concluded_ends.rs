//! A business service concludes the ends that it was not told, each of them once.

use std::time::Duration;

use serde_json::json;

use crate::{
    echo_backend::{EDGE_LOST, EchoBackend, Ends, NAMESPACE, REASON_LOST},
    support::{Cluster, Program, SocketIoClient, eventually},
};

/// Its edge has two links: one to the backend, one to the chat service.
async fn cluster_with(echo: &EchoBackend) -> Cluster {
    let cluster = Cluster::builder().edge("--edge-shards", 1).route(NAMESPACE, echo.address());
    cluster.start().await
}

async fn links_up(cluster: &Cluster, count: f64) {
    let all = async || cluster.metric("sockeye_edge_links_up", &[]).await.filter(|up| *up == count);
    eventually("so many links are up", all).await;
}

/// Leaves the namespace; returns when the edge has taken note.
async fn leave(cluster: &Cluster, client: &mut SocketIoClient, subject: &str) {
    client.send(format!("41{NAMESPACE},")).await;
    client.connect("/chat", &json!({"token": cluster.mint.token(subject)})).await.unwrap();
}

/// Waits until so many ends are known.
async fn concluded(ends: &Ends, count: usize) -> Vec<(String, String)> {
    let known = async || Some(ends.concluded()).filter(|known| known.len() >= count);
    eventually("ends are known", known).await
}

fn end(subject: &str, reason: &str) -> (String, String) {
    (subject.to_owned(), reason.to_owned())
}

#[tokio::test]
async fn an_end_is_concluded_once_after_the_death_of_the_backend_and_not_again() {
    let mut echo = EchoBackend::start().await;
    let cluster = cluster_with(&echo).await;
    let mut alice = cluster.socket_io_in(NAMESPACE, "alice").await;
    let mut bob = cluster.socket_io_in(NAMESPACE, "bob").await;
    let mut carol = cluster.socket_io_in(NAMESPACE, "carol").await;
    let (address, ends) = (echo.address(), echo.ends());
    drop(echo);
    links_up(&cluster, 1.0).await;
    leave(&cluster, &mut alice, "alice").await;

    echo = EchoBackend::start_with(address, ends.clone()).await;

    let lost = end("alice", REASON_LOST);
    assert_eq!(concluded(&ends, 1).await[0], lost);
    leave(&cluster, &mut bob, "bob").await;
    let told = end("bob", "client_disconnect");
    assert_eq!(concluded(&ends, 2).await, [lost.clone(), told.clone()]);

    // What one life has concluded, or was told, the next does not conclude again.
    drop(echo);
    links_up(&cluster, 1.0).await;
    let _echo = EchoBackend::start_with(address, ends.clone()).await;
    assert_eq!(carol.request("echo", json!(1)).await, 1);
    leave(&cluster, &mut carol, "carol").await;
    let last = end("carol", "client_disconnect");
    assert_eq!(concluded(&ends, 3).await, [lost, told, last]);
}

#[tokio::test]
async fn the_sockets_of_an_edge_that_does_not_come_back_have_ended_when_its_lease_is_over() {
    let ends = Ends::new(Duration::from_millis(500));
    let echo = EchoBackend::start_with((crate::support::own_host(), 0).into(), ends.clone()).await;
    let mut cluster = cluster_with(&echo).await;
    let mut alice = cluster.socket_io_in(NAMESPACE, "alice").await;
    let _bob = cluster.socket_io_in(NAMESPACE, "bob").await;
    leave(&cluster, &mut alice, "alice").await;
    assert_eq!(concluded(&ends, 1).await, [end("alice", "client_disconnect")]);

    cluster.kill(Program::EdgeGateway);

    assert_eq!(concluded(&ends, 2).await[1..], [end("bob", EDGE_LOST)]);
}
