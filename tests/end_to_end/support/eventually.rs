//! Waits for a condition, never longer than a deadline.

use std::{future::Future, time::Duration};

use tokio::time::{self, MissedTickBehavior};

/// How long anything may take on a busy machine before a test gives up on it.
const DEADLINE: Duration = Duration::from_secs(60);

const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Returns what `probe` finds once it finds something.
///
/// # Panics
///
/// With `what` when [`DEADLINE`] passes first.
pub(crate) async fn eventually<T>(what: &str, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let mut ticks = time::interval(POLL_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    within(what, async {
        loop {
            ticks.tick().await;
            if let Some(found) = probe().await {
                return found;
            }
        }
    })
    .await
}

/// Returns what `future` comes to.
///
/// # Panics
///
/// With `what` when [`DEADLINE`] passes first.
#[track_caller]
pub(crate) fn within<T>(what: &str, future: impl Future<Output = T>) -> impl Future<Output = T> {
    let caller = std::panic::Location::caller();
    async move {
        match time::timeout(DEADLINE, future).await {
            Ok(value) => value,
            Err(_) => panic!("waited {DEADLINE:?} in vain: {what} (at {caller})"),
        }
    }
}
