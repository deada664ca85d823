//! Holds the events that wait to be written, up to a bound.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::event::AuditEvent;
use super::writer::{self, Lost};

/// How many events may wait; those beyond are counted and lost.
pub(super) const EVENTS_MAX: usize = 4096;

/// An event, and when it was, by the wall clock.
pub(super) type Noted = (AuditEvent, u64);

/// Events on their way to the writer. Whoever adds one never waits for the disk.
#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    events: Vec<Noted>,
    is_stopping: bool,
}

impl Queue {
    pub(super) fn push(&self, event: AuditEvent, unix_ms: u64) {
        let mut state = self.lock();
        if state.events.len() >= EVENTS_MAX {
            drop(state);
            return writer::count_lost(Lost::QueueFull, 1);
        }
        state.events.push((event, unix_ms));
        drop(state);
        self.changed.notify_one();
    }

    pub(super) fn stop(&self) {
        self.lock().is_stopping = true;
        self.changed.notify_one();
    }

    /// Waits for events, for so long at most, and moves them into `events`. Returns whether there may be more.
    pub(super) fn wait(&self, rest: Option<Duration>, events: &mut Vec<Noted>) -> bool {
        let is_idle = |state: &mut State| state.events.is_empty() && !state.is_stopping;
        let state = self.lock();
        let mut state = match rest {
            None => self.changed.wait_while(state, is_idle).unwrap_or_else(PoisonError::into_inner),
            Some(rest) => {
                let waited = self.changed.wait_timeout_while(state, rest, is_idle);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
        };
        std::mem::swap(&mut state.events, events);
        !state.is_stopping
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing is left half done under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::Decision;

    #[test]
    fn so_many_events_wait_and_no_more() {
        let queue = Queue::default();
        let mut events = Vec::new();
        for number in 0..=EVENTS_MAX {
            let event = AuditEvent::new("edge-gateway", "connect", Decision::Denied);
            queue.push(event, number as u64);
        }

        assert!(queue.wait(None, &mut events));

        assert_eq!(events.len(), EVENTS_MAX);
        assert_eq!(events.last().map(|(_, unix_ms)| *unix_ms), Some(EVENTS_MAX as u64 - 1));
        queue.stop();
        events.clear();
        assert!(!queue.wait(None, &mut events));
        assert!(events.is_empty());
    }
}
