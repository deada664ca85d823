//! The workers, each of which owns the rooms that fall to it.

use std::{hash::BuildHasher, sync::Arc};

use foldhash::quality::FixedState;
use tokio::{sync::mpsc, task::JoinSet};

use crate::{
    room_key::RoomKey,
    room_log::RoomLog,
    worker::{Command, Worker},
};

/// How many commands may wait for one worker. When it is full, links stop beginning further events, and edges see that
/// nothing is acknowledged.
const QUEUE_COMMANDS_MAX: usize = 1024;

/// A link keeps the set of workers that know a socket in one word.
pub(crate) const WORKERS_MAX: usize = 64;

/// Which room falls to which worker is the same in each process: it makes runs alike.
const HASH_SEED: u64 = 0x736f_636b_6579_6521;

/// Finds the worker of a room.
#[derive(Debug, Clone)]
pub(crate) struct Workers {
    queues: Arc<[mpsc::Sender<Command>]>,
}

/// One worker, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WorkerIndex(usize);

impl Workers {
    /// Starts them in `tasks`. They end when nobody can send to them any more.
    pub(crate) fn start<L: RoomLog>(
        workers: impl IntoIterator<Item = Worker<L>>,
        tasks: &mut JoinSet<()>,
    ) -> Self {
        let mut queues = Vec::new();
        for worker in workers {
            let (queue, commands) = mpsc::channel(QUEUE_COMMANDS_MAX);
            tasks.spawn(worker.run(commands));
            queues.push(queue);
        }
        Self { queues: queues.into() }
    }

    pub(crate) fn of(&self, room: &RoomKey) -> WorkerIndex {
        WorkerIndex(worker_of(room, self.queues.len()))
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = WorkerIndex> + use<> {
        (0..self.queues.len()).map(WorkerIndex)
    }

    pub(crate) fn queue(&self, worker: WorkerIndex) -> &mpsc::Sender<Command> {
        &self.queues[worker.0]
    }
}

/// The number of the worker that a room falls to, of so many.
pub(crate) fn worker_of(room: &RoomKey, workers: usize) -> usize {
    let hash = FixedState::with_seed(HASH_SEED).hash_one(room.as_str());
    // The remainder is smaller than the number of workers, which fits.
    (hash % workers as u64) as usize
}

/// A set of workers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct WorkerSet(u64);

impl WorkerSet {
    pub(crate) fn insert(&mut self, worker: WorkerIndex) {
        self.0 |= 1 << worker.0;
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = WorkerIndex> {
        (0..WORKERS_MAX).filter(move |index| self.0 >> index & 1 == 1).map(WorkerIndex)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_of_workers_holds_the_first_and_the_last() {
        let mut set = WorkerSet::default();
        for index in [0, 5, WORKERS_MAX - 1, 5] {
            set.insert(WorkerIndex(index));
        }

        assert_eq!(set.iter().map(|worker| worker.0).collect::<Vec<_>>(), [0, 5, 63]);
    }
}
