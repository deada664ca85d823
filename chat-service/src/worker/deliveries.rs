//! Follows how far the rooms' logs reach their users, in the namespaces that want to know.

mod followed;
mod unlisted;

use std::{collections::BTreeSet, sync::Arc};

use tokio::time::Instant;

use self::followed::{FollowedRoom, SAVED_MAX};
pub(super) use self::{followed::Followed, unlisted::unlisted_at_start};
use super::{Delivered, DeliveredPage, DeliveredTo, DeliveredUser, Worker};
use crate::{
    deliveries::{Standing, TooMany, Unlisted},
    room::Room,
    room_key::RoomKey,
    room_log::{
        DueRooms, Durability, Entry, KeptRoom, Limit, Position, Range, ReadError, RoomLog,
        Standings, Unreadable,
    },
    user::User,
};

const ONE_ENTRY: Limit = Limit { count: 1, bytes: 1 };

/// How a user comes into a room, or goes on in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coming {
    /// It was in it all along, and is here now.
    Along(Position),
    /// It was in it before this process was, and stands here.
    Back(Position),
    /// It has what came up to here, as it says itself, and is given the rest.
    Since(Position),
    /// It is given what comes from here on.
    From(Position),
}

/// Why a room's followers are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Visit {
    /// They are in memory, and may stay there.
    Stay,
    /// They were read because some may have been away for too long.
    Look,
}

impl<L: RoomLog> Worker<L> {
    /// Follows a user that comes into a room, where that is wanted. It is on disk, where the room is, before anybody hears of
    /// its coming.
    pub(super) async fn follow(
        &mut self,
        key: &RoomKey,
        user: &Arc<User>,
        coming: Coming,
        now_ms: u64,
    ) {
        let Some(users_max) = self.namespaces.followed_users_max(key.namespace()) else { return };
        self.hold_followed(key, now_ms).await;
        let (Coming::Along(at) | Coming::Back(at) | Coming::Since(at) | Coming::From(at)) = coming;
        let is_seen = self.rooms.get(key).is_some_and(|room| room.sees(user));
        let due_at_ms = self.due_at_ms(key, now_ms);
        if !self.make_place(key, at) {
            self.metrics.unfollowed.increment(1);
            return self.note_turned_away(is_seen, now_ms);
        }
        let standings = standings_of(&self.log, key);
        let free = self.followed.free();
        let Some(held) = self.followed.rooms.get_mut(key) else { return };
        let weight = held.weight();
        let deliveries = &mut held.deliveries;
        let before = deliveries.standing(user);
        let room_max = users_max.min(weight.saturating_add(free));
        let noted = match coming {
            Coming::Along(_) | Coming::Since(_) => deliveries.note_here(user, at, room_max),
            Coming::Back(_) => deliveries.note_back(user, at, room_max),
            Coming::From(_) => deliveries.note_gap(user, at, room_max),
        };
        match noted {
            Ok(()) => {
                if let Coming::Since(_) = coming {
                    deliveries.note_delivered(user, at, now_ms);
                }
            }
            Err(TooMany) => {
                self.metrics.unfollowed.increment(1);
                if !is_seen {
                    deliveries.note_gone(user, now_ms);
                }
            }
        }
        let now_weighs = held.weight();
        if let Some(standings) = standings {
            held.save_user(standings, (key, user), before, due_at_ms);
        }
        self.followed.recount(weight, now_weighs);
    }

    /// The users of some sockets of a link go on in a room at `at`, if anybody can tell, and are not given what came before.
    pub(super) async fn note_gap(
        &mut self,
        key: &RoomKey,
        users: Vec<Arc<User>>,
        at: Option<Position>,
        now_ms: u64,
    ) {
        for user in users {
            match at {
                Some(at) => self.follow(key, &user, Coming::From(at), now_ms).await,
                None => self.note_gap_somewhere(key, &user, now_ms).await,
            }
        }
    }

