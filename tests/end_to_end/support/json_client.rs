//! A client of the plain JSON WebSocket.

use std::{collections::VecDeque, net::SocketAddr};

use serde_json::{Value, json};

use super::{
    eventually::within,
    web_socket::{Incoming, WebSocket},
};

pub(crate) const JSON_PATH: &str = "/ws";

/// A client on one connection.
#[derive(Debug)]
pub(crate) struct JsonClient {
    socket: WebSocket,
    next_id: u64,
    /// Messages that were read while waiting for another one.
    unread: VecDeque<Value>,
}

impl JsonClient {
    /// Opens a connection without a token.
    pub(crate) async fn open(address: SocketAddr) -> Self {
        Self::open_with_headers(address, &[]).await
    }

    /// Opens a connection that brings its token in the upgrade request.
    pub(crate) async fn open_with_token(address: SocketAddr, token: &str) -> Self {
        Self::open_with_headers(address, &[("authorization", &format!("Bearer {token}"))]).await
    }

    /// Opens a connection with further request headers.
    pub(crate) async fn open_with_headers(address: SocketAddr, headers: &[(&str, &str)]) -> Self {
        let socket = WebSocket::open(address, JSON_PATH, headers).await;
        Self { socket, next_id: 1, unread: VecDeque::new() }
    }

    /// Opens a connection and waits until it is let in.
    pub(crate) async fn enter(address: SocketAddr, token: &str) -> Self {
        let mut client = Self::open_with_token(address, token).await;
        let connected = client.message().await;
        assert_eq!(connected["event"], "connected", "{connected}");
        client
    }

    /// Sends a text frame as it is.
    pub(crate) async fn send(&mut self, text: impl Into<String>) {
        self.socket.send(text).await;
    }

    /// Sends an event that asks for no answer.
    pub(crate) async fn emit(&mut self, event: &str, data: Value) {
        self.send(json!({"event": event, "data": data}).to_string()).await;
    }

    /// Sends an event that asks for an answer, without waiting for it. Returns its id.
    pub(crate) async fn ask(&mut self, event: &str, data: Value) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.send(json!({"event": event, "data": data, "id": id}).to_string()).await;
        id
    }

    /// Sends an event and returns the data or the error of its answer.
    pub(crate) async fn request(&mut self, event: &str, data: Value) -> Result<Value, Value> {
        let id = self.ask(event, data).await;
        let mut answer = self.find(|message| message["id"] == id).await;
        match answer.get_mut("error") {
            Some(error) => Err(error.take()),
            None => Ok(answer["data"].take()),
        }
    }

    /// Returns the data of the next event of this name; other messages stay unread.
    pub(crate) async fn event(&mut self, name: &str) -> Value {
        self.find(|message| message["event"] == name).await["data"].take()
    }

    /// Returns the next message that `is_it` accepts; others stay unread.
    pub(crate) async fn find(&mut self, is_it: impl Fn(&Value) -> bool) -> Value {
        let found = self.unread.iter().position(&is_it);
        if let Some(message) = found.and_then(|index| self.unread.remove(index)) {
            return message;
        }
        within("the message arrives", async {
            loop {
                let message =
                    self.read_message().await.unwrap_or_else(|code| panic!("closed with {code:?}"));
                if is_it(&message) {
                    return message;
                }
                self.unread.push_back(message);
            }
        })
        .await
    }

    /// Returns the next message.
    pub(crate) async fn message(&mut self) -> Value {
        match self.unread.pop_front() {
            Some(message) => message,
            None => {
                let message = within("a message arrives", self.read_message()).await;
                message.unwrap_or_else(|code| panic!("closed with {code:?}"))
            }
        }
    }

    /// Closes the connection from this side.
    pub(crate) async fn close(self) {
        self.socket.close().await;
    }

    /// Reads to the end of the connection. Returns what came before it, and the close code.
    pub(crate) async fn closed(&mut self) -> (Vec<Value>, Option<u16>) {
        let mut messages = Vec::from(std::mem::take(&mut self.unread));
        within("the connection ends", async {
            loop {
                match self.read_message().await {
                    Ok(message) => messages.push(message),
                    Err(code) => return (messages, code),
                }
            }
        })
        .await
    }

    async fn read_message(&mut self) -> Result<Value, Option<u16>> {
        match self.socket.next_at_last().await {
            Incoming::Text(text) => Ok(serde_json::from_str(&text).unwrap()),
            Incoming::Binary(bytes) => panic!("a binary frame: {bytes:?}"),
            Incoming::Closed(code) => Err(code),
        }
    }
}
