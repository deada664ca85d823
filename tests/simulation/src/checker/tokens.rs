//! How long the connections of clients may last by their tokens.

use std::{collections::BTreeMap, time::Duration};

/// How long after a token's end its connection may still be heard of: an edge looks at its deadlines in steps, and what it has
/// sent takes its time.
const ENDING_MAX: Duration = Duration::from_secs(1);

/// By client: when the token of the present connection ends, where that is certain.
#[derive(Debug, Default)]
pub(super) struct Tokens(BTreeMap<usize, Duration>);

impl Tokens {
    /// A client was let in. Nothing is certain where its edge has the time wrong.
    pub(super) fn note_connected(&mut self, client: usize, expires: Duration, is_skewed: bool) {
        if is_skewed {
            self.0.remove(&client);
        } else {
            self.0.insert(client, expires);
        }
    }

    /// Whether a token has ended that a connection of a client still lasts by.
    pub(super) fn has_outlived(&self, client: usize, now: Duration) -> bool {
        self.0.get(&client).is_some_and(|expires| *expires + ENDING_MAX < now)
    }

    /// Whether an edge may say that a client's token has ended.
    pub(super) fn may_expire(&self, client: usize, now: Duration) -> bool {
        self.0.get(&client).is_none_or(|expires| *expires <= now)
    }
}
