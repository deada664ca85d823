//! Listens to the auth service for tokens that are taken back, for as long as the shard runs.

use std::{future, time::Duration};

use tokio::time;

use crate::{auth::TokenVerifier, shard::SharedShard};

/// How long to wait before listening again, once a stream has ended.
const RETRY_INTERVAL: Duration = Duration::from_millis(250);

/// Goes on after a break with what came meanwhile. Sockets live on while the auth service cannot be heard.
pub(crate) async fn run(shard: SharedShard, verifier: TokenVerifier) {
    if !shard.borrow().verifies_tokens() {
        return future::pending().await;
    }
    loop {
        let told = shard.borrow().revocations.told();
        if let Ok(mut answers) = verifier.watch_revocations(told).await {
            let gauge = shard.borrow().common.metrics.revocation_watches.clone();
            gauge.increment(1.0);
            while let Ok(Some(answer)) = answers.message().await {
                shard.borrow_mut().revoked(answer);
            }
            gauge.decrement(1.0);
        }
        time::sleep(RETRY_INTERVAL).await;
    }
}
