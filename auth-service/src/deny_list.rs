//! Holds which tokens were taken back, and refuses them.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tokio::sync::watch;

use crate::config::CLOCK_LEEWAY_MAX;
use crate::identity::Identity;
use crate::refusal::Refusal;

mod journal;
mod revocation;

pub use journal::OpenDenyListError;
pub(crate) use revocation::{Revocation, RevocationRequest, Target, Tokens};

use journal::Journal;

pub(crate) use journal::check_file;

/// Most revocations that are kept: 64 MB of memory with ids of 36 bytes, and a file of 21 MB.
const REVOCATION_COUNT_MAX: usize = 100_000;

/// Which tokens were taken back. Checking takes no lock that a write to the disk holds.
#[derive(Debug)]
pub(crate) struct DenyList {
    index: RwLock<Index>,
    /// Held for as long as a revocation is made, so that the file has them in the order of their positions. Absent where the
    /// service has no file.
    journal: Mutex<Option<Journal>>,
    /// The last position, for those who wait for the next.
    newest: watch::Sender<u64>,
    /// Made at each start: the file may be another, or an older copy of it. Empty where there is none, and so never anything in
    /// the list.
    id: String,
    count_max: usize,
}

/// What follows a position.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) revocations: Vec<Revocation>,
    pub(crate) has_more: bool,
    /// Everything up to here is known with this page.
    pub(crate) position: u64,
}

#[derive(Debug, Default)]
struct Index {
    by_target: HashMap<Target, Revocation>,
    by_position: BTreeMap<u64, Target>,
    last_position: u64,
}

impl DenyList {
    /// Makes a list that nothing can be added to.
    pub(crate) fn empty() -> Self {
        Self::new(Index::default(), None, String::new())
    }

    /// Reads the file, and makes it where there is none.
    pub(crate) fn open(path: PathBuf, now_unix_ms: u64) -> Result<Self, OpenDenyListError> {
        let (mut journal, content) = Journal::open(path)?;
        let mut index = Index { last_position: content.last_position, ..Index::default() };
        for revocation in content.revocations {
            index.insert(revocation);
        }
        index.forget_expired(now_unix_ms);
        index.rewrite(&mut journal).map_err(|source| journal.unusable(source))?;
        let id = random_id().map_err(|source| journal.unusable(source))?;
        Ok(Self::new(index, Some(journal), id))
    }

