//! Sends the clients away when the edge is stopped: in batches, spread over time, so that they do not all come back at once.

use std::time::Duration;

use tokio::time::{self, Instant};

use super::{ConnectionKey, SharedShard};
use crate::close_reason::CloseReason;

/// How long one batch is apart from the next, on average.
const BATCH_INTERVAL: Duration = Duration::from_millis(100);

/// A batch is at least this large: few clients need no spreading.
const BATCH_MIN: usize = 64;

/// How long business services may take to hear of the last sockets' ends.
const LINKS_DEADLINE: Duration = Duration::from_secs(2);

/// How long clients that were sent away may take to claim their sockets at another edge: an official client waits between
/// half a second and one and a half before it tries.
const CLAIMS_DEADLINE: Duration = Duration::from_secs(5);

/// Closes every connection within the drain timeout, and waits until the business services know of it.
pub(crate) async fn run(shard: &SharedShard) {
    let timeout = shard.borrow().limits.drain_timeout;
    let deadline = Instant::now() + timeout;
    shard.borrow_mut().draining = true;
    let mut open = connections(shard);
    let batches = (timeout.as_millis() / BATCH_INTERVAL.as_millis()).max(1);
    let batch = open.len().div_ceil(usize::try_from(batches).unwrap_or(1)).max(BATCH_MIN);
    while !open.is_empty() {
        for key in open.drain(..batch.min(open.len())) {
            shard.borrow_mut().close(key, CloseReason::ShuttingDown);
        }
        if open.is_empty() || Instant::now() >= deadline {
            // Those that came in meanwhile, or the rest when the time is up.
            open = connections(shard);
            continue;
        }
        time::sleep(jittered(BATCH_INTERVAL)).await;
    }
    let claimed = async {
        while shard.borrow().suspended_count() > 0 {
            time::sleep(Duration::from_millis(5)).await;
        }
    };
    // The clients come back to other edges, and claim their sockets from here.
    if time::timeout(CLAIMS_DEADLINE, claimed).await.is_err() {
        shard.borrow_mut().give_up_suspended();
    }
    let links_idle = async {
        while !shard.borrow().links.iter().all(|link| link.is_idle() || !link.is_attached()) {
            time::sleep(Duration::from_millis(5)).await;
        }
    };
    if time::timeout(LINKS_DEADLINE, links_idle).await.is_err() {
        tracing::warn!("stopped before a business service knew that its sockets are gone");
    }
}

fn connections(shard: &SharedShard) -> Vec<ConnectionKey> {
    let shard = shard.borrow();
    let connections = shard.connections.iter();
    connections
        .map(|(index, entry)| ConnectionKey {
            index: u32::try_from(index).unwrap_or(u32::MAX),
            serial: entry.serial,
        })
        .collect()
}

/// Between half and one and a half of `interval`, so that shards and edges do not beat in time.
fn jittered(interval: Duration) -> Duration {
    let mut byte = [0];
    // Without randomness there is no jitter, and the drain still works.
    if getrandom::fill(&mut byte).is_err() {
        return interval;
    }
    interval / 2 + interval * u32::from(byte[0]) / 256
}
