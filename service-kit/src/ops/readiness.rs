//! Knows what a process still waits for before it can serve.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

/// The conditions that a process must meet to be ready. All clones are one list.
#[derive(Debug, Clone, Default)]
pub struct Readiness {
    // Locked only to add a condition and to answer an operator.
    conditions: Arc<Mutex<Vec<Condition>>>,
}

/// One thing that must hold for the process to be ready. All clones are one condition.
#[derive(Debug, Clone)]
pub struct Condition {
    name: &'static str,
    is_met: Arc<AtomicBool>,
}

impl Readiness {
    /// Returns a list without conditions, which is ready.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a condition, not met yet.
    ///
    /// Several may have one name (one per shard, say); the process is ready when all of them are met.
    pub fn condition(&self, name: &'static str) -> Condition {
        let condition = Condition { name, is_met: Arc::new(AtomicBool::new(false)) };
        self.lock().push(condition.clone());
        condition
    }

    /// Tells whether every condition is met.
    pub fn is_ready(&self) -> bool {
        self.lock().iter().all(Condition::is_met)
    }

    /// Returns the names of the conditions that are not met, each once, sorted.
    pub fn missing(&self) -> Vec<&'static str> {
        let conditions = self.lock();
        let unmet = conditions.iter().filter(|condition| !condition.is_met());
        let names: BTreeSet<_> = unmet.map(|condition| condition.name).collect();
        names.into_iter().collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Condition>> {
        self.conditions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Condition {
    /// Says whether the condition holds now.
    pub fn set(&self, is_met: bool) {
        self.is_met.store(is_met, Ordering::Relaxed);
    }

    fn is_met(&self) -> bool {
        self.is_met.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_to_wait_for_is_ready() {
        assert!(Readiness::new().is_ready());
        assert!(Readiness::new().missing().is_empty());
    }

    #[test]
    fn ready_means_that_every_condition_is_met() {
        let readiness = Readiness::new();
        let listening = readiness.condition("listening");
        let linked = readiness.condition("backend_link");
        assert_eq!(readiness.missing(), ["backend_link", "listening"]);

        listening.set(true);
        assert!(!readiness.is_ready());
        assert_eq!(readiness.missing(), ["backend_link"]);

        linked.clone().set(true);
        assert!(readiness.clone().is_ready());

        linked.set(false);
        assert_eq!(readiness.missing(), ["backend_link"]);
    }

    #[test]
    fn conditions_of_one_name_count_each_and_show_once() {
        let readiness = Readiness::new();
        let (first, second) = (readiness.condition("link"), readiness.condition("link"));
        assert_eq!(readiness.missing(), ["link"]);

        first.set(true);
        assert_eq!(readiness.missing(), ["link"]);

        second.set(true);
        assert!(readiness.is_ready());
    }
}
