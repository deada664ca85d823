//! A raw WebSocket: text frames in, text frames out.

use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Error, Message, client::IntoClientRequest},
};

use super::eventually::within;

/// Settings of the operating system for a client that does not read: what it leaves unread is soon the server's problem.
const SMALL_RECEIVE_BUFFER_BYTES: u32 = 4096;

/// What a server sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Incoming {
    Text(String),
    Binary(Vec<u8>),
    /// The connection is over, with the close code if there was one.
    Closed(Option<u16>),
}

/// One WebSocket connection.
#[derive(Debug)]
pub(crate) struct WebSocket {
    stream: WebSocketStream<TcpStream>,
}

impl WebSocket {
    /// Opens a connection with further request headers.
    ///
    /// # Panics
    ///
    /// When the server refuses the upgrade.
    pub(crate) async fn open(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Self {
        let stream = within("connect", TcpStream::connect(address)).await.unwrap();
        Self::upgrade(stream, address, path, headers).await
    }

    /// Opens a connection whose owner will not read.
    pub(crate) async fn open_with_small_buffer(address: SocketAddr, path: &str) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(SMALL_RECEIVE_BUFFER_BYTES).unwrap();
        let stream = within("connect", socket.connect(address)).await.unwrap();
        Self::upgrade(stream, address, path, &[]).await
    }

    async fn upgrade(
        stream: TcpStream,
        address: SocketAddr,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Self {
        let mut request = format!("ws://{address}{path}").into_client_request().unwrap();
        for (name, value) in headers {
            let name = tokio_tungstenite::tungstenite::http::HeaderName::try_from(*name).unwrap();
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        let (stream, _) = within("the upgrade", client_async(request, stream))
            .await
            .expect("the upgrade is accepted");
        Self { stream }
    }

    /// Sends a text frame. What becomes of it on a connection that is over shows when reading.
    pub(crate) async fn send(&mut self, text: impl Into<String>) {
        self.send_message(Message::text(text.into())).await;
    }

    /// Sends a binary frame.
    pub(crate) async fn send_binary(&mut self, bytes: &'static [u8]) {
        self.send_message(Message::binary(bytes)).await;
    }

    async fn send_message(&mut self, message: Message) {
        let sent = within("the server reads", self.stream.send(message)).await;
        if let Err(error) = sent {
            let is_over = matches!(
                error,
                Error::ConnectionClosed | Error::AlreadyClosed | Error::Io(_) | Error::Protocol(_)
            );
            assert!(is_over, "cannot send: {error}");
        }
    }

    /// Returns what comes next.
    pub(crate) async fn next(&mut self) -> Incoming {
        within("something arrives", self.next_at_last()).await
    }

    /// Returns what comes next, however long that takes: for a caller that has a deadline of its own.
    pub(crate) async fn next_at_last(&mut self) -> Incoming {
        loop {
            match self.stream.next().await {
                Some(Ok(Message::Text(text))) => return Incoming::Text(text.as_str().to_owned()),
                Some(Ok(Message::Binary(bytes))) => return Incoming::Binary(bytes.to_vec()),
                Some(Ok(Message::Close(frame))) => {
                    return Incoming::Closed(frame.map(|frame| frame.code.into()));
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Some(Err(_)) | None => return Incoming::Closed(None),
            }
        }
    }

    /// Closes the connection from this side.
    pub(crate) async fn close(mut self) {
        let _ = self.stream.close(None).await;
        while self.next().await != Incoming::Closed(None) {}
    }
}
