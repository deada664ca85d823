//! What was missed, given to many clients at once.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bench_kit::times::Times;
use clap::Args;
use serde::Deserialize;
use serde_json::{json, value::RawValue};
use tokio::{task::JoinSet, time};

use crate::{client::Client, system::System};

/// How long one client may take.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(120);

#[derive(Debug, Clone, Args)]
pub(crate) struct Replay {
    /// Clients that come back.
    #[arg(long, default_value_t = 1000)]
    clients: usize,
    /// Messages that each of them missed, in one room.
    #[arg(long, default_value_t = 1000)]
    messages: usize,
    /// Characters of text in a message.
    #[arg(long, default_value_t = 100)]
    text: usize,
}

/// A page of history, or the position that a join answers.
#[derive(Debug, Deserialize)]
struct Page {
    messages: Vec<Missed>,
    more: bool,
}

#[derive(Debug, Deserialize)]
struct Missed {
    position: String,
}

#[derive(Debug, Deserialize)]
struct Joined {
    position: String,
}

impl Replay {
    pub(crate) async fn run(&self, system: &System) -> anyhow::Result<String> {
        let mut author = Client::connect(system, "author").await?;
        let joined = author.ask(0, "join", json!("room")).await?;
        let start = serde_json::from_str::<Joined>(joined.get())?.position;
        let text = "x".repeat(self.text);
        for id in 1..=self.messages as u64 {
            author.ask(id, "message", json!({ "room": "room", "text": text })).await?;
        }
        let mut clients = Vec::new();
        for number in 0..self.clients {
            let mut client = Client::connect(system, &format!("user-{number}")).await?;
            client.ask(0, "join", json!("room")).await?;
            clients.push(client);
        }

        let cpu_before = system.cpu_seconds()?;
        let started = Instant::now();
        let mut readers = JoinSet::new();
        for client in clients {
            let read = read(client, start.clone(), self.messages);
            readers.spawn(async { time::timeout(CLIENT_TIMEOUT, read).await? });
        }
        let mut times = Times::default();
        while let Some(reader) = readers.join_next().await {
            reader??;
            times.add(started.elapsed());
        }
        let seconds = started.elapsed().as_secs_f64();
        let cpu = system.cpu_seconds()? - cpu_before;

        let count = (self.clients * self.messages) as f64;
        Ok(format!(
            "{:>7.0} replayed/s   all within {seconds:>6.2} s   half of the clients within {:>6.2} s   \
             {:>5.2} us of CPU each",
            count / seconds,
            times.permille(500) / 1000.0,
            cpu / count * 1e6,
        ))
    }
}

/// Reads on from a position, page by page, to the end.
async fn read(mut client: Client, start: String, messages: usize) -> anyhow::Result<()> {
    let mut after = start;
    let mut read = 0;
    let mut id = 0;
    loop {
        id += 1;
        let data = json!({ "room": "room", "after": after, "limit": 1000 });
        let answer: Box<RawValue> = client.ask(id, "history", data).await?;
        let page: Page = serde_json::from_str(answer.get())?;
        read += page.messages.len();
        if !page.more {
            break;
        }
        after = page.messages.last().context("an empty page with more behind it")?.position.clone();
    }
    ensure!(read == messages, "{read} of {messages} messages came back");
    Ok(())
}
