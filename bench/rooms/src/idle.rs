//! What rooms cost in which nothing happens any more.

use anyhow::ensure;
use clap::Args;
use serde_json::json;
use tokio::task::JoinSet;

use crate::{client::Client, system::System};

const CLIENTS: usize = 50;
const MIB: f64 = 1024.0 * 1024.0;

#[derive(Debug, Clone, Args)]
pub(crate) struct Idle {
    /// Rooms, each of which is entered, written to and left.
    #[arg(long, default_value_t = 100_000)]
    rooms: usize,
    /// Messages in each of them.
    #[arg(long, default_value_t = 10)]
    messages: usize,
    /// Characters of text in a message.
    #[arg(long, default_value_t = 100)]
    text: usize,
}

impl Idle {
    pub(crate) async fn run(&self, system: &mut System) -> anyhow::Result<String> {
        ensure!(self.rooms >= CLIENTS, "at least {CLIENTS} rooms");
        let before = system.resident_bytes()?;
        self.fill(system).await?;
        let after = system.resident_bytes()?;
        let disk = system.data_bytes()?;
        system.restart().await?;
        let restarted = system.resident_bytes()?;
        Ok(format!(
            "memory {:>6.1} MiB before   {:>6.1} MiB with {} rooms   {:>6.1} MiB after a restart   \
             {:>6.1} MiB on disk",
            before / MIB,
            after / MIB,
            self.rooms,
            restarted / MIB,
            disk / MIB,
        ))
    }

    async fn fill(&self, system: &System) -> anyhow::Result<()> {
        let mut clients = JoinSet::new();
        for number in 0..CLIENTS {
            let client = Client::connect(system, &format!("user-{number}")).await?;
            clients.spawn(self.clone().fill_some(client, number));
        }
        while let Some(client) = clients.join_next().await {
            client??;
        }
        Ok(())
    }

    /// Does its part of the rooms, one after the other.
    async fn fill_some(self, mut client: Client, number: usize) -> anyhow::Result<()> {
        let text = "x".repeat(self.text);
        for room in (number..self.rooms).step_by(CLIENTS) {
            let name = format!("room-{room}");
            client.ask(0, "join", json!(name)).await?;
            for _ in 1..self.messages {
                client.send(1, "message", json!({ "room": name, "text": text })).await?;
            }
            client.ask(2, "message", json!({ "room": name, "text": text })).await?;
            client.ask(3, "leave", json!(name)).await?;
        }
        Ok(())
    }
}
