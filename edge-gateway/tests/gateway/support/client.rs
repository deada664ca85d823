//! Clients that read and write raw frames, and plain HTTP.

use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, client_async,
    tungstenite::{Message, client::IntoClientRequest},
};

use super::within;

/// A WebSocket client that knows nothing of Engine.IO or Socket.IO.
pub(crate) struct Client {
    pub(crate) stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr, path: &str) -> Self {
        let url = format!("ws://{address}{path}");
        Self::upgraded(url.into_client_request().unwrap()).await
    }

    pub(crate) async fn upgraded(request: http::Request<()>) -> Self {
        let connected = tokio_tungstenite::connect_async(request);
        let (stream, _) = within("a handshake", connected).await.unwrap();
        Self { stream }
    }

    /// One whose owner will not read: what it leaves unread is soon the edge's problem.
    pub(crate) async fn with_small_buffer(address: SocketAddr, path: &str) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let stream =
            MaybeTlsStream::Plain(within("a connection", socket.connect(address)).await.unwrap());
        let request = format!("ws://{address}{path}").into_client_request().unwrap();
        let (stream, _) = within("a handshake", client_async(request, stream)).await.unwrap();
        Self { stream }
    }

    pub(crate) async fn send(&mut self, text: &str) {
        within("a write", self.stream.send(Message::text(text))).await.unwrap();
    }

    /// Several frames in one write, so that they arrive together.
    pub(crate) async fn send_at_once(&mut self, texts: &[&str]) {
        for text in texts {
            within("a write", self.stream.feed(Message::text(*text))).await.unwrap();
        }
        within("a write", self.stream.flush()).await.unwrap();
    }

    pub(crate) async fn send_binary(&mut self, bytes: &[u8]) {
        let message = Message::binary(bytes.to_vec());
        within("a write", self.stream.send(message)).await.unwrap();
    }

    /// The next frame, which must be binary.
    pub(crate) async fn binary(&mut self) -> bytes::Bytes {
        match within("a frame", self.stream.next()).await {
            Some(Ok(Message::Binary(bytes))) => bytes,
            other => panic!("{other:?}"),
        }
    }

    /// The next text frame. Pings of the WebSocket are none.
    pub(crate) async fn text(&mut self) -> String {
        loop {
            match within("a frame", self.stream.next()).await {
                Some(Ok(Message::Text(text))) => return text.as_str().to_owned(),
                Some(Ok(Message::Ping(_))) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// The next text frame that is no ping of Engine.IO; those are answered.
    pub(crate) async fn packet(&mut self) -> String {
        loop {
            let text = self.text().await;
            if text != "2" {
                return text;
            }
            self.send("3").await;
        }
    }

    /// Reads to the end; returns the text frames on the way and the close code.
    pub(crate) async fn until_its_end(&mut self) -> (Vec<String>, Option<u16>) {
        let mut texts = Vec::new();
        loop {
            match within("the connection's end", self.stream.next()).await {
                Some(Ok(Message::Text(text))) => texts.push(text.as_str().to_owned()),
                Some(Ok(Message::Close(frame))) => {
                    return (texts, frame.map(|frame| frame.code.into()));
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return (texts, None),
            }
        }
    }

    /// The close code, with nothing before it.
    pub(crate) async fn close_code(&mut self) -> Option<u16> {
        let (texts, code) = self.until_its_end().await;
        assert!(texts.is_empty(), "{texts:?}");
        code
    }
}

/// A whole HTTP answer.
pub(crate) async fn get(address: SocketAddr, path: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut connection = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    within("an answer", connection.read_to_string(&mut answer)).await.unwrap();
    answer
}

/// Waits until `path` is answered with `status`.
pub(crate) async fn status_becomes(address: SocketAddr, path: &str, status: u16) {
    let wanted = format!("HTTP/1.1 {status}");
    within(&format!("{path} {status}"), async {
        while !get(address, path).await.starts_with(&wanted) {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// How often a limit was met, by any edge of this process: what an edge counts is the process's.
pub(crate) async fn limit_hits(ops: SocketAddr, limit: &str) -> u64 {
    let metrics = get(ops, "/metrics").await;
    let name = format!("sockeye_edge_limit_hits_total{{limit=\"{limit}\"}} ");
    metrics
        .lines()
        .find_map(|line| line.strip_prefix(&name))
        .map_or(0, |hits| hits.parse().unwrap())
}
