//! Other services that watch which sockets there are, and hear of each end.

use std::collections::BTreeSet;

use proto::chat::v1::{
    EndedSocket, WatchSocketsRequest, WatchSocketsResponse, socket_change::Kind,
};
use tonic::{Code, Streaming};

use crate::{
    edge::{all_announced, closed_for, opened, within_deadline},
    running::Running,
};

struct Watch {
    responses: Streaming<WatchSocketsResponse>,
    cursor: String,
    /// Those that are there, as far as it knows.
    live: BTreeSet<String>,
}

impl Watch {
    async fn start(service: &Running, cursor: &str) -> Self {
        let request = WatchSocketsRequest { cursor: cursor.to_owned(), ..Default::default() };
        let responses = service.chat().await.watch_sockets(request).await.unwrap().into_inner();
        Self { responses, cursor: cursor.to_owned(), live: BTreeSet::new() }
    }

    async fn next(&mut self) -> WatchSocketsResponse {
        let next = within_deadline(self.responses.message()).await.unwrap();
        let response = next.expect("the stream goes on");
        self.cursor.clone_from(&response.cursor);
        response
    }

    /// Reads a whole snapshot.
    async fn snapshot(&mut self) {
        self.live.clear();
        loop {
            let response = self.next().await;
            let snapshot = response.snapshot.expect("a snapshot");
            assert_eq!(snapshot.more, response.cursor.is_empty());
            self.live.extend(snapshot.sockets.into_iter().map(|socket| socket.socket_id));
            if !snapshot.more {
                return;
            }
        }
    }

    /// The next changes, as lines.
    async fn changes(&mut self, count: usize) -> Vec<String> {
        let mut lines = Vec::new();
        while lines.len() < count {
            let response = self.next().await;
            assert!(response.snapshot.is_none());
            lines.extend(response.changes.into_iter().map(|change| match change.kind.unwrap() {
                Kind::Opened(socket) => format!("{} opened", socket.socket_id),
                Kind::Closed(EndedSocket { socket_id, subject, reason, .. }) => {
                    format!("{socket_id} of {subject}: {reason}")
                }
            }));
        }
        lines
    }
}

#[tokio::test]
async fn a_watcher_hears_of_each_socket_and_goes_on_where_it_was() {
    let service = Running::start().await;
    let mut edge = service.edge("one").await;
    edge.open(1, "ann").await;
    let mut watch = Watch::start(&service, "").await;
    watch.snapshot().await;
    assert_eq!(watch.live, BTreeSet::from(["public-1".to_owned()]));
    let start = watch.cursor.clone();

    edge.send(vec![opened(2, "/chat", "bob", None), opened(3, "/", "cat", None)]).await;
    edge.send(vec![closed_for(3, "ping_timeout"), closed_for(2, "ping_timeout")]).await;
    edge.send(vec![closed_for(1, "client_disconnect")]).await;

    let changes = [
        "public-2 opened",
        "public-2 of sub-bob: ping_timeout",
        "public-1 of sub-ann: client_disconnect",
    ];
    assert_eq!(watch.changes(3).await, changes);
    let mut again = Watch::start(&service, &start).await;
    assert_eq!(again.changes(3).await, changes);
}

#[tokio::test]
async fn the_end_of_sockets_whose_edge_is_lost_is_told_with_that_reason() {
    let service = Running::start_with(&["--chat-link-grace=50ms"]).await;
    let mut edge = service.edge("one").await;
    for (socket, user) in [(1, "ann"), (2, "bob")] {
        edge.open(socket, user).await;
    }
    let mut watch = Watch::start(&service, "").await;
    watch.snapshot().await;

    edge.cut();

    let mut lost = watch.changes(2).await;
    lost.sort_unstable();
    assert_eq!(lost, ["public-1 of sub-ann: edge_lost", "public-2 of sub-bob: edge_lost"]);
}

#[tokio::test]
async fn sockets_that_are_announced_again_have_not_ended_and_the_others_have() {
    let service = Running::start_with(&["--chat-link-grace=100ms"]).await;
    let mut edge = service.edge("one").await;
    for (socket, user) in [(1, "ann"), (2, "bob")] {
        edge.open(socket, user).await;
    }
    let mut watch = Watch::start(&service, "").await;
    watch.snapshot().await;

    edge.cut();
    edge.backend_id.clear();
    assert!(!edge.attach(&service).await.resumed);
    edge.send(vec![opened(1, "/chat", "ann", Some(&[])), all_announced()]).await;

    assert_eq!(watch.changes(1).await, ["public-2 of sub-bob: edge_lost"]);
}

#[tokio::test]
async fn after_a_restart_a_watcher_is_told_who_is_there_when_all_edges_have_had_the_time() {
    let service = Running::start().await;
    let mut edge = service.edge("one").await;
    for socket in 1..=300 {
        edge.send(vec![opened(socket, "/chat", "ann", None)]).await;
    }
    edge.wait_until_acknowledged().await;
    let mut watch = Watch::start(&service, "").await;
    watch.snapshot().await;
    assert_eq!(watch.live.len(), 300);
    edge.cut();
    let listen = format!("--chat-listen={}", service.address);
    service.stop().await;
    let end = within_deadline(watch.responses.message()).await;
    assert_eq!(end.map_err(|status| status.code()), Err(Code::Unavailable));

    let service = Running::start_with(&[&listen, "--chat-link-grace=1s"]).await;
    let mut watch = Watch::start(&service, &watch.cursor).await;
    edge.attach(&service).await;
    let announced = (1..=299).map(|socket| opened(socket, "/chat", "ann", Some(&[])));
    edge.send(announced.chain([all_announced()]).collect()).await;

    watch.snapshot().await;
    assert_eq!(watch.live.len(), 299);
    assert!(!watch.live.contains("public-300"));
}

#[tokio::test]
async fn what_is_no_cursor_is_refused_and_so_is_one_watcher_too_many() {
    let service = Running::start().await;
    let mut chat = service.chat().await;
    let bad = WatchSocketsRequest { cursor: "x".to_owned(), ..Default::default() };
    assert_eq!(chat.watch_sockets(bad).await.unwrap_err().code(), Code::InvalidArgument);

    let mut watchers = Vec::new();
    for _ in 0..64 {
        watchers.push(chat.watch_sockets(WatchSocketsRequest::default()).await.unwrap());
    }
    let refused = chat.watch_sockets(WatchSocketsRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
}
