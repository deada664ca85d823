//! How far a room's log has reached each of its users, as pure state.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use crate::{room_log::Position, user::User};

/// The users of a room who are followed.
///
/// Each has got all that the log has in a *stretch*: everything after its beginning, up to its end. A user that has come back
/// without what it missed begins another stretch.
#[derive(Debug)]
pub(crate) struct Deliveries {
    /// The life of the log that all of it is about.
    epoch: u64,
    users: BTreeMap<Arc<User>, Standing>,
    /// Some were too many.
    is_incomplete: bool,
}

/// How far the log has reached one user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    /// What came before the user did is nothing that it has missed.
    known_since: u64,
    earlier: Option<(u64, u64)>,
    stretch: Option<Stretch>,
    /// When the end of the stretch is known to have arrived; 0 before that.
    delivered_at_ms: u64,
    /// Since when it has no socket in the room, as far as that was noticed.
    away_since_ms: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stretch {
    pub(crate) after: Position,
    pub(crate) end: Position,
}

/// The room has as many users as are followed already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooMany;

impl Standing {
    fn at(position: Position) -> Self {
        Self {
            known_since: position.offset,
            earlier: None,
            stretch: Some(Stretch { after: position, end: position }),
            delivered_at_ms: 0,
            away_since_ms: None,
        }
    }

    /// The stretch, and when its end is known to have arrived; none while nothing is.
    pub(crate) fn delivered(&self) -> Option<(Stretch, u64)> {
        self.stretch.filter(|_| self.delivered_at_ms > 0).map(|one| (one, self.delivered_at_ms))
    }

    /// Whether the user was to get the entry at an offset, and is not known to have got it.
    pub(crate) fn is_behind(&self, offset: u64) -> bool {
        let now = self.stretch.map(|stretch| (stretch.after.offset, stretch.end.offset));
        let has = |(after, end): (u64, u64)| after < offset && offset <= end;
        offset > self.known_since && !now.into_iter().chain(self.earlier).any(has)
    }

    fn extend(&mut self, end: Position, now_ms: u64) {
        let stretch = self.stretch.get_or_insert(Stretch { after: end, end });
        if end.offset > stretch.end.offset {
            stretch.end = end;
            self.delivered_at_ms = now_ms;
        } else if end == stretch.end && self.delivered_at_ms == 0 {
            self.delivered_at_ms = now_ms;
        }
    }

    fn cut(&mut self, position: Position) {
        let Some(stretch) = &mut self.stretch else {
            self.stretch = Some(Stretch { after: position, end: position });
            self.delivered_at_ms = 0;
            return;
        };
        if position.offset > stretch.end.offset {
            self.earlier = Some((stretch.after.offset, stretch.end.offset));
            *stretch = Stretch { after: position, end: position };
            self.delivered_at_ms = 0;
        }
    }
}

impl Deliveries {
    /// Of a log in this life of its.
    pub(crate) fn new(epoch: u64) -> Self {
        Self { epoch, users: BTreeMap::new(), is_incomplete: false }
    }

    /// A user is in the room and has been all along, as far as anybody knows. If it is new, it begins here; but not where
    /// so many are followed already.
    pub(crate) fn note_here(
        &mut self,
        user: &Arc<User>,
        at: Position,
        users_max: usize,
    ) -> Result<(), TooMany> {
        self.live_in(at.epoch);
        let is_full = self.users.len() >= users_max;
        match self.users.get_mut(user) {
            Some(standing) => {
                standing.stretch.get_or_insert(Stretch { after: at, end: at });
                standing.away_since_ms = None;
            }
            None if is_full => {
                self.is_incomplete = true;
                return Err(TooMany);
            }
            None => drop(self.users.insert(Arc::clone(user), Standing::at(at))),
        }
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
        let is_new = !self.users.contains_key(user);
        self.note_here(user, at, users_max)?;
        if let Some(standing) = self.users.get_mut(user).filter(|_| is_new) {
            standing.known_since = 0;
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
        if let Some(standing) = self.users.get_mut(user) {
            standing.cut(at);
        }
        Ok(())
    }

    /// A user has got everything up to `end` that it was given.
    pub(crate) fn note_delivered(&mut self, user: &User, end: Position, now_ms: u64) {
        self.live_in(end.epoch);
        if let Some(standing) = self.users.get_mut(user) {
            standing.extend(end, now_ms);
        }
    }

    /// A user wants nothing of the room any more.
    pub(crate) fn forget(&mut self, user: &User) -> bool {
        self.users.remove(user).is_some()
    }

    /// Forgets who has been away for longer than `age_max`. `is_here` says who is not.
    pub(crate) fn expire(
        &mut self,
        now_ms: u64,
        age_max: Duration,
        is_here: impl Fn(&User) -> bool,
    ) {
        let age_ms = u64::try_from(age_max.as_millis()).unwrap_or(u64::MAX);
        self.users.retain(|user, standing| {
            if is_here(user) {
                standing.away_since_ms = None;
                return true;
            }
            let since_ms = *standing.away_since_ms.get_or_insert(now_ms);
            now_ms.saturating_sub(since_ms) <= age_ms
        });
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.users.len()
    }

    pub(crate) fn is_incomplete(&self) -> bool {
        self.is_incomplete
    }

    /// The users, by subject.
    pub(crate) fn users(&self) -> impl Iterator<Item = (&Arc<User>, &Standing)> {
        self.users.iter()
    }

    /// Where the log has begun another life, nobody has got any of it.
    pub(crate) fn live_in(&mut self, epoch: u64) {
        if self.epoch != epoch {
            self.epoch = epoch;
            for standing in self.users.values_mut() {
                *standing = Standing {
                    known_since: 0,
                    earlier: None,
                    stretch: None,
                    delivered_at_ms: 0,
                    ..*standing
                };
            }
        }
    }
}

#[cfg(test)]
mod tests;
