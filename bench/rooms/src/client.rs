//! A plain JSON client.

use anyhow::{Context, bail};
use bench_kit::token::token;
use futures_util::{SinkExt, StreamExt};
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream,
    tungstenite::{Message, client::IntoClientRequest},
};

use crate::system::System;

#[derive(Debug)]
pub(crate) struct Client {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

/// What the system sends. An answer has an `id`, an event has none.
#[derive(Debug, Deserialize)]
pub(crate) struct Incoming {
    pub(crate) id: Option<u64>,
    /// Left as it is: what it says is not what is measured.
    pub(crate) data: Option<Box<RawValue>>,
    pub(crate) error: Option<Value>,
}

impl Client {
    /// Connects, and is let in.
    pub(crate) async fn connect(system: &System, subject: &str) -> anyhow::Result<Self> {
        let mut request = format!("ws://{}/ws", system.address).into_client_request()?;
        let bearer = format!("Bearer {}", token(subject)?);
        request.headers_mut().insert("authorization", bearer.parse()?);
        let (socket, _) = tokio_tungstenite::connect_async(request).await?;
        Ok(Self { socket })
    }

    pub(crate) async fn send(&mut self, id: u64, event: &str, data: Value) -> anyhow::Result<()> {
        let text = json!({ "id": id, "event": event, "data": data }).to_string();
        Ok(self.socket.send(Message::text(text)).await?)
    }

    /// The next event or answer.
    pub(crate) async fn next(&mut self) -> anyhow::Result<Incoming> {
        loop {
            let message = self.socket.next().await.context("the connection is gone")??;
            if let Message::Text(text) = message {
                return Ok(serde_json::from_str(&text)?);
            }
        }
    }

    /// Asks, and waits for the answer; events that come meanwhile are passed over.
    pub(crate) async fn ask(
        &mut self,
        id: u64,
        event: &str,
        data: Value,
    ) -> anyhow::Result<Box<RawValue>> {
        self.send(id, event, data).await?;
        loop {
            let incoming = self.next().await?;
            if incoming.id == Some(id) {
                return incoming.answer();
            }
        }
    }
}

impl Incoming {
    pub(crate) fn answer(self) -> anyhow::Result<Box<RawValue>> {
        if let Some(error) = self.error {
            bail!("answered with an error: {error}");
        }
        self.data.context("an answer without data")
    }
}
