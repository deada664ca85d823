//! A client on HTTP long-polling.

use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, client::conn::http1};
use hyper_util::rt::TokioIo;
use proto::edge::v1::{Accept, instruction::Kind};
use tokio::{io::AsyncWriteExt, net::TcpStream};

use super::{Client, Edge, Stream, within};

/// One client's HTTP side: a new TCP connection for each request, so that every shard gets some of them.
pub(crate) struct Poller {
    address: SocketAddr,
    /// Path and query up to the transport.
    endpoint: &'static str,
    pub(crate) session: String,
}

const SOCKET_IO: &str = "/socket.io/?EIO=4&transport=";

/// Status and body.
pub(crate) type Answer = (u16, String);

/// Sends a request on a TCP connection of its own.
pub(crate) async fn respond(address: SocketAddr, request: Request<Full<Bytes>>) -> Response<Bytes> {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    let driver = tokio::spawn(connection);
    let response = within("an answer", sender.send_request(request)).await.unwrap();
    let (head, body) = response.into_parts();
    let body = within("a body", body.collect()).await.unwrap().to_bytes();
    driver.abort();
    Response::from_parts(head, body)
}

pub(crate) async fn request(address: SocketAddr, request: Request<Full<Bytes>>) -> Answer {
    let response = respond(address, request).await;
    (response.status().as_u16(), String::from_utf8(response.into_body().to_vec()).unwrap())
}

impl Poller {
    /// Opens a Socket.IO session.
    pub(crate) async fn open(edge: &Edge) -> Self {
        Self::at(edge.address, SOCKET_IO).opened().await
    }

    /// A client that has no session yet.
    pub(crate) fn at(address: SocketAddr, endpoint: &'static str) -> Self {
        Self { address, endpoint, session: String::new() }
    }

    pub(crate) async fn opened(self) -> Self {
        let (status, body) = self.get().await;
        assert_eq!(status, 200, "{body}");
        let open: serde_json::Value =
            serde_json::from_str(body.strip_prefix('0').unwrap()).unwrap();
        assert_eq!(open["upgrades"][0], "websocket");
        Self { session: open["sid"].as_str().unwrap().to_owned(), ..self }
    }

    /// One that has heard of a session elsewhere, or of none.
    pub(crate) fn of(edge: &Edge, session: &str) -> Self {
        Self { address: edge.address, endpoint: SOCKET_IO, session: session.to_owned() }
    }

    /// A request of the session; one that opens a session while there is none.
    pub(crate) fn request(&self, method: &str, body: &str) -> Request<Full<Bytes>> {
        Request::builder()
            .method(method)
            .uri(self.path("polling"))
            .header("host", self.address.to_string())
            .body(Full::from(body.to_owned()))
            .unwrap()
    }

    pub(crate) fn path(&self, transport: &str) -> String {
        let sid = if self.session.is_empty() { "" } else { "&sid=" };
        format!("{}{transport}{sid}{}", self.endpoint, self.session)
    }

    pub(crate) async fn get(&self) -> Answer {
        request(self.address, self.request("GET", "")).await
    }

    pub(crate) async fn post(&self, body: &str) -> Answer {
        request(self.address, self.request("POST", body)).await
    }

    /// Enters `/chat`; returns the socket's handle.
    pub(crate) async fn enter_chat(&self, stream: &mut Stream) -> u64 {
        assert_eq!(self.post(r#"40/chat,{"token":"ok:alice"}"#).await, ok());
        let (socket, opened) = stream.opened().await;
        stream.instruct([Kind::Accept(Accept { socket })]).await;
        let connected = format!(r#"40/chat,{{"sid":"{}"}}"#, opened.socket_id);
        assert_eq!(self.get().await, (200, connected));
        socket
    }

    /// Writes a request, all but the last `held_back` bytes of its body.
    pub(crate) async fn begin(&self, method: &str, body: &str, held_back: usize) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let (path, length) = (self.path("polling"), body.len());
        let head =
            format!("{method} {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n");
        let sent = &body[..length - held_back];
        stream.write_all(format!("{head}{sent}").as_bytes()).await.unwrap();
        stream
    }

    /// A WebSocket that may take the session over.
    pub(crate) async fn websocket(&self) -> Client {
        Client::connect(self.address, &self.path("websocket")).await
    }
}

pub(crate) fn ok() -> Answer {
    (200, "ok".to_owned())
}

pub(crate) fn unknown_session() -> Answer {
    (400, r#"{"code":1,"message":"Session ID unknown"}"#.to_owned())
}

pub(crate) fn bad_request() -> Answer {
    (400, r#"{"code":3,"message":"Bad request"}"#.to_owned())
}
