//! Sockets that wait for their clients, and have to go before their time.

use std::{cmp::Reverse, time::Instant};

use super::Shard;
use crate::{
    quota::Whose,
    shard::{NamespaceKey, SocketKey, UserName},
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

    /// Gives up sockets that wait where their user has more than it may have. They are looked for only after a socket was let in,
    /// on any shard, for which one has to go, and among those of its user only: when all come back at once, each has to.
    pub(in crate::shard) fn give_up_surplus(&mut self) {
        let (count, whose) = self.limits.identities.surpluses_since(self.recovery.surpluses);
        self.recovery.surpluses = count;
        for whose in &whose {
            match whose {
                Whose::User { tenant, subject } => {
                    let ends = self.ends_of(UserName { tenant, subject });
                    self.give_up_surplus_of(ends);
                }
                Whose::Anybody => self.recovery.looks_at_all = true,
            }
        }
    }

    /// The same for those of whole tenants, and where it is not known any more whose they are. For the tick: it looks at all that
    /// wait, which not everyone who comes may cause.
    pub(super) fn give_up_anybodys_surplus(&mut self) {
        if std::mem::take(&mut self.recovery.looks_at_all) {
            let ends = self.recovery.ends.iter().map(|Reverse(end)| *end);
            let concerned = ends.filter(|end| self.surplus(*end).is_some()).collect();
            self.give_up_surplus_of(concerned);
        }
    }

    /// Until when the sockets of a user wait that do.
    fn ends_of(&self, user: UserName<'_>) -> Vec<(Instant, u64)> {
        let namespaces = (0..).map(NamespaceKey::new).take(self.namespaces.len());
        let sockets = namespaces.flat_map(|namespace| self.rooms.of_user(namespace, user));
        let sockets = sockets.filter_map(|key| self.sockets.get(key.index()));
        sockets
            .filter_map(|socket| match socket.stage {
                Stage::Suspended { ends_at, .. } => Some((ends_at, socket.handle)),
                Stage::Opening { .. } | Stage::Arriving { .. } | Stage::Live => None,
            })
            .collect()
    }

    /// Gives up those of these which have to go, the first to be given up anyway first.
    fn give_up_surplus_of(&mut self, mut concerned: Vec<(Instant, u64)>) {
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
