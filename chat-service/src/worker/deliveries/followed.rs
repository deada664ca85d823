//! The rooms whose users are followed, as far as they are in memory, and what is to be kept of them on disk.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use tokio::time::{Duration, Instant};

use crate::{
    deliveries::{Deliveries, Standing, Unlisted},
    room_key::RoomKey,
    room_log::{KeptFollowing, KeptRoom, Position, Standings},
    user::User,
};

/// How long what has arrived may wait to be kept: a crash takes no more than that, and only of users who are gone.
const SAVE_INTERVAL: Duration = Duration::from_secs(5);

/// Most standings that are kept at once, and how long the others wait: messages are to come between.
pub(super) const SAVED_MAX: usize = 4096;
const SAVE_PAUSE: Duration = Duration::from_millis(100);

/// See the module.
#[derive(Debug)]
pub(in crate::worker) struct Followed {
    pub(super) rooms: HashMap<RoomKey, FollowedRoom>,
    /// Of all rooms, those that are on disk only included. One in two rooms counts twice.
    pub(super) users: usize,
    users_max: usize,
    /// Users of rooms of which nothing is known, as there was no place for them.
    pub(super) unlisted: Unlisted,
    /// Rooms with standings that are to be kept.
    unsaved: VecDeque<RoomKey>,
    /// Rooms that nobody followed any more. What is on the disk speaks of their followers until the next commit.
    emptied: Vec<RoomKey>,
    pub(in crate::worker) save_at: Option<Instant>,
}

/// One of them.
#[derive(Debug)]
pub(super) struct FollowedRoom {
    pub(super) deliveries: Deliveries,
    /// What is kept of the room, if anything is.
    kept: Option<KeptFollowing>,
    is_unsaved: bool,
    /// Since it was last looked at whether it is to stay in memory.
    is_used: bool,
}

impl Followed {
    /// With so many on disk, and those who were missing there.
    pub(in crate::worker) fn new(users: usize, users_max: usize, unlisted: Unlisted) -> Self {
        let (rooms, unsaved, emptied) = (HashMap::new(), VecDeque::new(), Vec::new());
        Self { rooms, users, users_max, unlisted, unsaved, emptied, save_at: None }
    }

    /// How many more users can be followed.
    pub(super) fn free(&self) -> usize {
        self.users_max.saturating_sub(self.users)
    }

    /// A room counts for so many, and has counted for so many before.
    pub(super) fn recount(&mut self, before: usize, now: usize) {
        self.users = self.users.saturating_add(now).saturating_sub(before);
    }

    pub(super) fn note_used(&mut self, key: &RoomKey) -> bool {
        let held = self.rooms.get_mut(key);
        held.is_some_and(|held| {
            held.is_used = true;
            true
        })
    }

    /// Holds a room as it was kept.
    pub(super) fn hold(&mut self, key: &RoomKey, kept: &KeptRoom, (end, now_ms): (Position, u64)) {
        let held = FollowedRoom::kept(key.tenant(), kept, end, now_ms);
        let counted = kept.following.map_or(0, |following| following.count);
        let counted = usize::try_from(counted).unwrap_or(usize::MAX);
        let counted = counted.max(usize::from(kept.following.is_some()));
        self.recount(counted, held.weight());
        self.rooms.insert(key.clone(), held);
    }

    /// Nobody follows a room any more. It is held until the commit: whoever comes before that must not find in it those who
    /// have left.
    pub(super) fn note_emptied(&mut self, key: &RoomKey) {
        self.emptied.push(key.clone());
    }

    /// What was to be kept is on the disk, and says of the rooms without followers that they have none.
    pub(in crate::worker) fn drop_emptied(&mut self) {
        for key in self.emptied.drain(..) {
            if self.rooms.get(&key).is_some_and(|held| held.deliveries.is_empty()) {
                self.rooms.remove(&key);
            }
        }
    }

    /// Has what has changed of a room kept before long.
    pub(super) fn note_unsaved(&mut self, key: &RoomKey, now: Instant) {
        let Some(held) = self.rooms.get_mut(key) else { return };
        let is_kept_otherwise =
            held.kept.is_some_and(|kept| kept != held.following(kept.due_at_ms));
        if !held.is_unsaved && (held.deliveries.has_changes() || is_kept_otherwise) {
            held.is_unsaved = true;
            self.unsaved.push_back(key.clone());
            self.save_at.get_or_insert(now + SAVE_INTERVAL);
        }
    }

