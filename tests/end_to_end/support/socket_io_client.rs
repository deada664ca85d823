//! A Socket.IO 5 client over a raw WebSocket, written from the protocol document alone.

use std::{collections::VecDeque, net::SocketAddr};

use serde_json::{Value, json};

use super::{
    eventually::within,
    web_socket::{Incoming, WebSocket},
};

pub(crate) const SOCKET_IO_PATH: &str = "/socket.io/?EIO=4&transport=websocket";

/// One Socket.IO packet of the server.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Packet {
    /// The packet's type: `0` CONNECT, `2` EVENT, `3` ACK, `4` CONNECT_ERROR …
    pub(crate) kind: char,
    pub(crate) namespace: String,
    pub(crate) ack_id: Option<u64>,
    pub(crate) data: Value,
}

impl Packet {
    /// Reads `4<kind>[<namespace>,][<ack id>][<JSON>]`.
    pub(crate) fn parse(frame: &str) -> Self {
        let packet = frame.strip_prefix('4').unwrap_or_else(|| panic!("not a message: {frame}"));
        let kind = packet.chars().next().unwrap();
        let rest = &packet[1..];
        let (namespace, rest) = if rest.starts_with('/') {
            rest.split_once(',').unwrap_or((rest, ""))
        } else {
            ("/", rest)
        };
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (ack_id, rest) = rest.split_at(digits);
        let data = if rest.is_empty() { Value::Null } else { serde_json::from_str(rest).unwrap() };
        Self { kind, namespace: namespace.to_owned(), ack_id: ack_id.parse().ok(), data }
    }

    /// Returns the name and the first argument, if this is an event.
    pub(crate) fn event(&self) -> Option<(&str, &Value)> {
        if self.kind == '2' { Some((self.data[0].as_str()?, &self.data[1])) } else { None }
    }

    fn is_event(&self, name: &str) -> bool {
        self.event().is_some_and(|(event, _)| event == name)
    }
}

/// A client on one connection. It answers heartbeats whenever it reads.
#[derive(Debug)]
pub(crate) struct SocketIoClient {
    socket: WebSocket,
    /// What [`Self::connect`] was last accepted in.
    namespace: String,
    next_ack_id: u64,
    /// Packets that were read while waiting for another one.
    unread: VecDeque<String>,
}

impl SocketIoClient {
    /// Opens a connection, up to the server's open packet.
    pub(crate) async fn open(address: SocketAddr) -> Self {
        Self::open_with_headers(address, &[]).await
    }

    /// Opens a connection with further request headers.
    pub(crate) async fn open_with_headers(address: SocketAddr, headers: &[(&str, &str)]) -> Self {
        let mut socket = WebSocket::open(address, SOCKET_IO_PATH, headers).await;
        let open = socket.next().await;
        assert!(
            matches!(&open, Incoming::Text(text) if text.starts_with("0{")),
            "not an open packet: {open:?}"
        );
        Self { socket, namespace: "/".to_owned(), next_ack_id: 0, unread: VecDeque::new() }
    }

    /// Asks to enter `namespace`: the public id of the socket, or the error.
    pub(crate) async fn connect(&mut self, namespace: &str, auth: &Value) -> Result<String, Value> {
        self.send(format!("40{namespace},{auth}")).await;
        let packet = Packet::parse(&self.frame().await);
        assert_eq!(packet.namespace, namespace);
        match packet.kind {
            '0' => {
                namespace.clone_into(&mut self.namespace);
                Ok(packet.data["sid"].as_str().unwrap().to_owned())
            }
            '4' => Err(packet.data),
            _ => panic!("neither CONNECT nor CONNECT_ERROR: {packet:?}"),
        }
    }

    /// Sends one Engine.IO packet as it is.
    pub(crate) async fn send(&mut self, frame: impl Into<String>) {
        self.socket.send(frame).await;
    }

    /// Sends a binary frame as it is.
    pub(crate) async fn send_binary(&mut self, bytes: &'static [u8]) {
        self.socket.send_binary(bytes).await;
    }

    /// Sends an event that asks for no answer.
    pub(crate) async fn emit(&mut self, event: &str, data: Value) {
        let frame = format!("42{}{}", self.prefix(), json!([event, data]));
        self.send(frame).await;
    }

