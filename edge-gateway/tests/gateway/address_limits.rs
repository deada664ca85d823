//! What one address may have and open, with clients that are told apart by what a proxy says.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{Client, Edge, get, limit_hits, within};

const POLLING: &str = "/socket.io/?EIO=4&transport=polling";
const WEBSOCKET: &str = "/socket.io/?EIO=4&transport=websocket";

/// So that loopback is limited as the Internet is.
const LIMITED: &str = "--edge-unlimited-address=192.0.2.0/24";
const PROXY: &str = "--edge-trusted-proxy=127.0.0.1";

/// Opens a session for a client that a proxy says is there.
async fn open_from(edge: &Edge, client: &str) -> String {
    let mut connection = TcpStream::connect(edge.address).await.unwrap();
    let request = format!(
        "GET {POLLING} HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {client}\r\nConnection: close\r\n\r\n"
    );
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    within("an answer", connection.read_to_string(&mut answer)).await.unwrap();
    answer
}

async fn hits(edge: &Edge, limit: &str) -> u64 {
    limit_hits(edge.ops, limit).await
}

#[tokio::test]
async fn an_address_has_so_many_sessions_and_no_more() {
    let (edge, _stream) = Edge::attached(&[LIMITED, "--edge-address-connections-max=2"]).await;
    let before = hits(&edge, "address_connections").await;
    let first = edge.socket_io().await;
    let _second = edge.websocket("/ws").await;

    let refused = get(edge.address, POLLING).await;

    assert!(refused.starts_with("HTTP/1.1 429"), "{refused}");
    assert!(refused.contains("\r\nretry-after: 10\r\n"), "{refused}");
    let body = r#"{"error":{"code":"rate_limited","message":"too many clients come from this address; try again later","retryable":true,"retry_after_ms":10000}}"#;
    assert!(refused.ends_with(body), "{refused}");
    assert!(hits(&edge, "address_connections").await > before);
    assert!(get(edge.address, "/").await.starts_with("HTTP/1.1 404"), "pages are no sessions");
    drop(first);
    within("room", async {
        while !get(edge.address, POLLING).await.starts_with("HTTP/1.1 200") {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn an_address_that_opens_too_fast_is_told_when_to_come_again() {
    let flags = [LIMITED, "--edge-address-opens-per-second=1", "--edge-address-opens-burst=2"];
    let (edge, _stream) = Edge::attached(&flags).await;
    let before = (hits(&edge, "address_delays").await, hits(&edge, "address_opens").await);

    let refused = {
        let asked: Vec<_> = (0..16).map(|_| Box::pin(get(edge.address, POLLING))).collect();
        let mut asked = futures_util::stream::FuturesUnordered::from_iter(asked);
        loop {
            let answer = futures_util::StreamExt::next(&mut asked);
            let answer = within("a refusal", answer).await.unwrap();
            if !answer.starts_with("HTTP/1.1 200") {
                break answer;
            }
        }
    };

    assert!(refused.starts_with("HTTP/1.1 429"), "{refused}");
    assert!(refused.contains("\r\nretry-after: 1\r\n"), "{refused}");
    assert!(hits(&edge, "address_delays").await > before.0);
    assert!(hits(&edge, "address_opens").await > before.1);
    edge.stop();
    edge.stopped().await;
}

#[tokio::test]
async fn clients_of_one_proxy_are_counted_each_by_its_own_address() {
    let (edge, _stream) =
        Edge::attached(&[LIMITED, PROXY, "--edge-address-connections-max=1"]).await;
    let is_in = async |client| open_from(&edge, client).await.starts_with("HTTP/1.1 200");

    assert!(is_in("203.0.113.7").await);
    assert!(is_in("203.0.113.8").await);
    assert!(!is_in("203.0.113.7").await, "a second of the same");
    assert!(!is_in("6.6.6.6, 203.0.113.7").await, "whatever it says of itself");
    assert!(is_in("2001:db8::1").await);
    assert!(!is_in("2001:db8::2").await, "another in the same network");
    assert!(is_in("2001:db8:0:1::1").await);
}

#[tokio::test]
async fn an_address_is_bounded_before_it_has_said_anything() {
    let (edge, _stream) = Edge::attached(&[LIMITED, "--edge-address-connections-max=2"]).await;
    let mut silent = Vec::new();
    for _ in 0..2 {
        silent.push(TcpStream::connect(edge.address).await.unwrap());
    }

    let mut third = TcpStream::connect(edge.address).await.unwrap();
    let read = within("its end", third.read(&mut [0; 1])).await;

    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    drop(silent);
    within("room", async {
        loop {
            let mut connection = TcpStream::connect(edge.address).await.unwrap();
            connection.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.ok();
            if connection.read(&mut [0; 1]).await.is_ok_and(|count| count == 1) {
                return;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn nobody_on_this_machine_is_limited_unless_that_is_said() {
    let flags = ["--edge-address-connections-max=1", "--edge-address-opens-burst=1"];
    let (edge, _stream) = Edge::attached(&flags).await;

    let mut clients = Vec::new();
    for _ in 0..5 {
        clients.push(Client::connect(edge.address, WEBSOCKET).await);
    }

    assert!(get(edge.address, POLLING).await.starts_with("HTTP/1.1 200"));
}
