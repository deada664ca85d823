//! How far a room's log has reached each of its users, as pure state.

mod standing;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

pub(crate) use self::standing::{Standing, Stretch};
use crate::{
    room_log::{KeptStanding, Position},
    user::User,
};

/// The users of a room who are followed.
///
/// Each has got all that the log has in a *stretch*: everything after its beginning, up to its end. A user that has come back
/// without what it missed begins another stretch.
#[derive(Debug)]
pub(crate) struct Deliveries {
    /// The life of the log that all of it is about.
    epoch: u64,
    users: BTreeMap<Arc<User>, Standing>,
    unlisted: Unlisted,
    /// Whose standings are to be kept, as they are not what was kept last; none where none are kept.
    changed: Option<BTreeSet<Arc<User>>>,
}

/// Users who should be followed and are not: they were too many, or what was kept of them could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Unlisted {
    /// Some are in the room.
    pub(crate) are_here: bool,
    /// When the last of them was lost from the room, or may have been.
    pub(crate) gone_at_ms: Option<u64>,
}

/// The room has as many users as are followed already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooMany;

impl Deliveries {
    /// Of a log in this life of its.
    pub(crate) fn new(epoch: u64, unlisted: Unlisted) -> Self {
        Self { epoch, users: BTreeMap::new(), unlisted, changed: None }
    }

    /// Those that are kept, of a log of this tenant that ends here.
    pub(crate) fn kept(
        tenant: &str,
        end: Position,
        standings: &[KeptStanding],
        unlisted: Unlisted,
    ) -> Self {
        let users = standings.iter().filter_map(|kept| {
            // It was a user's name when it was kept.
            let user = User::parse_of(tenant, (&kept.subject, &kept.issuer), b"{}").ok()?;
            Some((Arc::new(user), Standing::from_kept(kept, end)))
        });
        let (users, changed) = (users.collect(), Some(BTreeSet::new()));
        Self { epoch: end.epoch, users, unlisted, changed }
    }

    /// A user is in the room and has been all along, as far as anybody knows. If it is new, it begins here; but not where
    /// so many are followed already. One that is not new for certain may have missed what came before.
    pub(crate) fn note_here(
        &mut self,
        user: &Arc<User>,
        at: Position,
        users_max: usize,
    ) -> Result<(), TooMany> {
        self.live_in(at.epoch);
        if self.lists(user) {
            self.change(user, |standing| {
                standing.begin(at);
                standing.away_since_ms = None;
            });
            return Ok(());
        }
        if self.users.len() >= users_max {
            self.unlisted.are_here = true;
            return Err(TooMany);
        }
        let mut standing = Standing::at(at);
        if self.is_incomplete() {
            standing.known_since = 0;
        }
        self.users.insert(Arc::clone(user), standing);
        self.note_changed(user);
        Ok(())
    }

    /// As [`note_here`](Self::note_here), of a user that was here before this process was: nobody knows since when. What came
    /// before `at` it may have missed.
    pub(crate) fn note_back(
        &mut self,
        user: &Arc<User>,
        at: Position,
        users_max: usize,
    ) -> Result<(), TooMany> {
        let is_new = !self.lists(user);
        self.note_here(user, at, users_max)?;
        if is_new {
            self.change(user, |standing| standing.known_since = 0);
        }
        Ok(())
    }

    /// A user goes on at `at` and is not given what came before, if it has not got that already.
    pub(crate) fn note_gap(
        &mut self,
        user: &Arc<User>,
        at: Position,
        users_max: usize,
    ) -> Result<(), TooMany> {
        self.note_here(user, at, users_max)?;
        self.change(user, |standing| standing.cut(at));
        Ok(())
    }

    /// As [`note_gap`](Self::note_gap), where nobody can tell.
    pub(crate) fn note_gap_somewhere(&mut self, user: &Arc<User>) {
        self.change(user, Standing::cut_somewhere);
    }

    /// Whether a user goes on where nobody could tell: until that is known, it is not known to get anything.
    pub(crate) fn is_cut(&self, user: &User) -> bool {
        self.users.get(user).is_some_and(Standing::is_cut)
    }

    /// If so, a user is given what comes after here.
    pub(crate) fn note_gap_ends(&mut self, user: &Arc<User>, at: Position) {
        self.live_in(at.epoch);
        if self.is_cut(user) {
            self.change(user, |standing| standing.cut(at));
        }
    }

    /// Nobody can tell whether what is kept is of this life of the log.
    pub(crate) fn doubt_all(&mut self) {
        self.users.values_mut().for_each(Standing::cut_somewhere);
    }

    /// A user has got everything up to `end` that it was given.
    pub(crate) fn note_delivered(&mut self, user: &Arc<User>, end: Position, now_ms: u64) {
        self.live_in(end.epoch);
        self.change(user, |standing| standing.extend(end, now_ms));
    }

    /// A user wants nothing of the room any more.
    pub(crate) fn forget(&mut self, user: &Arc<User>) -> bool {
        let was_listed = self.users.remove(user).is_some();
        if was_listed {
            self.note_changed(user);
        }
        was_listed
    }