    /// Hands over what is to be kept, if it has waited for long enough.
    pub(super) fn save(&mut self, standings: &Standings, now: Instant) {
        if self.save_at.is_none_or(|at| now < at) {
            return;
        }
        let mut left = SAVED_MAX;
        while left > 0
            && let Some(key) = self.unsaved.front()
        {
            if let Some(held) = self.rooms.get_mut(key) {
                left -= held.save(standings, key, left);
                if held.deliveries.has_changes() {
                    break;
                }
                held.is_unsaved = false;
            }
            self.unsaved.pop_front();
        }
        self.save_at = (!self.unsaved.is_empty()).then(|| now + SAVE_PAUSE);
    }
}

impl FollowedRoom {
    /// One of which nothing is known, on disk or not.
    pub(super) fn new(at: Position, is_kept: bool, unlisted: Unlisted) -> Self {
        let deliveries = match is_kept {
            true => Deliveries::kept("", at, &[], unlisted),
            false => Deliveries::new(at.epoch, unlisted),
        };
        Self { deliveries, kept: None, is_unsaved: false, is_used: true }
    }

    fn kept(tenant: &str, kept: &KeptRoom, end: Position, now_ms: u64) -> Self {
        let following = kept.following.unwrap_or_default();
        // Who was here then may have gone at any time since.
        let may_have_gone = following.unlisted_are_here || kept.is_damaged;
        let gone_at_ms = if may_have_gone { Some(now_ms) } else { following.unlisted_gone_at_ms };
        let unlisted = Unlisted { are_here: false, gone_at_ms };
        let deliveries = Deliveries::kept(tenant, end, &kept.standings, unlisted);
        Self { deliveries, kept: kept.following, is_unsaved: false, is_used: true }
    }

    /// How many users it counts for: one of which anything is known takes place itself.
    pub(super) fn weight(&self) -> usize {
        self.deliveries.len().max(usize::from(!self.deliveries.is_empty()))
    }

    /// Keeps what has changed of a user with the next commit, which waits for the disk where the user goes on behind something
    /// that it has not got.
    pub(super) fn save_user(
        &mut self,
        standings: &Standings,
        (key, user): (&RoomKey, &Arc<User>),
        before: Option<Standing>,
        due_at_ms: u64,
    ) {
        let now = self.deliveries.standing(user);
        if before.zip(now).is_some_and(|(before, now)| now.skips_since(&before)) {
            standings.hold_fast(key);
        }
        if let Some(standing) = self.deliveries.take_change(user) {
            standings.keep(key, user, standing.as_ref());
        }
        let due_at_ms = self.kept.map_or(due_at_ms, |kept| kept.due_at_ms);
        self.save_following(standings, key, due_at_ms);
    }

    /// Keeps what has changed of up to so many users; returns of how many.
    fn save(&mut self, standings: &Standings, key: &RoomKey, count_max: usize) -> usize {
        let mut count = 0;
        while count < count_max
            && let Some((user, standing)) = self.deliveries.take_any_change()
        {
            standings.keep(key, &user, standing.as_ref());
            count += 1;
        }
        if let Some(kept) = self.kept {
            self.save_following(standings, key, kept.due_at_ms);
        }
        count
    }

    /// After users who were away were forgotten: keeps what there is to know, and tells whether the room is to stay in memory.
    /// `due_at_ms` says when it is to be looked at next.
    pub(super) fn tidy(
        &mut self,
        standings: &Standings,
        (key, is_in_use): (&RoomKey, bool),
        (now_ms, due_at_ms): (u64, u64),
    ) -> bool {
        if self.deliveries.is_empty() {
            self.save_rest(standings, key);
            return false;
        }
        let stays = is_in_use || self.is_used || self.deliveries.has_changes();
        self.is_used = false;
        if !stays || self.kept.is_none_or(|kept| kept.due_at_ms <= now_ms) {
            self.save_following(standings, key, due_at_ms);
        }
        stays
    }

    /// Of a room that nobody follows any more, forgets all with the next commit.
    pub(super) fn save_rest(&mut self, standings: &Standings, key: &RoomKey) {
        self.save(standings, key, usize::MAX);
    }

    /// Keeps all that has changed, as nobody has asked for the room; returns of how many users.
    pub(super) fn release(&mut self, standings: &Standings, key: &RoomKey) -> usize {
        self.is_used = false;
        self.save(standings, key, usize::MAX)
    }

    fn save_following(&mut self, standings: &Standings, key: &RoomKey, due_at_ms: u64) {
        let following = self.following(due_at_ms);
        let following = Some(following).filter(|_| !self.deliveries.is_empty());
        if following != self.kept {
            standings.keep_following(key, (self.kept, following));
            self.kept = following;
        }
    }

    fn following(&self, due_at_ms: u64) -> KeptFollowing {
        let Unlisted { are_here, gone_at_ms } = self.deliveries.unlisted();
        KeptFollowing {
            count: self.deliveries.len() as u64,
            due_at_ms,
            unlisted_are_here: are_here,
            unlisted_gone_at_ms: gone_at_ms,
        }
    }
}
