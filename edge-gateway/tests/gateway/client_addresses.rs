//! Where clients are: what proxies say counts if they are trusted, and nobody else's word does.

use proto::edge::v1::SocketOpened;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_tungstenite::{MaybeTlsStream, client_async, tungstenite::client::IntoClientRequest};

use crate::support::{Client, Edge, Stream, get, within};

const TERMS: &str = "[namespace.'/chat']\nhandshake = { address = true }";
const PATH: &str = "/socket.io/?EIO=4&transport=websocket";

async fn address_of(stream: &mut Stream) -> String {
    let (_, SocketOpened { handshake, .. }) = stream.opened().await;
    handshake.unwrap().address
}

async fn enter(client: &mut Client) {
    client.text().await;
    client.send(r#"40/chat,{"token":"ok:alice"}"#).await;
}

fn header_of(client: [u8; 4]) -> Vec<u8> {
    let addresses = [client, [192, 0, 2, 1]].concat();
    [b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c", &addresses[..], &[0xc0, 1, 0, 80]].concat()
}

#[tokio::test]
async fn a_trusted_proxy_says_where_a_client_is() {
    let (edge, mut stream) = Edge::with_terms(TERMS, &["--edge-trusted-proxy=127.0.0.0/8"]).await;

    let said = [("x-forwarded-for", "6.6.6.6, 203.0.113.7"), ("forwarded", "for=6.6.6.6")];
    let mut client = edge.websocket_with(PATH, &said).await;
    enter(&mut client).await;

    assert_eq!(address_of(&mut stream).await, "203.0.113.7");
}

#[tokio::test]
async fn a_stranger_does_not() {
    let (edge, mut stream) = Edge::with_terms(TERMS, &["--edge-trusted-proxy=10.0.0.0/8"]).await;

    let said = [("x-forwarded-for", "10.0.0.1"), ("forwarded", "for=10.0.0.1")];
    let mut client = edge.websocket_with(PATH, &said).await;
    enter(&mut client).await;

    assert_eq!(address_of(&mut stream).await, "127.0.0.1");
}

#[tokio::test]
async fn the_other_header_can_be_chosen() {
    let flags = ["--edge-trusted-proxy=127.0.0.1", "--edge-forwarded-header=forwarded"];
    let (edge, mut stream) = Edge::with_terms(TERMS, &flags).await;

    let said = [("x-forwarded-for", "6.6.6.6"), ("forwarded", "for=203.0.113.7;proto=https")];
    let mut client = edge.websocket_with(PATH, &said).await;
    enter(&mut client).await;

    assert_eq!(address_of(&mut stream).await, "203.0.113.7");
}

#[tokio::test]
async fn proxy_protocol_says_where_a_client_is() {
    let flags = ["--edge-trusted-proxy=127.0.0.1", "--edge-proxy-protocol"];
    let (edge, mut stream) = Edge::with_terms(TERMS, &flags).await;
    let mut connection = TcpStream::connect(edge.address).await.unwrap();
    connection.write_all(&header_of([203, 0, 113, 7])).await.unwrap();

    let mut request = format!("ws://{}{PATH}", edge.address).into_client_request().unwrap();
    // The client's own words count for nothing: it is no proxy.
    request.headers_mut().insert("x-forwarded-for", "6.6.6.6".parse().unwrap());
    let connection = MaybeTlsStream::Plain(connection);
    let (upgraded, _) = within("a handshake", client_async(request, connection)).await.unwrap();
    let mut client = Client { stream: upgraded };
    enter(&mut client).await;

    assert_eq!(address_of(&mut stream).await, "203.0.113.7");
}

#[tokio::test]
async fn without_a_proxys_header_a_connection_is_closed() {
    let flags = ["--edge-trusted-proxy=127.0.0.1", "--edge-proxy-protocol"];
    let (edge, _stream) = Edge::attached(&flags).await;
    let stranger = ["--edge-trusted-proxy=10.0.0.0/8", "--edge-proxy-protocol"];
    let (other, _other_stream) = Edge::attached(&stranger).await;
    let request = b"GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: a\r\n\r\n";
    let version_1 = [b"PROXY TCP4 203.0.113.7 192.0.2.1 1 2\r\n", &request[..]].concat();
    let trusted_only = [header_of([203, 0, 113, 7]), request.to_vec()].concat();

    for (address, bytes) in
        [(edge.address, request.to_vec()), (edge.address, version_1), (other.address, trusted_only)]
    {
        let mut connection = TcpStream::connect(address).await.unwrap();
        connection.write_all(&bytes).await.unwrap();
        let mut answer = Vec::new();
        // What was not read has the kernel reset the connection.
        within("its end", connection.read_to_end(&mut answer)).await.ok();
        assert!(answer.is_empty(), "{answer:?}");
    }

    let metrics = get(edge.ops, "/metrics").await;
    assert!(metrics.contains("sockeye_edge_refused_proxy_headers_total"), "{metrics}");
}