    async fn note_gap_somewhere(&mut self, key: &RoomKey, user: &Arc<User>, now_ms: u64) {
        if self.namespaces.followed_users_max(key.namespace()).is_none() {
            return;
        }
        self.hold_followed(key, now_ms).await;
        let due_at_ms = self.due_at_ms(key, now_ms);
        let Some(held) = self.followed.rooms.get_mut(key) else { return };
        let before = held.deliveries.standing(user);
        held.deliveries.note_gap_somewhere(user);
        if let Some(standings) = standings_of(&self.log, key) {
            held.save_user(standings, (key, user), before, due_at_ms);
        }
    }

    /// A client of a user is back whose socket has been in a room all along. The user may be forgotten there, as it was away
    /// for too long.
    pub(super) async fn follow_back(&mut self, key: &RoomKey, user: &Arc<User>, now_ms: u64) {
        if self.namespaces.followed_users_max(key.namespace()).is_some()
            && let Ok(end) = self.log.end(key).await
        {
            self.follow(key, user, Coming::Back(end), now_ms).await;
        }
    }

    /// A user has left a room by itself: unless it is still in it with another socket, it is owed nothing.
    pub(super) async fn unfollow(&mut self, key: &RoomKey, user: &Arc<User>, now_ms: u64) {
        let room = self.rooms.get(key);
        if self.namespaces.followed_users_max(key.namespace()).is_none()
            || room.is_some_and(|room| room.sees(user))
        {
            return;
        }
        if room.is_some_and(|room| room.awaits(user)) {
            self.note_lost(key, user, now_ms);
            return;
        }
        self.hold_followed(key, now_ms).await;
        let due_at_ms = self.due_at_ms(key, now_ms);
        let Some(held) = self.followed.rooms.get_mut(key) else { return };
        let weight = held.weight();
        held.deliveries.forget(user);
        if let Some(standings) = standings_of(&self.log, key) {
            held.save_user(standings, (key, user), None, due_at_ms);
            if held.deliveries.is_empty() {
                held.save_rest(standings, key);
            }
        }
        let (is_empty, now_weighs) = (held.deliveries.is_empty(), held.weight());
        self.followed.recount(weight, now_weighs);
        if is_empty {
            self.followed.note_emptied(key);
        }
    }

    /// A user was lost from a room. One that is not listed there is missing from the list from here on.
    pub(super) fn note_lost(&mut self, key: &RoomKey, user: &User, now_ms: u64) {
        if let Some(held) = self.followed.rooms.get_mut(key) {
            held.deliveries.note_gone(user, now_ms);
            self.followed.note_unsaved(key, Instant::now());
        } else if self.namespaces.followed_users_max(key.namespace()).is_some()
            && self.followed.unlisted != Unlisted::default()
        {
            self.note_turned_away(false, now_ms);
        }
    }

    pub(super) async fn handle_delivered(&mut self, delivered: Delivered, now_ms: u64) {
        let Delivered { ticket, room: key, position, users } = delivered;
        if ticket.outbox().is_closed() {
            return;
        }
        // An edge may still speak of a log that was set back.
        if let Ok(end) = position.parse::<Position>()
            && self.log.read(&key, Range::After(end), ONE_ENTRY, now_ms).await.is_ok()
        {
            self.hold_followed(&key, now_ms).await;
            let held = self.followed.rooms.get(&key).map(|held| &held.deliveries);
            let is_cut = held.is_some_and(|held| users.iter().any(|user| held.is_cut(user)));
            // What is reported may have arrived before a gap. What is logged from now on comes behind it for certain.
            let now_at = if is_cut { self.log.end(&key).await.ok() } else { None };
            if let Some(held) = self.followed.rooms.get_mut(&key) {
                for user in users {
                    if let Some(now_at) = now_at {
                        held.deliveries.note_gap_ends(&user, now_at);
                    }
                    held.deliveries.note_delivered(&user, end, now_ms);
                }
                self.followed.note_unsaved(&key, Instant::now());
            }
        }
        self.effects.finish_ticket(ticket);
    }

