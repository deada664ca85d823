//! Messages to rooms, as fast as they are delivered or at a given pace.

use std::time::{Duration, Instant};

use anyhow::ensure;
use bench_kit::times::Times;

use super::{
    deliveries::{Complete, Deliveries, numbered},
    logins,
};
use crate::{
    client::{News, Swarm},
    meter::{Meter, Values, tell_times},
    server::Server,
};

/// How long nothing may happen before a run has failed.
const STALL: Duration = Duration::from_secs(20);
/// Bytes of a message's text.
const TEXT_LEN: usize = 100;

/// Who is in which room: client `n` is in room `n / members`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Crowd {
    pub(crate) rooms: usize,
    pub(crate) members: usize,
}

impl Crowd {
    pub(crate) const fn clients(self) -> usize {
        self.rooms * self.members
    }

    const fn room_of(self, client: usize) -> usize {
        client / self.members
    }
}

/// How long the parts of a run take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    /// Between the last `join` and the first message, for what the server tells of it.
    pub(crate) settle: Duration,
    pub(crate) warm_up: Duration,
    pub(crate) measured: Duration,
}

/// Keeps so many messages under way: whenever one has reached all of its room, the next one is sent.
pub(crate) fn closed_loop(
    server: &Server,
    crowd: Crowd,
    in_flight: usize,
    span: Span,
) -> anyhow::Result<Values> {
    let mut run = Run::start(server, crowd, span.settle)?;
    run.keep(in_flight, span.warm_up)?;
    run.completion = Times::default();
    let meter = Meter::start(server)?;
    let before = run.deliveries.messages();
    run.keep(in_flight, span.measured)?;
    let messages = run.deliveries.messages() - before;
    let mut values = meter.stop(server, (messages * crowd.members) as f64)?;
    tell_times(&mut run.completion, &mut values);
    run.check()?;
    Ok(values)
}

/// Sends messages at a pace, whether they arrive or not.
pub(crate) fn paced(
    server: &Server,
    crowd: Crowd,
    per_second: f64,
    span: Span,
) -> anyhow::Result<Values> {
    let mut run = Run::start(server, crowd, span.settle)?;
    run.pace(per_second, span.warm_up)?;
    run.delivery = Times::default();
    let meter = Meter::start(server)?;
    run.pace(per_second, span.measured)?;
    let mut values = meter.stop(server, run.delivery.len() as f64)?;
    tell_times(&mut run.delivery, &mut values);
    run.check()?;
    Ok(values)
}

struct Run {
    swarm: Swarm,
    crowd: Crowd,
    deliveries: Deliveries,
    /// How long messages took to reach the last member.
    completion: Times,
    /// How long each delivery took.
    delivery: Times,
    complete: Vec<usize>,
    heard_at: Instant,
}

impl Run {
    fn start(server: &Server, crowd: Crowd, settle: Duration) -> anyhow::Result<Self> {
        let mut swarm = Swarm::new(server.target())?;
        swarm.join_all(logins(0..crowd.clients(), crowd.members)?, super::JOIN_TIMEOUT)?;
        swarm.settle(settle)?;
        Ok(Self {
            swarm,
            crowd,
            deliveries: Deliveries::new(crowd.clients()),
            completion: Times::default(),
            delivery: Times::default(),
            complete: Vec::new(),
            heard_at: Instant::now(),
        })
    }

    fn keep(&mut self, in_flight: usize, time: Duration) -> anyhow::Result<()> {
        let end = Instant::now() + time;
        for room in 0..in_flight {
            self.publish(room % self.crowd.rooms)?;
        }
        while self.deliveries.under_way() > 0 {
            self.hear(Duration::from_secs(1), false)?;
            if Instant::now() >= end {
                self.complete.clear();
                continue;
            }
            for room in std::mem::take(&mut self.complete) {
                // With as many under way as there are rooms each room has its own; with fewer they go round.
                self.publish((room + in_flight) % self.crowd.rooms)?;
            }
        }
        Ok(())
    }

    fn pace(&mut self, per_second: f64, time: Duration) -> anyhow::Result<()> {
        let start = Instant::now();
        let mut sent = 0_u32;
        loop {
            let elapsed = start.elapsed();
            let due = Duration::from_secs_f64(f64::from(sent) / per_second);
            if elapsed >= time && self.deliveries.under_way() == 0 {
                return Ok(());
            }
            if due <= elapsed && elapsed < time {
                self.publish(sent as usize % self.crowd.rooms)?;
                sent += 1;
                continue;
            }
            let wait = if elapsed < time { due - elapsed } else { Duration::from_secs(1) };
            self.hear(wait, true)?;
        }
    }

    fn publish(&mut self, room: usize) -> anyhow::Result<()> {
        let number = self.deliveries.sent(room, self.crowd.members, Instant::now());
        let member = number % self.crowd.members.min(8);
        let data = format!(r#"{{"room":"room-{room}","text":"{}"}}"#, numbered(number, TEXT_LEN));
        let frame = self.swarm.dialect().event("message", &data, None);
        Ok(self.swarm.send(room * self.crowd.members + member, &frame)?)
    }

    fn hear(&mut self, wait: Duration, is_each_timed: bool) -> anyhow::Result<()> {
        let Self { swarm, deliveries, completion, delivery, complete, heard_at, .. } = self;
        let mut wrong = Ok(());
        swarm.turn(wait, |client, news, now| match news {
            News::Event { name: b"message", data } => {
                *heard_at = now;
                match deliveries.delivered(client, data, now) {
                    Ok((after, whole)) => {
                        if is_each_timed {
                            delivery.add(after);
                        }
                        if let Some(Complete { room, after }) = whole {
                            completion.add(after);
                            complete.push(room);
                        }
                    }
                    Err(error) => wrong = Err(error),
                }
            }
            News::Gone => {
                wrong = Err(anyhow::anyhow!("a connection ended that should have stayed"))
            }
            News::Joined | News::Event { .. } | News::Answer { .. } | News::Pong => {}
        })?;
        wrong?;
        let under_way = deliveries.under_way();
        ensure!(
            under_way == 0 || heard_at.elapsed() < STALL,
            "{under_way} messages have not reached all, and nothing arrives any more"
        );
        Ok(())
    }

    fn check(&self) -> anyhow::Result<()> {
        self.deliveries.check(|client| self.crowd.room_of(client), self.crowd.rooms)
    }
}
