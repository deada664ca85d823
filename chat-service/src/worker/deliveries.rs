//! Follows how far the rooms' logs reach their users, in the namespaces that want to know.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use super::{Delivered, DeliveredPage, DeliveredTo, DeliveredUser, Worker};
use crate::{
    deliveries::{Deliveries, Standing, TooMany},
    room::Room,
    room_key::RoomKey,
    room_log::{Entry, Limit, Position, Range, ReadError, RoomLog},
    user::User,
};

/// Most users that a worker follows, a user in two rooms counted twice.
const FOLLOWED_USERS_MAX: usize = 250_000;

const ONE_ENTRY: Limit = Limit { count: 1, bytes: 1 };

/// The rooms whose users are followed.
#[derive(Debug, Default)]
pub(super) struct Followed {
    rooms: HashMap<RoomKey, Deliveries>,
    users: usize,
}

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

impl<L: RoomLog> Worker<L> {
    /// Follows a user that comes into a room, where that is wanted.
    pub(super) fn follow(&mut self, key: &RoomKey, user: &Arc<User>, coming: Coming, now_ms: u64) {
        let Some(users_max) = self.namespaces.followed_users_max(key.namespace()) else { return };
        let (Coming::Along(at) | Coming::Back(at) | Coming::Since(at) | Coming::From(at)) = coming;
        let others = self.followed.users;
        let deliveries = self.followed.rooms.entry(key.clone());
        let deliveries = deliveries.or_insert_with(|| Deliveries::new(at.epoch));
        let before = deliveries.len();
        let room_max = users_max.min(before + FOLLOWED_USERS_MAX.saturating_sub(others));
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
            Err(TooMany) => self.metrics.unfollowed.increment(1),
        }
        self.followed.users += deliveries.len() - before;
    }

    /// The users of some sockets of a link go on in a room at `at`, and are not given what came before.
    pub(super) fn note_gap(&mut self, key: &RoomKey, users: Vec<Arc<User>>, at: Position) {
        for user in users {
            self.follow(key, &user, Coming::From(at), 0);
        }
    }

    /// A user has left a room by itself: unless it is still in it with another socket, it is owed nothing.
    pub(super) fn unfollow(&mut self, key: &RoomKey, user: &User) {
        if self.rooms.get(key).is_some_and(|room| room.sees(user)) {
            return;
        }
        let Some(deliveries) = self.followed.rooms.get_mut(key) else { return };
        self.followed.users -= usize::from(deliveries.forget(user));
        if deliveries.is_empty() {
            self.followed.rooms.remove(key);
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
            && let Some(deliveries) = self.followed.rooms.get_mut(&key)
        {
            for user in users {
                deliveries.note_delivered(&user, end, now_ms);
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
        let end = self.log.end(&key).await?;
        let room = self.rooms.get(&key);
        let deliveries = self.followed.rooms.get_mut(&key);
        let mut page = DeliveredPage::default();
        let mut unknown: BTreeSet<&str> = named.iter().map(String::as_str).collect();
        unknown.retain(|subject| *subject > &*after);
        let is_named =
            |user: &User| named.is_empty() || named.iter().any(|one| one == user.subject());
        if let Some(deliveries) = deliveries {
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

    /// Forgets who has been away for as long as the rooms' history is kept.
    pub(super) fn expire_deliveries(&mut self, now_ms: u64) {
        let (rooms, namespaces) = (&self.rooms, &self.namespaces);
        let mut count = 0;
        self.followed.rooms.retain(|key, deliveries| {
            let room = rooms.get(key);
            let is_here = |user: &User| room.is_some_and(|room| room.sees(user));
            let age_max = namespaces.get(key.namespace()).retention.age_max;
            deliveries.expire(now_ms, age_max, is_here);
            count += deliveries.len();
            !deliveries.is_empty()
        });
        self.followed.users = count;
    }
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
