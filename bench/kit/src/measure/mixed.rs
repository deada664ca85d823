//! A day of a chat: most are idle, some type, fewer say something, and now and then somebody comes back.

use std::time::{Duration, Instant};

use anyhow::ensure;
use bench_kit::times::Times;

use super::{
    deliveries::{Deliveries, numbered},
    fan_out::{Crowd, Span},
    login, logins,
};
use crate::{
    client::{News, Swarm},
    meter::{Meter, Values, tell_times},
    server::Server,
};

const STALL: Duration = Duration::from_secs(20);
/// Of a hundred things that happen so many are messages, so many somebody who comes back, and the rest is typing.
const MESSAGES: u32 = 30;
const RETURNS: u32 = 5;
const TEXT_LEN: usize = 100;

/// Has so many things happen per second. What a server spends is told per second of it.
pub(crate) fn day(
    server: &Server,
    crowd: Crowd,
    per_second: f64,
    span: Span,
) -> anyhow::Result<Values> {
    let mut swarm = Swarm::new(server.target())?;
    swarm.join_all(logins(0..crowd.clients(), crowd.members)?, super::JOIN_TIMEOUT)?;
    swarm.settle(span.settle)?;
    let mut day = Day {
        swarm,
        crowd,
        deliveries: Deliveries::new(crowd.clients()),
        times: Times::default(),
        happened: 0,
        returning: None,
    };
    day.go_on(per_second, span.warm_up)?;
    day.times = Times::default();
    let meter = Meter::start(server)?;
    day.go_on(per_second, span.measured)?;
    let mut values = meter.stop(server, span.measured.as_secs_f64())?;
    values.insert("deliveries".to_owned(), day.times.len() as f64);
    tell_times(&mut day.times, &mut values);
    Ok(values)
}

struct Day {
    swarm: Swarm,
    crowd: Crowd,
    deliveries: Deliveries,
    times: Times,
    happened: u32,
    /// Who is on the way back. Nothing is said in its room meanwhile, so that it is known what it has to get.
    returning: Option<usize>,
}

impl Day {
    fn go_on(&mut self, per_second: f64, time: Duration) -> anyhow::Result<()> {
        let start = Instant::now();
        let first = self.happened;
        loop {
            let elapsed = start.elapsed();
            let is_over = elapsed >= time;
            if is_over && self.deliveries.under_way() == 0 && self.returning.is_none() {
                return Ok(());
            }
            let due = Duration::from_secs_f64(f64::from(self.happened - first) / per_second);
            if !is_over && due <= elapsed {
                self.happen()?;
                continue;
            }
            let wait = if is_over { Duration::from_secs(1) } else { due - elapsed };
            self.hear(wait)?;
            ensure!(elapsed < time + STALL, "not all has arrived");
        }
    }

    fn happen(&mut self) -> anyhow::Result<()> {
        self.happened += 1;
        // A step that shares no factor with their number visits all rooms, in no order that a cache could learn.
        let room = (self.happened as usize).wrapping_mul(7919) % self.crowd.rooms;
        let member = self.happened as usize % self.crowd.members;
        let client = room * self.crowd.members + member;
        let is_quiet = self.returning.is_some_and(|back| back / self.crowd.members == room);
        let dialect = self.swarm.dialect();
        let kind = self.happened % 100;
        if kind < RETURNS {
            return if self.returning.is_none() && self.deliveries.under_way() == 0 {
                self.come_back(client)
            } else {
                Ok(())
            };
        }
        if is_quiet {
            return Ok(());
        }
        if kind < RETURNS + MESSAGES {
            let number = self.deliveries.sent(room, self.crowd.members, Instant::now());
            let text = numbered(number, TEXT_LEN);
            let data = format!(r#"{{"room":"room-{room}","text":"{text}"}}"#);
            return Ok(self.swarm.send(client, &dialect.event("message", &data, None))?);
        }
        let data = format!(r#"{{"room":"room-{room}","typing":{}}}"#, kind.is_multiple_of(2));
        Ok(self.swarm.send(client, &dialect.event("typing", &data, None))?)
    }

    fn come_back(&mut self, client: usize) -> anyhow::Result<()> {
        self.swarm.close(client);
        let place = self.swarm.dial(&login(client, self.crowd.members)?)?;
        ensure!(place == client, "a place was free beside the one that was left");
        self.returning = Some(client);
        Ok(())
    }

    fn hear(&mut self, wait: Duration) -> anyhow::Result<()> {
        let Self { swarm, deliveries, times, returning, .. } = self;
        let mut wrong = Ok(());
        swarm.turn(wait, |client, news, now| match news {
            News::Event { name: b"message", data } => {
                match deliveries.delivered(client, data, now) {
                    Ok((after, _)) => times.add(after),
                    Err(error) => wrong = Err(error),
                }
            }
            News::Joined => *returning = None,
            News::Gone => {
                wrong = Err(anyhow::anyhow!("a connection ended that should have stayed"))
            }
            News::Event { .. } | News::Answer { .. } | News::Pong => {}
        })?;
        wrong
    }
}
