//! Messages acknowledged per second.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use bench_kit::times::Times;
use clap::Args;
use serde_json::json;
use tokio::{task::JoinSet, time};

use crate::{client::Client, system::System};

/// How long nothing may come before the run is given up.
const SILENCE_MAX: Duration = Duration::from_secs(20);

#[derive(Debug, Clone, Args)]
pub(crate) struct Acknowledged {
    /// Clients that send, each to a room of its own with itself as the only member.
    #[arg(long, default_value_t = 64)]
    senders: usize,
    /// Messages that each of them has under way.
    #[arg(long, default_value_t = 8)]
    in_flight: usize,
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Characters of text in a message.
    #[arg(long, default_value_t = 100)]
    text: usize,
}

impl Acknowledged {
    pub(crate) async fn run(&self, system: &System) -> anyhow::Result<String> {
        let mut clients = Vec::new();
        for number in 0..self.senders {
            let mut client = Client::connect(system, &format!("user-{number}")).await?;
            client.ask(0, "join", json!(room(number))).await?;
            clients.push(client);
        }
        let cpu_before = system.cpu_seconds()?;
        let started = Instant::now();
        let mut senders = JoinSet::new();
        for (number, client) in clients.into_iter().enumerate() {
            senders.spawn(self.clone().send(client, number));
        }
        let mut times = Times::default();
        while let Some(sender) = senders.join_next().await {
            times.extend(sender??);
        }
        let seconds = started.elapsed().as_secs_f64();
        let cpu = system.cpu_seconds()? - cpu_before;

        let count = times.len() as f64;
        Ok(format!(
            "{:>7.0} acknowledged/s   p50 {:>7.2} ms   p99 {:>7.2} ms   {:>6.1} us of CPU each",
            count / seconds,
            times.permille(500),
            times.permille(990),
            cpu / count * 1e6,
        ))
    }

    /// Keeps so many messages under way until the time is up, and waits for the rest.
    async fn send(self, mut client: Client, number: usize) -> anyhow::Result<Times> {
        let ends_at = Instant::now() + Duration::from_secs(self.seconds);
        let text = "x".repeat(self.text);
        let message = || json!({ "room": room(number), "text": text });
        let mut under_way = HashMap::new();
        let mut last_id = 0;
        let mut times = Times::default();
        loop {
            while under_way.len() < self.in_flight && Instant::now() < ends_at {
                last_id += 1;
                under_way.insert(last_id, Instant::now());
                client.send(last_id, "message", message()).await?;
            }
            if under_way.is_empty() {
                return Ok(times);
            }
            let incoming = time::timeout(SILENCE_MAX, client.next()).await??;
            if let Some(sent_at) = incoming.id.and_then(|id| under_way.remove(&id)) {
                incoming.answer()?;
                times.add(sent_at.elapsed());
            }
        }
    }
}

fn room(number: usize) -> String {
    format!("room-{number}")
}
