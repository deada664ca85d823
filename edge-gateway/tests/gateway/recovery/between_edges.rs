//! Sockets that move, because their clients come back to another edge.

use proto::edge::v1::{Accept, instruction::Kind};

use super::{Names, TERMS, come_back, enter, join, moves, next_event, resumed, suspended, to_room};
use crate::support::{Edge, Stream, authority::Authority};

/// Edge 2, and edge 1 that finds it there.
async fn two_edges(certificates: Option<&Authority>) -> [(Edge, Stream); 2] {
    let certified = certificates.map(|authority| authority.certify("edge.sockeye.internal"));
    let files = certified.map(|certified| certified.flags());
    let files: Vec<&str> = files.iter().flatten().map(String::as_str).collect();
    let listen = ["--edge-peer-listen=127.0.0.1:0", "--edge-number=2"];
    let owner = Edge::with_terms(TERMS, &[&listen[..], &files].concat()).await;
    let scheme = if certificates.is_some() { "https" } else { "http" };
    let peer = format!("--edge-peer=2={scheme}://{}", owner.0.peers.unwrap());
    let own = ["--edge-peer-listen=127.0.0.1:0", "--edge-number=1", &peer];
    [owner, Edge::with_terms(TERMS, &[&own[..], &files].concat()).await]
}

/// Brings a client back to edge 1 that edge 2 has lost.
async fn come_back_to_the_other(edges: [(Edge, Stream); 2]) {
    let [(owner, mut home), (other, mut away)] = edges;
    let (mut client, socket, names) = enter(&owner, &mut home, "alice").await;
    home.instruct([join(socket, "a"), Kind::Emit(to_room("a", "seen"))]).await;
    let (_, offset) = next_event(&mut client).await;
    drop(client);
    suspended(&mut home).await;
    home.instruct([Kind::Emit(to_room("a", "missed"))]).await;
    moves::edge_has_carried_out(&mut home).await;

    let mut client = other.socket_io().await;
    come_back(&mut client, "alice", &names, Some(&offset)).await;
    let (here, opened) = away.opened().await;
    assert!(opened.recovered);
    away.instruct([Kind::Accept(Accept { socket: here })]).await;

    assert_eq!(home.closed().await, (socket, "moved".to_owned()));
    assert_eq!(resumed(&mut away).await, here);
    assert_eq!(next_event(&mut client).await.0, "missed");
    assert_eq!(Names::of(&client.text().await), names);
}

#[tokio::test]
async fn a_client_that_comes_back_to_another_edge_misses_nothing() {
    come_back_to_the_other(two_edges(None).await).await;
}

#[tokio::test]
async fn a_client_that_comes_back_to_another_edge_with_certificates_misses_nothing() {
    let authority = Authority::new();

    come_back_to_the_other(two_edges(Some(&authority)).await).await;
}
