//! Who is kept out of rooms: those who were put out, until they join again, and those who are banned, until that ends.
//!
//! Pure state of one worker's rooms. Time is an argument: milliseconds since the Unix epoch.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Bound,
    time::Duration,
};

use thiserror::Error;

use crate::{room_key::RoomKey, socket::Socket, user::User};

/// Longest reason, in bytes.
pub(crate) const REASON_BYTES_MAX: usize = 256;

/// How long it is remembered that somebody was put out and has not joined again. An edge that was away for longer, and comes
/// back with the sockets that it had, brings them into their rooms.
const KICK_KEPT_FOR: Duration = Duration::from_hours(24);

/// Most sockets of a user that are remembered to have joined again after it was put out. Further ones are put out once more
/// if they are announced.
const RETURNED_MAX: usize = 64;

/// Who is kept out.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Who {
    User {
        subject: Box<str>,
        issuer: Box<str>,
    },
    /// One socket, by its public id.
    Socket(Box<str>),
}

/// What keeps somebody out of a room.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Exclusion {
    pub(crate) kick: Option<Kick>,
    pub(crate) ban: Option<Ban>,
}

/// It was put out: none of its sockets comes back but by joining.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kick {
    pub(crate) at_ms: u64,
    pub(crate) reason: Box<str>,
    /// Those that have, by their public ids.
    pub(crate) returned: Vec<Box<str>>,
}

/// It may not come in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ban {
    pub(crate) since_ms: u64,
    /// None if it does not end by itself.
    pub(crate) until_ms: Option<u64>,
    pub(crate) reason: Box<str>,
}

/// How much is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ExclusionBounds {
    /// Of all rooms of a worker.
    pub(crate) count_max: usize,
    /// Bans in force of one room.
    pub(crate) room_bans_max: usize,
}

/// Why nobody else is kept out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum TooManyError {
    #[error("as many kicks and bans are remembered as may be (CHAT_EXCLUSIONS_MAX)")]
    All,
    #[error("the room has as many bans as it may (CHAT_ROOM_BANS_MAX)")]
    OfRoom,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Exclusions {
    rooms: HashMap<RoomKey, BTreeMap<Who, Exclusion>>,
    count: usize,
    bounds: ExclusionBounds,
}

impl Who {
    pub(crate) fn user(user: &User) -> Self {
        Self::User { subject: user.subject().into(), issuer: user.issuer().into() }
    }

    /// Whether it is this socket, or one of this user.
    pub(crate) fn is(&self, socket: &Socket) -> bool {
        match self {
            Self::User { subject, issuer } => {
                (&**subject, &**issuer) == (socket.user.subject(), socket.user.issuer())
            }
            Self::Socket(id) => **id == *socket.id,
        }
    }
}

impl Exclusion {
    fn is_over(&self, now_ms: u64) -> bool {
        self.kick.as_ref().is_none_or(|kick| kick.is_old(now_ms))
            && self.ban.as_ref().is_none_or(|ban| ban.is_over(now_ms))
    }
}

impl Kick {
    fn is_old(&self, now_ms: u64) -> bool {
        let kept_ms = u64::try_from(KICK_KEPT_FOR.as_millis()).unwrap_or(u64::MAX);
        self.at_ms.saturating_add(kept_ms) <= now_ms
    }
}

impl Ban {
    pub(crate) fn is_over(&self, now_ms: u64) -> bool {
        self.until_ms.is_some_and(|until_ms| until_ms <= now_ms)
    }
}

impl Exclusions {
    pub(crate) fn new(bounds: ExclusionBounds) -> Self {
        Self { rooms: HashMap::new(), count: 0, bounds }
    }