    /// Sends an event that asks for an answer, without waiting for it. Returns the ack id.
    pub(crate) async fn ask(&mut self, event: &str, data: Value) -> u64 {
        let ack_id = self.next_ack_id;
        self.next_ack_id += 1;
        let frame = format!("42{}{ack_id}{}", self.prefix(), json!([event, data]));
        self.send(frame).await;
        ack_id
    }

    /// Sends an event and returns the arguments of its answer.
    pub(crate) async fn request_all(&mut self, event: &str, data: Value) -> Value {
        let ack_id = self.ask(event, data).await;
        let answer = self.find(|packet| packet.kind == '3' && packet.ack_id == Some(ack_id)).await;
        answer.data
    }

    /// Sends an event and returns the one argument of its answer.
    pub(crate) async fn request(&mut self, event: &str, data: Value) -> Value {
        let mut answer = self.request_all(event, data).await;
        assert_eq!(answer.as_array().map(Vec::len), Some(1), "one argument: {answer}");
        answer[0].take()
    }

    /// Sends an event and returns the code of the error that it is answered with.
    pub(crate) async fn request_error(&mut self, event: &str, data: Value) -> String {
        let answer = self.request(event, data).await;
        answer["error"]["code"]
            .as_str()
            .unwrap_or_else(|| panic!("not an error: {answer}"))
            .to_owned()
    }

    /// Returns the data of the next event of this name; other packets stay unread.
    pub(crate) async fn event(&mut self, name: &str) -> Value {
        let mut packet = self.find(|packet| packet.is_event(name)).await;
        packet.data[1].take()
    }

    /// Returns the next packet that `is_it` accepts; others stay unread.
    pub(crate) async fn find(&mut self, is_it: impl Fn(&Packet) -> bool) -> Packet {
        let found = self.unread.iter().position(|frame| is_it(&Packet::parse(frame)));
        if let Some(frame) = found.and_then(|index| self.unread.remove(index)) {
            return Packet::parse(&frame);
        }
        within("the packet arrives", async {
            loop {
                let frame =
                    self.read_frame().await.unwrap_or_else(|code| panic!("closed with {code:?}"));
                let packet = Packet::parse(&frame);
                if is_it(&packet) {
                    return packet;
                }
                self.unread.push_back(frame);
            }
        })
        .await
    }

    /// Returns the next frame that is not part of the heartbeat, as it is.
    pub(crate) async fn frame(&mut self) -> String {
        match self.unread.pop_front() {
            Some(frame) => frame,
            None => {
                let frame = within("a frame arrives", self.read_frame()).await;
                frame.unwrap_or_else(|code| panic!("closed with {code:?}"))
            }
        }
    }

    /// Reads to the end of the connection. Returns what came before it, and the close code.
    pub(crate) async fn closed(&mut self) -> (Vec<String>, Option<u16>) {
        let mut frames = Vec::from(std::mem::take(&mut self.unread));
        within("the connection ends", async {
            loop {
                match self.read_frame().await {
                    Ok(frame) => frames.push(frame),
                    Err(code) => return (frames, code),
                }
            }
        })
        .await
    }

    /// Proves that the connection and its namespace live, by an event that every backend answers.
    ///
    /// Returns what had arrived before the answer.
    pub(crate) async fn unread_events(&mut self) -> Vec<String> {
        let _ = self.request_all("unknown", json!({})).await;
        Vec::from(std::mem::take(&mut self.unread))
    }

    /// Closes the connection from this side.
    pub(crate) async fn close(self) {
        self.socket.close().await;
    }

    async fn read_frame(&mut self) -> Result<String, Option<u16>> {
        loop {
            match self.socket.next_at_last().await {
                Incoming::Text(ping) if ping == "2" => self.socket.send("3").await,
                Incoming::Text(frame) => return Ok(frame),
                Incoming::Binary(bytes) => panic!("a binary frame: {bytes:?}"),
                Incoming::Closed(code) => return Err(code),
            }
        }
    }

    fn prefix(&self) -> String {
        if self.namespace == "/" { String::new() } else { format!("{},", self.namespace) }
    }
}
