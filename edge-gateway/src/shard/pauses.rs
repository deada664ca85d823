//! Connections that are not read for a while: those that wait for others, and those that have sent more bytes than they may.

use std::{cmp::Reverse, collections::BinaryHeap, time::Instant};

use super::{ConnectionKey, Flow, Shard};

/// Why a connection is not read. It is read again when nothing of this is left.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pauses {
    /// A link has no room for what it sends, or it is being let in.
    for_others: bool,
    /// Its allowance of bytes is overdrawn.
    for_bytes: bool,
}

/// When the allowance of which connection is made up for. May name connections that are gone.
#[derive(Debug, Default)]
pub(super) struct Overdrawn(BinaryHeap<Reverse<(Instant, (u32, u32))>>);

impl Pauses {
    pub(super) fn is_paused(self) -> bool {
        self != Self::default()
    }
}

impl Shard {
    /// Has a connection wait until [`resume`](Self::resume).
    pub(crate) fn pause(&mut self, key: ConnectionKey) -> Flow {
        if let Some(entry) = self.entry(key) {
            entry.pauses.for_others = true;
        }
        Flow::Pause
    }

    pub(crate) fn resume(&mut self, key: ConnectionKey) {
        if let Some(entry) = self.entry(key) {
            entry.pauses.for_others = false;
            self.read_again(key);
        }
    }

    /// Reads a connection again, unless there is another reason not to.
    fn read_again(&mut self, key: ConnectionKey) {
        let Some(entry) = self.entry(key).filter(|entry| !entry.pauses.is_paused()) else { return };
        entry.connection.resume();
        // What its client has sent since waits to be read: the time for attachments begins anew.
        if entry.assembling_since.is_some() {
            self.assembling(key, Instant::now());
        }
    }

    /// Has a connection wait until its allowance of bytes is made up for.
    pub(super) fn pause_for_bytes(&mut self, key: ConnectionKey, until: Instant) -> Flow {
        let Some(entry) = self.entry(key) else { return Flow::Closed };
        // One that waits is looked at again when it has waited.
        if !std::mem::replace(&mut entry.pauses.for_bytes, true) {
            self.overdrawn.0.push(Reverse((until, (key.index, key.serial))));
        }
        Flow::Pause
    }

    /// Has the connections read again whose allowances are made up for.
    pub(super) fn end_pauses_for_bytes(&mut self, now: Instant) {
        let limit = self.limits.bytes;
        while let Some(Reverse((until, (index, serial)))) = self.overdrawn.0.peek().copied()
            && until <= now
        {
            self.overdrawn.0.pop();
            let key = ConnectionKey { index, serial };
            let Some(entry) = self.entry(key) else { continue };
            entry.pauses.for_bytes = false;
            if let Some(excess) = entry.rates.bytes.excess(now, limit) {
                self.pause_for_bytes(key, now + excess);
            } else {
                self.read_again(key);
            }
        }
    }
}
