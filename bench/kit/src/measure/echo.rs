//! Questions and answers: how many, how fast, and what the way to the business service adds.

use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use bench_kit::times::Times;

use super::{fan_out::Span, logins};
use crate::{
    client::{ClientError, News, PING, Swarm, client_frame},
    meter::{Meter, Values, tell_times},
    server::Server,
};

const STALL: Duration = Duration::from_secs(20);

/// Each client asks, and asks again when it is answered.
pub(crate) fn round_trips(server: &Server, clients: usize, span: Span) -> anyhow::Result<Values> {
    let mut asking = Asking::start(server, clients, Ask::Service, span.settle)?;
    asking.run(span.warm_up)?;
    asking.times = Times::default();
    let meter = Meter::start(server)?;
    asking.run(span.measured)?;
    let mut values = meter.stop(server, asking.times.len() as f64)?;
    tell_times(&mut asking.times, &mut values);
    Ok(values)
}

/// One client asks: in turn the server alone, with a ping of WebSocket, and through it the business service.
pub(crate) fn hop(server: &Server, span: Span) -> anyhow::Result<Values> {
    let mut values = Values::new();
    for (name, ask) in [("ping", Ask::Server), ("echo", Ask::Service)] {
        let mut asking = Asking::start(server, 1, ask, span.settle)?;
        asking.run(span.warm_up)?;
        asking.times = Times::default();
        asking.run(span.measured)?;
        let mut times = Values::new();
        tell_times(&mut asking.times, &mut times);
        values.extend(times.into_iter().map(|(time, value)| (format!("{name}.{time}"), value)));
    }
    let added = values["echo.p50_us"] - values["ping.p50_us"];
    values.insert("added_p50_us".to_owned(), added);
    Ok(values)
}

/// Whom a client asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ask {
    Server,
    Service,
}

struct Asking {
    swarm: Swarm,
    ask: Ask,
    /// Of each client: the id of its question, and when it was asked.
    asked: Vec<(u64, Instant)>,
    times: Times,
}

impl Asking {
    fn start(server: &Server, clients: usize, ask: Ask, settle: Duration) -> anyhow::Result<Self> {
        let mut swarm = Swarm::new(server.target())?;
        swarm.join_all(logins(0..clients, 1)?, super::JOIN_TIMEOUT)?;
        swarm.settle(settle)?;
        let asked = vec![(0, Instant::now()); clients];
        Ok(Self { swarm, ask, asked, times: Times::default() })
    }

    fn run(&mut self, time: Duration) -> anyhow::Result<()> {
        let end = Instant::now() + time;
        let mut answered: Vec<usize> = (0..self.asked.len()).collect();
        let mut under_way = 0;
        let mut heard_at = Instant::now();
        loop {
            if Instant::now() < end {
                under_way += answered.len();
                answered.drain(..).try_for_each(|client| self.ask(client))?;
            }
            if under_way == 0 {
                return Ok(());
            }
            let before = answered.len();
            let Self { swarm, ask, asked, times, .. } = self;
            let mut wrong = None;
            swarm.turn(Duration::from_secs(1), |client, news, now| {
                let (id, asked_at) = asked[client];
                let is_answer = match news {
                    News::Answer { id: answered, .. } => *ask == Ask::Service && answered == id,
                    News::Pong => *ask == Ask::Server,
                    News::Joined | News::Event { .. } | News::Gone => false,
                };
                if is_answer {
                    times.add(now.saturating_duration_since(asked_at));
                    answered.push(client);
                } else {
                    wrong = Some(format!("not what client {client} has asked for: {news:?}"));
                }
            })?;
            if let Some(wrong) = wrong {
                bail!(wrong);
            }
            if answered.len() > before {
                under_way -= answered.len() - before;
                heard_at = Instant::now();
            }
            ensure!(heard_at.elapsed() < STALL, "{under_way} questions are not answered");
        }
    }

    fn ask(&mut self, client: usize) -> Result<(), ClientError> {
        const DATA: &str = r#"{"data":"0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567"}"#;
        let (id, asked_at) = &mut self.asked[client];
        *id += 1;
        let frame = match self.ask {
            Ask::Server => client_frame(PING, DATA.as_bytes()),
            Ask::Service => self.swarm.dialect().event("echo", DATA, Some(*id)),
        };
        *asked_at = Instant::now();
        self.swarm.send(client, &frame)
    }
}