    /// Takes in what was kept, however much it is.
    pub(crate) fn load(&mut self, room: RoomKey, who: Who, exclusion: Exclusion) {
        if self.rooms.entry(room).or_default().insert(who, exclusion).is_none() {
            self.count += 1;
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Remembers that somebody is put out. Who has joined again since an earlier time is put out as well.
    pub(crate) fn kick(
        &mut self,
        room: &RoomKey,
        who: &Who,
        reason: &str,
        now_ms: u64,
    ) -> Result<(), TooManyError> {
        let exclusion = self.of(room, who)?;
        exclusion.kick = Some(Kick { at_ms: now_ms, reason: reason.into(), returned: Vec::new() });
        Ok(())
    }

    /// Puts a user out and lets it in no more.
    pub(crate) fn ban(
        &mut self,
        room: &RoomKey,
        who: &Who,
        ban: Ban,
        now_ms: u64,
    ) -> Result<(), TooManyError> {
        let others = self.rooms.get(room).into_iter().flatten().filter(|(other, exclusion)| {
            *other != who && exclusion.ban.as_ref().is_some_and(|ban| !ban.is_over(now_ms))
        });
        if others.count() >= self.bounds.room_bans_max {
            return Err(TooManyError::OfRoom);
        }
        self.kick(room, who, &ban.reason, now_ms)?;
        self.of(room, who)?.ban = Some(ban);
        Ok(())
    }

    fn of(&mut self, room: &RoomKey, who: &Who) -> Result<&mut Exclusion, TooManyError> {
        let is_known = self.get(room, who).is_some();
        if !is_known && self.count >= self.bounds.count_max {
            return Err(TooManyError::All);
        }
        self.count += usize::from(!is_known);
        Ok(self.rooms.entry(room.clone()).or_default().entry(who.clone()).or_default())
    }

    /// Ends a ban; tells whether one was in force.
    pub(crate) fn unban(&mut self, room: &RoomKey, who: &Who, now_ms: u64) -> bool {
        let exclusion = self.rooms.get_mut(room).and_then(|excluded| excluded.get_mut(who));
        let ban = exclusion.and_then(|exclusion| exclusion.ban.take());
        self.drop_if_over(room, who, now_ms);
        ban.is_some_and(|ban| !ban.is_over(now_ms))
    }

    pub(crate) fn get(&self, room: &RoomKey, who: &Who) -> Option<&Exclusion> {
        self.rooms.get(room)?.get(who)
    }

    /// The ban of a user that is in force.
    pub(crate) fn ban_of(&self, room: &RoomKey, user: &User, now_ms: u64) -> Option<&Ban> {
        let ban = self.rooms.get(room)?.get(&Who::user(user))?.ban.as_ref()?;
        Some(ban).filter(|ban| !ban.is_over(now_ms))
    }

    /// What put a socket out of a room that has not joined again.
    pub(crate) fn kick_of(&self, room: &RoomKey, socket: &Socket, now_ms: u64) -> Option<&Kick> {
        let excluded = self.rooms.get(room)?;
        let whole = excluded.get(&Who::user(&socket.user));
        let one = excluded.get(&Who::Socket((*socket.id).into()));
        let kicks = [whole, one].into_iter().flatten().filter_map(|one| one.kick.as_ref());
        kicks
            .filter(|kick| !kick.is_old(now_ms))
            .find(|kick| !kick.returned.iter().any(|id| **id == *socket.id))
    }

    /// A socket has joined. Returns whose exclusions have changed.
    pub(crate) fn note_return(&mut self, room: &RoomKey, socket: &Socket, now_ms: u64) -> Vec<Who> {
        let Some(excluded) = self.rooms.get_mut(room) else { return Vec::new() };
        let mut changed = Vec::new();
        let whole = Who::user(&socket.user);
        let kick = excluded.get_mut(&whole).and_then(|exclusion| exclusion.kick.as_mut());
        if let Some(kick) = kick.filter(|kick| !kick.returned.iter().any(|id| **id == *socket.id)) {
            if kick.returned.len() == RETURNED_MAX {
                kick.returned.remove(0);
            }
            kick.returned.push((*socket.id).into());
            changed.push(whole);
        }
        let one = Who::Socket((*socket.id).into());
        if let Some(exclusion) = excluded.get_mut(&one) {
            exclusion.kick = None;
            self.drop_if_over(room, &one, now_ms);
            changed.push(one);
        }
        changed
    }

    /// Forgets what is over. Returns what that was.
    pub(crate) fn expire(&mut self, now_ms: u64) -> Vec<(RoomKey, Who)> {
        let mut over = Vec::new();
        self.rooms.retain(|room, excluded| {
            let ended = excluded.extract_if(.., |_, exclusion| exclusion.is_over(now_ms));
            over.extend(ended.map(|(who, _)| (room.clone(), who)));
            !excluded.is_empty()
        });
        self.count -= over.len();
        over
    }

    /// The bans of a room that are in force, behind a user, in the order of subjects and issuers.
    pub(crate) fn bans<'a>(
        &'a self,
        room: &RoomKey,
        after: Option<&Who>,
        now_ms: u64,
    ) -> impl Iterator<Item = (&'a str, &'a str, &'a Ban)> + use<'a> {
        let from = after.map_or(Bound::Unbounded, |who| Bound::Excluded(who.clone()));
        let excluded = self.rooms.get(room);
        let behind =
            excluded.into_iter().flat_map(move |all| all.range((from.clone(), Bound::Unbounded)));
        behind.filter_map(move |(who, exclusion)| match (who, &exclusion.ban) {
            (Who::User { subject, issuer }, Some(ban)) if !ban.is_over(now_ms) => {
                Some((&**subject, &**issuer, ban))
            }
            (Who::User { .. } | Who::Socket(_), _) => None,
        })
    }

    fn drop_if_over(&mut self, room: &RoomKey, who: &Who, now_ms: u64) {
        let Some(excluded) = self.rooms.get_mut(room) else { return };
        if excluded.get(who).is_some_and(|exclusion| exclusion.is_over(now_ms)) {
            excluded.remove(who);
            self.count -= 1;
            if excluded.is_empty() {
                self.rooms.remove(room);
            }
        }
    }
}

#[cfg(test)]
mod tests;
