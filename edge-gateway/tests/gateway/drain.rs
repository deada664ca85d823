//! What clients see of an edge that is being stopped.

use std::{
    io::{self, Read, Write},
    net::SocketAddr,
    sync::Arc,
    thread,
};

use service_kit::shutdown::Shutdown;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Semaphore,
};

use crate::support::{Edge, echo::Echo, poller::Poller, status_becomes, within};

const POLLING: &str = "GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nhost: edge\r\n\r\n";

/// The answer to whoever would open a session, without its date.
fn told_to_come_again() -> String {
    let body = r#"{"error":{"code":"unavailable","message":"the edge is being stopped; try again","retryable":true,"retry_after_ms":1000}}"#;
    format!(
        "HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-type: application/json\r\n\
        retry-after: 1\r\ncache-control: no-store\r\nx-content-type-options: nosniff\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Sends a request on a connection that is there already; returns the answer, which is the last, without its date.
async fn last_answer(mut client: TcpStream, request: &str) -> String {
    client.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    within("the last answer", client.read_to_string(&mut answer)).await.unwrap();
    let lines = answer.split_inclusive("\r\n").filter(|line| !line.starts_with("date: "));
    lines.collect()
}

/// A connection on which a page was asked for.
async fn connected(edge: &Edge) -> TcpStream {
    let mut client = TcpStream::connect(edge.address).await.unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nhost: edge\r\n\r\n").await.unwrap();
    within("a page", client.read(&mut [0; 1024])).await.unwrap();
    client
}

#[tokio::test]
async fn who_waits_to_be_accepted_when_the_edge_is_stopped_is_answered() {
    let edge = Echo::bound(&[]).await;
    let mut waiting = Vec::new();
    for _ in 0..32 {
        let mut client = TcpStream::connect(edge.local_addr()).await.unwrap();
        let request = POLLING.replace("socket.io", "engine.io");
        client.write_all(request.as_bytes()).await.unwrap();
        waiting.push(client);
    }
    let (trigger, shutdown) = Shutdown::new();

    trigger.trigger();
    within("the edge's end", edge.run(shutdown)).await.unwrap();

    for client in waiting {
        let answer = last_answer(client, "").await;
        assert_eq!(answer, told_to_come_again());
    }
}

/// Connects again and again until that is refused, and asks for a page each time; returns how many were not answered.
fn come_and_come(address: SocketAddr, came: &Semaphore) -> usize {
    let mut clients = Vec::new();
    while let Ok(mut client) = std::net::TcpStream::connect(address) {
        let asked = client.write_all(b"GET / HTTP/1.1\r\nhost: edge\r\nconnection: close\r\n\r\n");
        clients.push(asked.map(|()| client));
        came.add_permits(1);
    }
    let answer =
        |client: io::Result<std::net::TcpStream>| client?.read_to_string(&mut String::new());
    let answers = clients.into_iter().map(answer);
    answers.filter(|answer| !matches!(answer, Ok(1..))).count()
}

#[tokio::test]
async fn nobody_who_connects_while_the_edge_is_stopped_is_reset() {
    for _ in 0..4 {
        let edge = Echo::bound(&[]).await;
        let address = edge.local_addr();
        let came = Arc::new(Semaphore::new(0));
        let clients = (0..4).map(|_| {
            let came = Arc::clone(&came);
            thread::spawn(move || come_and_come(address, &came))
        });
        let clients: Vec<_> = clients.collect();
        let (trigger, shutdown) = Shutdown::new();
        let stopped = async {
            came.acquire_many(100).await.unwrap().forget();
            trigger.trigger();
        };

        let (ended, ()) =
            within("the edge's end", async { tokio::join!(edge.run(shutdown), stopped) }).await;

        ended.unwrap();
        for client in clients {
            assert_eq!(client.join().unwrap(), 0, "without an answer");
        }
    }
}

#[tokio::test]
async fn who_would_open_a_session_is_told_to_come_again_and_others_are_answered() {
    let (edge, _stream) = Edge::attached(&[]).await;
    let websocket = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let upgrade = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: edge\r\n{websocket}");
    let requests =
        [POLLING.to_owned(), upgrade("/socket.io/?EIO=4&transport=websocket"), upgrade("/ws")];
    let mut late = Vec::new();
    for _ in &requests {
        late.push(connected(&edge).await);
    }
    let (page, poll) = (connected(&edge).await, connected(&edge).await);
    let session = Poller::open(&edge).await;

    edge.stop();
    status_becomes(edge.ops, "/readyz", 503).await;

    for (client, request) in late.into_iter().zip(&requests) {
        assert_eq!(last_answer(client, request).await, told_to_come_again(), "{request}");
    }
    let answer = last_answer(page, "GET / HTTP/1.1\r\nhost: edge\r\nconnection: close\r\n\r\n");
    assert!(answer.await.starts_with("HTTP/1.1 404"), "others are answered as ever");
    let request = format!("GET {} HTTP/1.1\r\nhost: edge\r\n\r\n", session.path("polling"));
    let answer = last_answer(poll, &request).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("\r\n\r\n1"), "{answer}");
    edge.stopped().await;
}
