//! Who is not followed as there are too many, in rooms of which nothing is kept.
//!
//! To keep of each such room that its list is not whole would take what the bound is to save. So it is known of all of them
//! together.

use tokio::time::Instant;

use super::{Coming, FollowedRoom, Worker, standings_of};
use crate::{
    deliveries::Unlisted,
    room::Room,
    room_key::RoomKey,
    room_log::{KeptFollowing, Position, RoomLog, Standings},
};

/// Those who were here before a restart may have gone at any time since.
pub(in crate::worker) fn unlisted_at_start(standings: Option<&Standings>, now_ms: u64) -> Unlisted {
    let kept = standings.and_then(Standings::unlisted).unwrap_or_default();
    if let Some(standings) = standings
        && kept.unlisted_are_here
    {
        let unlisted_gone_at_ms = Some(now_ms);
        standings
            .keep_unlisted(Some(KeptFollowing { unlisted_gone_at_ms, ..KeptFollowing::default() }));
        return Unlisted { are_here: false, gone_at_ms: unlisted_gone_at_ms };
    }
    Unlisted { are_here: false, gone_at_ms: kept.unlisted_gone_at_ms }
}

impl<L: RoomLog> Worker<L> {
    /// Has a room in memory, if there is a place for it.
    pub(super) fn make_place(&mut self, key: &RoomKey, at: Position) -> bool {
        if self.followed.rooms.contains_key(key) {
            return true;
        }
        if self.followed.free() == 0 {
            return false;
        }
        // Any of those who are missing may be of this room.
        let Unlisted { are_here, gone_at_ms } = self.followed.unlisted;
        let are_here = are_here && self.rooms.get(key).is_some_and(|room| room.user_count() > 1);
        let is_kept = standings_of(&self.log, key).is_some();
        let room = FollowedRoom::new(at, is_kept, Unlisted { are_here, gone_at_ms });
        self.followed.recount(0, room.weight());
        self.followed.rooms.insert(key.clone(), room);
        true
    }

    /// Follows those in a room who were too many, as far as they are not now.
    pub(super) async fn list_unlisted(&mut self, key: &RoomKey) {
        let Some(users_max) = self.namespaces.followed_users_max(key.namespace()) else { return };
        if !self.followed.rooms.get(key).is_some_and(|held| held.deliveries.is_incomplete()) {
            return;
        }
        let Ok(at) = self.log.end(key).await else { return };
        let free = self.followed.free();
        let Some(held) = self.followed.rooms.get_mut(key) else { return };
        let weight = held.weight();
        let users_max = users_max.min(weight.saturating_add(free));
        let here = self.rooms.get(key).into_iter().flat_map(Room::seen);
        held.deliveries.list_unlisted(here, at, users_max);
        let now_weighs = held.weight();
        self.followed.recount(weight, now_weighs);
        self.followed.note_unsaved(key, Instant::now());
    }

    pub(super) fn note_turned_away(&mut self, is_here: bool, now_ms: u64) {
        let mut unlisted = self.followed.unlisted;
        match is_here {
            true => unlisted.are_here = true,
            false => unlisted.gone_at_ms = Some(now_ms),
        }
        self.keep_unlisted(unlisted);
    }

    /// Whether users may be missing in a room of which nothing is known.
    pub(super) fn may_miss_some(&self, key: &RoomKey, now_ms: u64) -> bool {
        let Unlisted { are_here, gone_at_ms } = self.followed.unlisted;
        let is_followed = self.namespaces.followed_users_max(key.namespace()).is_some();
        is_followed
            && !self.followed.rooms.contains_key(key)
            && (are_here && self.rooms.contains_key(key)
                || gone_at_ms.is_some_and(|at_ms| now_ms <= self.due_at_ms(key, at_ms)))
    }

    /// Follows those who are in such rooms, as far as there is a place for them now.
    pub(super) async fn list_turned_away(&mut self, now_ms: u64) {
        let mut unlisted = self.followed.unlisted;
        if unlisted == Unlisted::default() {
            return;
        }
        let is_followed = |key: &&RoomKey| {
            self.namespaces.followed_users_max(key.namespace()).is_some()
                && !self.followed.rooms.contains_key(*key)
        };
        let rooms: Vec<RoomKey> = self.rooms.keys().filter(is_followed).cloned().collect();
        unlisted.are_here = false;
        for key in rooms {
            let end = self.log.end(&key).await;
            let (Ok(end), true) = (end, self.followed.free() > 0) else {
                unlisted.are_here = true;
                break;
            };
            let here: Vec<_> =
                self.rooms.get(&key).into_iter().flat_map(Room::seen).cloned().collect();
            for user in here {
                self.follow(&key, &user, Coming::Back(end), now_ms).await;
            }
        }
        let ages =
            self.namespaces.following().map(|name| self.namespaces.get(name).retention.age_max);
        let age_ms = ages.max().map_or(0, |age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
        let is_over = |at_ms: u64| now_ms.saturating_sub(at_ms) > age_ms;
        unlisted.gone_at_ms = unlisted.gone_at_ms.filter(|at_ms| !is_over(*at_ms));
        self.keep_unlisted(unlisted);
    }

    fn keep_unlisted(&mut self, unlisted: Unlisted) {
        if self.followed.unlisted == unlisted {
            return;
        }
        self.followed.unlisted = unlisted;
        if let Some(standings) = self.log.standings() {
            let kept = KeptFollowing {
                unlisted_are_here: unlisted.are_here,
                unlisted_gone_at_ms: unlisted.gone_at_ms,
                ..KeptFollowing::default()
            };
            standings.keep_unlisted((unlisted != Unlisted::default()).then_some(kept));
        }
    }
}