    /// A user was lost from the room.
    pub(crate) fn note_gone(&mut self, user: &User, now_ms: u64) {
        if self.is_incomplete() && !self.lists(user) {
            self.unlisted.gone_at_ms = Some(now_ms);
        }
    }

    /// Follows those who are here and were too many before, as far as they are not too many now.
    pub(crate) fn list_unlisted<'a>(
        &mut self,
        here: impl Iterator<Item = &'a Arc<User>>,
        at: Position,
        users_max: usize,
    ) {
        self.unlisted.are_here = false;
        for user in here {
            if !self.lists(user) && self.note_back(user, at, users_max) == Err(TooMany) {
                return;
            }
        }
    }

    /// Forgets who has been away for longer than `age_max`. `is_here` says who is not.
    pub(crate) fn expire(
        &mut self,
        now_ms: u64,
        age_max: Duration,
        is_here: impl Fn(&User) -> bool,
    ) {
        let age_ms = age_ms(age_max);
        let is_over = |since_ms: u64| now_ms.saturating_sub(since_ms) > age_ms;
        let Self { users, changed, .. } = self;
        users.retain(|user, standing| {
            let was_away_since_ms = standing.away_since_ms;
            let since_ms = (!is_here(user)).then(|| was_away_since_ms.unwrap_or(now_ms));
            standing.away_since_ms = since_ms;
            let stays = !since_ms.is_some_and(is_over);
            if (since_ms != was_away_since_ms || !stays)
                && let Some(changed) = changed
            {
                changed.insert(Arc::clone(user));
            }
            stays
        });
        self.unlisted.gone_at_ms = self.unlisted.gone_at_ms.filter(|at_ms| !is_over(*at_ms));
    }

    /// When the first of them has been away for `age_max`, if nobody comes back.
    pub(crate) fn due_at_ms(&self, now_ms: u64, age_max: Duration) -> u64 {
        let users = self.users.values();
        let since = users.map(|standing| standing.away_since_ms.unwrap_or(now_ms));
        let first = since.chain(self.unlisted.gone_at_ms).min().unwrap_or(now_ms);
        first.saturating_add(age_ms(age_max))
    }

    /// Whether there is nothing to be known.
    pub(crate) fn is_empty(&self) -> bool {
        self.users.is_empty() && !self.is_incomplete()
    }

    pub(crate) fn len(&self) -> usize {
        self.users.len()
    }

    /// Whether users are missing from the list, or may be.
    pub(crate) fn is_incomplete(&self) -> bool {
        self.unlisted != Unlisted::default()
    }

    pub(crate) fn unlisted(&self) -> Unlisted {
        self.unlisted
    }

    pub(crate) fn lists(&self, user: &User) -> bool {
        self.users.contains_key(user)
    }

    /// The users, by subject.
    pub(crate) fn users(&self) -> impl Iterator<Item = (&Arc<User>, &Standing)> {
        self.users.iter()
    }

    pub(crate) fn standing(&self, user: &User) -> Option<Standing> {
        self.users.get(user).copied()
    }

    pub(crate) fn has_changes(&self) -> bool {
        self.changed.as_ref().is_some_and(|changed| !changed.is_empty())
    }

    /// What is to be kept of a user, if that has changed: nothing where it is not followed any more.
    pub(crate) fn take_change(&mut self, user: &Arc<User>) -> Option<Option<KeptStanding>> {
        let was_changed = self.changed.as_mut()?.remove(user);
        was_changed.then(|| self.to_keep(user))
    }

    /// The same for any user that has changed.
    pub(crate) fn take_any_change(&mut self) -> Option<(Arc<User>, Option<KeptStanding>)> {
        let user = self.changed.as_mut()?.pop_first()?;
        let standing = self.to_keep(&user);
        Some((user, standing))
    }

    fn to_keep(&self, user: &User) -> Option<KeptStanding> {
        self.users.get(user).map(|standing| standing.to_kept(user, self.epoch))
    }

    /// Where the log has begun another life, nobody has got any of it; whoever is here is given it from its start. What is
    /// kept need not say so: it names the life.
    pub(crate) fn live_in(&mut self, epoch: u64) {
        if self.epoch != epoch {
            self.epoch = epoch;
            for standing in self.users.values_mut() {
                standing.lose_all();
                if standing.away_since_ms.is_none() {
                    standing.begin(Position::start(epoch));
                }
            }
        }
    }

    fn change(&mut self, user: &Arc<User>, change: impl FnOnce(&mut Standing)) {
        let Some(standing) = self.users.get_mut(user) else { return };
        let before = *standing;
        change(standing);
        if *standing != before {
            self.note_changed(user);
        }
    }

    fn note_changed(&mut self, user: &Arc<User>) {
        if let Some(changed) = &mut self.changed {
            changed.insert(Arc::clone(user));
        }
    }
}

fn age_ms(age_max: Duration) -> u64 {
    u64::try_from(age_max.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
