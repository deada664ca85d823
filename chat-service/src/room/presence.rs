//! Who is seen in a room, as pure state: users go later than their sockets, and where they are many they are counted.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::Arc,
};

use tokio::time::Instant;

use super::{Joined, Left};
use crate::{client_view::LISTED_USERS_BYTES_MAX, user::User};

#[derive(Debug)]
pub(super) struct Presence {
    /// With more users than this, the room is counted.
    list_max: usize,
    /// Those who are seen.
    users: BTreeMap<Arc<User>, Standing>,
    /// Of their profiles.
    bytes: usize,
    /// The others are told how many there are, and no longer who comes and goes.
    is_counted: bool,
    /// When they are told next, if something is to be told.
    notice_at: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// With so many sockets.
    Here(u32),
    /// With none, and nobody has been told.
    Going { until: Instant },
}

/// How a user goes whose last socket does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Parting {
    /// It is seen no more.
    Final,
    /// It is seen until then, and if it is back by then, nobody has noticed.
    Until(Instant),
}

/// How the others are told of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Notice {
    /// At once, who has come or gone.
    Now,
    /// By a notice that is due at the time that was given.
    Due,
    /// By a notice that is due already.
    Awaited,
}

/// What a notice is to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoticeDue {
    /// How many there are.
    Count,
    /// Who is there: from here on, changes are told one by one.
    List,
}

impl Presence {
    pub(super) fn new(list_max: usize) -> Self {
        Self { list_max, users: BTreeMap::new(), bytes: 0, is_counted: false, notice_at: None }
    }

    pub(super) fn note_here(&mut self, user: &Arc<User>) -> Joined {
        match self.users.entry(Arc::clone(user)) {
            Entry::Vacant(vacant) => {
                self.bytes += listed_bytes(vacant.key());
                vacant.insert(Standing::Here(1));
                self.is_counted |=
                    self.users.len() > self.list_max || self.bytes > LISTED_USERS_BYTES_MAX;
                Joined::User
            }
            Entry::Occupied(mut occupied) => {
                let sockets = match occupied.get() {
                    Standing::Here(sockets) => sockets + 1,
                    Standing::Going { .. } => 1,
                };
                occupied.insert(Standing::Here(sockets));
                Joined::Socket
            }
        }
    }

    /// A socket that was noted is gone, or its client is.
    pub(super) fn note_gone(&mut self, user: &Arc<User>, parting: Parting) -> Left {
        let Some(standing) = self.users.get_mut(user) else { return Left::Socket };
        match (*standing, parting) {
            (Standing::Here(sockets), _) if sockets > 1 => {
                *standing = Standing::Here(sockets - 1);
                Left::Socket
            }
            (_, Parting::Until(until)) => {
                *standing = Standing::Going { until };
                Left::Going { user: Arc::clone(user), until }
            }
            (_, Parting::Final) => self.remove(user).map_or(Left::Socket, Left::User),
        }
    }

    pub(super) fn handle_grace_over(
        &mut self,
        user: &Arc<User>,
        until: Instant,
    ) -> Option<Arc<User>> {
        if self.users.get(user) != Some(&Standing::Going { until }) {
            return None;
        }
        self.remove(user)
    }

    pub(super) fn note_change(&mut self, due_at: Instant) -> Notice {
        if self.is_counted { self.owe_notice(due_at) } else { Notice::Now }
    }

    pub(super) fn owe_notice(&mut self, due_at: Instant) -> Notice {
        if self.notice_at.is_some() {
            return Notice::Awaited;
        }
        self.notice_at = Some(due_at);
        Notice::Due
    }

    /// A room that has shrunk lists its users again only when it is well below the bounds, so that one at the bound does
    /// not change its mind with every user.
    pub(super) fn handle_notice_due(&mut self, due_at: Instant) -> Option<NoticeDue> {
        if self.notice_at != Some(due_at) {
            return None;
        }
        self.notice_at = None;
        let is_well_below = self.users.len() <= three_quarters(self.list_max)
            && self.bytes <= three_quarters(LISTED_USERS_BYTES_MAX);
        self.is_counted &= !is_well_below;
        Some(if self.is_counted { NoticeDue::Count } else { NoticeDue::List })
    }

    pub(super) fn is_counted(&self) -> bool {
        self.is_counted
    }

    pub(super) fn sees(&self, user: &User) -> bool {
        self.users.contains_key(user)
    }

    pub(super) fn sockets_of(&self, user: &User) -> usize {
        match self.users.get(user) {
            Some(Standing::Here(sockets)) => *sockets as usize,
            Some(Standing::Going { .. }) | None => 0,
        }
    }

    pub(super) fn user_count(&self) -> usize {
        self.users.len()
    }

    pub(super) fn seen(&self) -> impl Iterator<Item = &Arc<User>> {
        self.users.keys()
    }

    pub(super) fn users(&self) -> impl Iterator<Item = (&User, usize)> {
        self.users.iter().map(|(user, standing)| match standing {
            Standing::Here(sockets) => (&**user, *sockets as usize),
            Standing::Going { .. } => (&**user, 0),
        })
    }

    /// Returns the user as it was seen: it may have come with another profile since.
    fn remove(&mut self, user: &Arc<User>) -> Option<Arc<User>> {
        let (seen, _) = self.users.remove_entry(user)?;
        self.bytes -= listed_bytes(&seen);
        Some(seen)
    }
}

/// Rounded up.
fn three_quarters(bound: usize) -> usize {
    bound - bound / 4
}

/// What a user takes of a list.
fn listed_bytes(user: &User) -> usize {
    user.profile().get().len() + 1
}
