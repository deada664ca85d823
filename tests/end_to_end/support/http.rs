//! HTTP/1.1 by hand, so that a test can also send what no library would.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::eventually::within;

/// A response, read to the end of its connection.
#[derive(Debug)]
pub(crate) struct HttpResponse {
    pub(crate) status: u16,
    pub(crate) body: String,
}

impl HttpResponse {
    pub(crate) fn parse(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.unwrap_or_else(|| panic!("not a response: {text:?}"));
        Self { status, body: body.to_owned() }
    }
}

/// Fetches `path`.
pub(crate) async fn get(address: SocketAddr, path: &str) -> HttpResponse {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    HttpResponse::parse(&exchange(address, request.as_bytes()).await)
}

/// Sends `request` as it is and returns everything up to the moment when the server closes.
pub(crate) async fn exchange(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = within("connect", TcpStream::connect(address)).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    let read = within("the server answers and closes", stream.read_to_end(&mut answer)).await;
    read.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}
