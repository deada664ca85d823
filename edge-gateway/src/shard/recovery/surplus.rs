//! Sockets that wait for their clients, and have to go before their time.

use std::{cmp::Reverse, time::Instant};

use super::Shard;
use crate::{
    shard::SocketKey,
    socket::{Socket, Stage},
};

impl Shard {
    /// Ends the suspension of a socket, however it ends.
    pub(in crate::shard) fn end_suspension(&mut self, stage: &Stage) {
        if let Stage::Suspended { .. } = stage {
            self.recovery.suspended -= 1;
            self.common.metrics.suspended.decrement(1.0);
        }
    }

    /// Gives up every socket that waits for its client.
    pub(crate) fn give_up_suspended(&mut self) {
        while !self.recovery.ends.is_empty() {
            self.give_up_first();
        }
    }

    pub(crate) fn suspended_count(&self) -> usize {
        self.recovery.suspended
    }

    /// Gives up sockets that wait where their user or tenant has more than it may have, the first to be given up anyway first.
    /// They are looked for only after a socket was let in, on any shard, for which one has to go.
    pub(in crate::shard) fn give_up_surplus(&mut self) {
        let surpluses = self.limits.identities.surpluses();
        if std::mem::replace(&mut self.recovery.surpluses, surpluses) == surpluses {
            return;
        }
        let ends = self.recovery.ends.iter();
        let mut concerned: Vec<_> = ends
            .filter(|Reverse(end)| self.surplus(*end).is_some())
            .map(|Reverse(end)| *end)
            .collect();
        concerned.sort_unstable();
        for end in concerned {
            // Those before it may have been enough.
            if let Some((key, reason)) = self.surplus(end) {
                self.common.metrics.limit_hits.suspended_sockets.increment(1);
                self.common.metrics.recovered("given_up");
                self.remove_socket(key, reason);
            }
        }
    }

    /// The socket that waits until then, and why it does, if it has to go.
    fn surplus(&self, (at, handle): (Instant, u64)) -> Option<(SocketKey, &'static str)> {
        let key = self.socket_by_handle(handle)?;
        let socket = self.sockets.get(key.index())?;
        let Stage::Suspended { ends_at, reason } = socket.stage else { return None };
        // One whose client is just going on with it elsewhere ends there.
        let has_to_go = ends_at == at && self.is_surplus(socket) && !self.is_settling(handle);
        has_to_go.then_some((key, reason))
    }

    /// Whether a socket waits for its client, and its user or tenant has more than it may have.
    pub(super) fn is_surplus(&self, socket: &Socket) -> bool {
        let limits = &self.limits.identities;
        matches!(socket.stage, Stage::Suspended { .. })
            && socket.shares.as_deref().is_some_and(|shares| limits.are_beyond(shares))
    }
}
