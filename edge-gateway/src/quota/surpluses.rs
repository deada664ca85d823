//! Whose sockets that wait for their clients may have to go. Each shard looks at its own when it gets to it.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::socket::Identity;

/// How many are remembered by name. A shard that comes late looks at everybody's.
const NAMED_MAX: usize = 1024;

/// Who has had more than it may have, in the order in which it was noticed.
#[derive(Debug, Default)]
pub(super) struct Surpluses {
    count: AtomicU64,
    latest: Mutex<VecDeque<Whose>>,
}

/// Whose sockets are to be looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Whose {
    User {
        tenant: Box<str>,
        subject: Box<str>,
    },
    /// One whose users are not known.
    Anybody,
}

impl Surpluses {
    pub(super) fn note_user(&self, identity: &Identity) {
        let (tenant, subject) = (identity.tenant.as_ref().into(), identity.subject.as_ref().into());
        self.note(Whose::User { tenant, subject });
    }

    pub(super) fn note_tenant(&self) {
        self.note(Whose::Anybody);
    }

    fn note(&self, whose: Whose) {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        if latest.len() == NAMED_MAX {
            latest.pop_front();
        }
        latest.push_back(whose);
        self.count.fetch_add(1, Ordering::Release);
    }

    /// Whose were noted since there were `seen`, and how many there are now.
    pub(super) fn since(&self, seen: u64) -> (u64, Vec<Whose>) {
        if self.count.load(Ordering::Acquire) == seen {
            return (seen, Vec::new());
        }
        let latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        let count = self.count.load(Ordering::Acquire);
        let news = usize::try_from(count.saturating_sub(seen)).unwrap_or(usize::MAX);
        let whose = match latest.len().checked_sub(news) {
            Some(known) => latest.iter().skip(known).cloned().collect(),
            None => vec![Whose::Anybody],
        };
        (count, whose)
    }
}