    pub(super) async fn delivered_to(
        &mut self,
        asked: DeliveredTo,
        now_ms: u64,
    ) -> Result<DeliveredPage, ReadError> {
        let DeliveredTo { room: key, behind, users: named, after, limit } = asked;
        let behind = match behind {
            Some(position) => Some((position.offset, self.entry_at(&key, position, now_ms).await?)),
            None => None,
        };
        self.hold_followed(&key, now_ms).await;
        self.list_unlisted(&key).await;
        let end = self.log.end(&key).await?;
        let incomplete = self.may_miss_some(&key, now_ms);
        let room = self.rooms.get(&key);
        let held = self.followed.rooms.get_mut(&key);
        let mut page = DeliveredPage { incomplete, ..DeliveredPage::default() };
        let mut unknown: BTreeSet<&str> = named.iter().map(String::as_str).collect();
        unknown.retain(|subject| *subject > &*after);
        let is_named =
            |user: &User| named.is_empty() || named.iter().any(|one| one == user.subject());
        if let Some(deliveries) = held.map(|held| &mut held.deliveries) {
            deliveries.live_in(end.epoch);
            page.incomplete = deliveries.is_incomplete();
            for (user, standing) in deliveries.users().filter(|(user, _)| is_named(user)) {
                unknown.remove(user.subject());
                let is_wanted = behind.as_ref().is_none_or(|(offset, entry)| {
                    standing.is_behind(*offset) && entry.as_ref().is_none_or(|one| one.is_for(user))
                });
                if is_wanted && user.subject() > &*after {
                    page.users.push(DeliveredUser::new(user, standing, room));
                }
            }
        }
        page.users.extend(unknown.into_iter().map(DeliveredUser::unknown));
        page.users.sort_by(|a, b| a.subject.cmp(&b.subject));
        page.cut(limit);
        Ok(page)
    }

    /// The entry at a position that the log has; none at its beginning.
    async fn entry_at(
        &self,
        key: &RoomKey,
        position: Position,
        now_ms: u64,
    ) -> Result<Option<Arc<Entry>>, ReadError> {
        let next = self.log.read(key, Range::After(position), ONE_ENTRY, now_ms).await?;
        let range = match next.entries.first() {
            Some(next) => Range::Before(next.position),
            None => Range::Newest,
        };
        let here = self.log.read(key, range, ONE_ENTRY, now_ms).await?;
        Ok(here.entries.into_iter().find(|entry| entry.position == position))
    }

    /// Forgets who has been away for as long as the rooms' history is kept, and lets go of rooms that are quiet.
    pub(super) async fn expire_deliveries(&mut self, now_ms: u64) {
        self.list_turned_away(now_ms).await;
        let is_incomplete = |held: &FollowedRoom| held.deliveries.is_incomplete();
        let rooms = self.followed.rooms.iter().filter(|(_, held)| is_incomplete(held));
        for key in rooms.map(|(key, _)| key.clone()).collect::<Vec<_>>() {
            self.list_unlisted(&key).await;
        }
        let now = Instant::now();
        for key in self.followed.rooms.keys().cloned().collect::<Vec<_>>() {
            self.forget_gone(&key, Visit::Stay, now_ms);
            self.followed.note_unsaved(&key, now);
        }
        self.expire_due(now_ms).await;
    }

    /// The same for rooms that nobody has asked for. All that are due are looked at, some at a time: whoever makes many
    /// must not keep the others from being found.
    async fn expire_due(&mut self, now_ms: u64) {
        let (mut from, mut saved) = (None, 0);
        loop {
            let Some(standings) = self.log.standings() else { return };
            let DueRooms { rooms, next, .. } = standings.due(from, now_ms).await;
            for key in rooms {
                let is_followed = self.namespaces.followed_users_max(key.namespace()).is_some();
                if !is_followed || standings_of(&self.log, &key).is_none() {
                    self.forget_kept(&key).await;
                } else if !self.followed.rooms.contains_key(&key) {
                    self.hold_followed(&key, now_ms).await;
                    saved += self.forget_gone(&key, Visit::Look, now_ms);
                }
                if saved >= SAVED_MAX {
                    self.commit().await;
                    saved = 0;
                }
            }
            self.commit().await;
            let Some(next) = next else { return };
            from = Some(next);
        }
    }

