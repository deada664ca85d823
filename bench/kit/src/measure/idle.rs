//! What connections cost in which nothing happens, and what is left of those in which something did.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::ensure;
use bench_kit::usage::Memory;

use super::{
    JOIN_TIMEOUT,
    deliveries::{Deliveries, numbered},
    logins,
};
use crate::{
    client::{News, Swarm},
    meter::{Meter, Values},
    server::Server,
};

/// Members of a room.
const MEMBERS: usize = 10;
/// Bytes of what is broadcast to see whether its buffers stay.
const BLOB_LEN: usize = 30_000;
const BLOBS: usize = 5;

type Memories = BTreeMap<&'static str, Memory>;

/// Memory per connection as the slope between two sizes, and time per connection and second at the second.
pub(crate) fn connections(
    server: &Server,
    sizes: [usize; 2],
    hold: Duration,
    rest: Duration,
) -> anyhow::Result<Values> {
    let [few, many] = sizes;
    let mut swarm = Swarm::new(server.target())?;
    swarm.join_all(logins(0..few, MEMBERS)?, JOIN_TIMEOUT)?;
    swarm.settle(rest)?;
    let before = server.memory()?;
    swarm.join_all(logins(few..many, MEMBERS)?, JOIN_TIMEOUT)?;
    swarm.settle(rest)?;
    let mut values = per_connection(&before, &server.memory()?, many - few);
    let meter = Meter::start(server)?;
    swarm.settle(hold)?;
    values.extend(meter.stop(server, many as f64 * hold.as_secs_f64())?);
    Ok(values)
}

/// Memory per connection that is still held two seconds after large broadcasts.
pub(crate) fn after_burst(
    server: &Server,
    clients: usize,
    rest: Duration,
) -> anyhow::Result<Values> {
    let mut swarm = Swarm::new(server.target())?;
    swarm.join_all(logins(0..clients, clients)?, JOIN_TIMEOUT)?;
    swarm.settle(rest)?;
    let before = server.memory()?;
    let mut deliveries = Deliveries::new(clients);
    for _ in 0..BLOBS {
        broadcast(&mut swarm, &mut deliveries, clients)?;
    }
    deliveries.check(|_| 0, 1)?;
    swarm.settle(rest.min(Duration::from_secs(2)))?;
    Ok(per_connection(&before, &server.memory()?, clients))
}

fn broadcast(swarm: &mut Swarm, deliveries: &mut Deliveries, clients: usize) -> anyhow::Result<()> {
    let sent_at = Instant::now();
    let number = deliveries.sent(0, clients, sent_at);
    let data = format!(r#"{{"room":"room-0","data":"{}"}}"#, numbered(number, BLOB_LEN));
    let frame = swarm.dialect().event("blob", &data, None);
    swarm.send(0, &frame)?;
    while deliveries.under_way() > 0 {
        let mut wrong = Ok(());
        swarm.turn(Duration::from_secs(1), |client, news, now| {
            if let News::Event { name: b"blob", data } = news
                && let Err(error) = deliveries.delivered(client, data, now)
            {
                wrong = Err(error);
            }
        })?;
        wrong?;
        ensure!(sent_at.elapsed() < JOIN_TIMEOUT, "a broadcast has not reached all");
    }
    Ok(())
}

/// Memory that is held after each of three times that many came and went, beyond what was held before the first.
pub(crate) fn after_waves(
    server: &Server,
    clients: usize,
    rest: Duration,
) -> anyhow::Result<Values> {
    let before = server.memory()?;
    let mut values = Values::new();
    for wave in 1..=3 {
        let mut swarm = Swarm::new(server.target())?;
        swarm.join_all(logins(0..clients, MEMBERS)?, JOIN_TIMEOUT)?;
        swarm.settle(rest)?;
        drop(swarm);
        std::thread::sleep(rest);
        let kept = per_connection(&before, &server.memory()?, clients);
        values.insert(format!("resident_bytes.wave_{wave}"), kept["resident_bytes"]);
        if wave == 3 {
            values.extend(kept);
        }
    }
    Ok(values)
}

pub(super) fn per_connection(before: &Memories, after: &Memories, connections: usize) -> Values {
    let mut values = Values::new();
    let (mut resident, mut proportional) = (0.0, 0.0);
    for (name, after) in after {
        let before = before.get(name).copied().unwrap_or_default();
        let grown = (after.resident - before.resident) / connections as f64;
        resident += grown;
        proportional += (after.proportional - before.proportional) / connections as f64;
        values.insert(format!("resident_bytes.{name}"), grown);
    }
    values.insert("resident_bytes".to_owned(), resident);
    values.insert("proportional_bytes".to_owned(), proportional);
    values
}