    fn new(index: Index, journal: Option<Journal>, id: String) -> Self {
        Self {
            newest: watch::Sender::new(index.last_position),
            id,
            index: RwLock::new(index),
            journal: Mutex::new(journal),
            count_max: REVOCATION_COUNT_MAX,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.read(|index| index.by_target.len())
    }

    /// Refuses a token that was taken back, by whatever names it; of any other it returns the position of the last revocation
    /// that it was held against.
    pub(crate) fn check(&self, identity: &Identity) -> Result<u64, Refusal> {
        self.read(|index| {
            // Nothing is copied to look a token up in a list that has nothing.
            let is_revoked = !index.by_target.is_empty()
                && Target::all_of(identity).any(|target| {
                    let revocation = index.by_target.get(&target);
                    revocation.is_some_and(|revocation| {
                        revocation.concerns(identity.marks.issued_at_unix_ms)
                    })
                });
            if is_revoked { Err(Refusal::Revoked) } else { Ok(index.last_position) }
        })
    }

    /// Takes tokens back. It waits for the disk.
    pub(crate) fn revoke(
        &self,
        request: RevocationRequest,
        now_unix_ms: u64,
    ) -> Result<Revocation, RevokeError> {
        let mut journal = self.journal();
        let journal = journal.as_mut().ok_or(RevokeError::SwitchedOff)?;
        let request = match self.read(|index| index.by_target.get(&request.target).cloned()) {
            Some(present) if present.says_all_of(&request) => return Ok(present),
            Some(present) => request.and(&present),
            None => {
                self.make_room(now_unix_ms)?;
                request
            }
        };
        let revocation = Revocation {
            position: self.read(|index| index.last_position) + 1,
            target: request.target,
            issued_before_unix_ms: request.issued_before_unix_ms,
            expires_at_unix_ms: request.expires_at_unix_ms,
            revoked_at_unix_ms: now_unix_ms,
        };
        journal.append(&revocation).map_err(RevokeError::Write)?;
        self.write(|index| index.insert(revocation.clone()));
        self.newest.send_replace(revocation.position);
        if journal.is_mostly_old(self.len()) {
            // The revocation is on disk already. When the file cannot be made smaller, it just grows.
            self.read(|index| index.rewrite(journal)).unwrap_or_else(|error| {
                tracing::warn!(%error, "the file of revocations cannot be written anew");
            });
        }
        Ok(revocation)
    }

    /// Returns up to `limit` revocations after a position.
    pub(crate) fn list(&self, after_position: u64, limit: usize) -> Page {
        self.read(|index| {
            let mut targets = index
                .by_position
                .range(after_position.saturating_add(1)..)
                .map(|(_, target)| target);
            let page = targets.by_ref().take(limit);
            let page = page.filter_map(|target| index.by_target.get(target).cloned());
            let revocations: Vec<_> = page.collect();
            let has_more = targets.next().is_some();
            let position = match revocations.last() {
                Some(last) if has_more => last.position,
                _ => index.last_position,
            };
            Page { revocations, has_more, position }
        })
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Tells the last position, and each that follows.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    fn make_room(&self, now_unix_ms: u64) -> Result<(), RevokeError> {
        if self.len() < self.count_max {
            return Ok(());
        }
        self.write(|index| index.forget_expired(now_unix_ms));
        if self.len() < self.count_max { Ok(()) } else { Err(RevokeError::Full) }
    }

    fn journal(&self) -> MutexGuard<'_, Option<Journal>> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read<T>(&self, look: impl FnOnce(&Index) -> T) -> T {
        look(&self.index.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write<T>(&self, change: impl FnOnce(&mut Index) -> T) -> T {
        change(&mut self.index.write().unwrap_or_else(PoisonError::into_inner))
    }
}

fn random_id() -> io::Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

impl Index {
    fn insert(&mut self, revocation: Revocation) {
        self.last_position = self.last_position.max(revocation.position);
        self.by_position.insert(revocation.position, revocation.target.clone());
        if let Some(former) = self.by_target.insert(revocation.target.clone(), revocation) {
            self.by_position.remove(&former.position);
        }
    }

    /// Forgets what concerns only tokens that have expired, by any clock that we live with.
    fn forget_expired(&mut self, now_unix_ms: u64) {
        let leeway_ms = u64::try_from(CLOCK_LEEWAY_MAX.as_millis()).unwrap_or(u64::MAX);
        let Self { by_target, by_position, .. } = self;
        by_target.retain(|_, revocation| {
            let end = revocation.expires_at_unix_ms;
            let is_kept = end == 0 || end.saturating_add(leeway_ms) > now_unix_ms;
            if !is_kept {
                by_position.remove(&revocation.position);
            }
            is_kept
        });
    }

    fn rewrite(&self, journal: &mut Journal) -> io::Result<()> {
        let revocations = self.by_position.values().filter_map(|target| self.by_target.get(target));
        journal.rewrite(self.last_position, revocations)
    }
}

/// Why nothing was taken back.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RevokeError {
    #[error("revoking is switched off: there is no file to keep revocations in")]
    SwitchedOff,
    #[error("as many revocations are kept as may be")]
    Full,
    #[error("the revocation cannot be kept")]
    Write(#[source] io::Error),
}

impl RevokeError {
    /// Returns the name that the audit log uses.
    pub(crate) const fn label(&self) -> &'static str {
        match self {
            Self::SwitchedOff => "switched_off",
            Self::Full => "list_full",
            Self::Write(_) => "write_failed",
        }
    }
}

#[cfg(test)]
mod tests;