    /// Forgets who has been away for too long from a room that is in memory, and lets go of it if it is quiet. Returns how many
    /// standings go with the next commit.
    fn forget_gone(&mut self, key: &RoomKey, visit: Visit, now_ms: u64) -> usize {
        let Some(held) = self.followed.rooms.get_mut(key) else { return 0 };
        let room = self.rooms.get(key);
        let age_max = self.namespaces.get(key.namespace()).retention.age_max;
        let weight = held.weight();
        held.deliveries.expire(now_ms, age_max, |user| room.is_some_and(|room| room.sees(user)));
        let now_weighs = held.weight();
        let mut saved = 0;
        let stays = match standings_of(&self.log, key) {
            Some(standings) => {
                if visit == Visit::Look {
                    saved = held.release(standings, key);
                }
                let due_at_ms = held.deliveries.due_at_ms(now_ms, age_max);
                held.tidy(standings, (key, room.is_some()), (now_ms, due_at_ms))
            }
            None => !held.deliveries.is_empty(),
        };
        if !stays {
            self.followed.rooms.remove(key);
        }
        self.followed.recount(weight, now_weighs);
        saved
    }

    /// Keeps what has arrived, if it has waited for long enough.
    pub(super) fn save_deliveries(&mut self, now: Instant) {
        if let Some(standings) = self.log.standings() {
            self.followed.save(standings, now);
        }
    }

    /// Has a room's followers in memory, if they are on disk.
    async fn hold_followed(&mut self, key: &RoomKey, now_ms: u64) {
        if self.followed.note_used(key) {
            return;
        }
        let Some(standings) = standings_of(&self.log, key) else { return };
        let kept = match standings.read(key).await {
            Ok(Some(kept)) => kept,
            Ok(None) => return,
            Err(Unreadable) => KeptRoom { is_damaged: true, ..KeptRoom::default() },
        };
        // Where the log cannot be read, nobody is known to have got any of it.
        let end = self.log.end(key).await;
        self.followed.hold(key, &kept, (end.unwrap_or(Position::start(0)), now_ms));
        if end.is_err()
            && let Some(held) = self.followed.rooms.get_mut(key)
        {
            held.deliveries.doubt_all();
        }
    }

    /// Forgets what is kept of a room in a namespace that does not keep it any more.
    async fn forget_kept(&mut self, key: &RoomKey) {
        let Some(standings) = self.log.standings() else { return };
        let Ok(Some(kept)) = standings.read(key).await else { return };
        for standing in &kept.standings {
            let name = (&*standing.subject, &*standing.issuer);
            if let Ok(user) = User::parse_of(key.tenant(), name, b"{}") {
                standings.keep(key, &user, None);
            }
        }
        standings.keep_following(key, (kept.following, None));
        self.followed.recount(kept.standings.len().max(1), 0);
    }

    /// When a room is to be looked at for users who were away for too long, if they all go now.
    fn due_at_ms(&self, key: &RoomKey, now_ms: u64) -> u64 {
        let age_max = self.namespaces.get(key.namespace()).retention.age_max;
        now_ms.saturating_add(u64::try_from(age_max.as_millis()).unwrap_or(u64::MAX))
    }
}

/// Where the standings of a room are kept, if that is on disk.
fn standings_of<'a, L: RoomLog>(log: &'a L, key: &RoomKey) -> Option<&'a Standings> {
    log.standings().filter(|_| log.durability(key) != Durability::Memory)
}

impl DeliveredUser {
    fn new(user: &User, standing: &Standing, room: Option<&Room>) -> Self {
        Self {
            subject: user.subject().to_owned(),
            delivered: standing.delivered(),
            sockets: room.map_or(0, |room| room.sockets_of(user)),
        }
    }

    fn unknown(subject: &str) -> Self {
        Self { subject: subject.to_owned(), delivered: None, sockets: 0 }
    }
}

impl DeliveredPage {
    /// Keeps so many users, and those who have the subject of the last: the next page begins after that.
    fn cut(&mut self, limit: usize) {
        let Some(last) = self.users.get(limit.saturating_sub(1)).map(|user| &user.subject) else {
            return;
        };
        let count = self.users.iter().take_while(|user| user.subject <= *last).count();
        self.more = count < self.users.len();
        self.users.truncate(count);
    }
}

#[cfg(test)]
mod tests;
