//! Takes sockets back that were here before, and gives them what they missed, in order and once.
//!
//! A link whose life could not be resumed announces its sockets, each with the position in each of its rooms. The sockets
//! of one room that stand at the same position form a group. While there are groups, nothing that is logged in the room
//! is sent over this link; the groups are led through the log, page by page as the edge keeps up, until all stand at its
//! end.

use std::collections::hash_map::Entry;

use tokio::time::Instant;

use super::{CatchUp, Link, PAGE_BYTES_MAX, Restore, Worker, deliveries::Coming, fan_out::Cause};
use crate::{
    client_error::ClientError,
    client_view::{self, EXCEPTION},
    edge_link::{Audience, Emit, Ticket},
    request::PAGE_ENTRIES_MAX,
    room::{Joined, Left},
    room_key::RoomKey,
    room_log::{Entry as LogEntry, Limit, Page, Position, Range, ReadError, RoomLog, Unreadable},
    room_rules::Deed,
    socket::SocketKey,
};

const PAGE: Limit = Limit { count: PAGE_ENTRIES_MAX, bytes: PAGE_BYTES_MAX };

/// Sockets that stand at the same position.
#[derive(Debug)]
pub(super) struct Group {
    standing: Standing,
    /// Where the log ended when the first of them was announced, if that could be read.
    restored_at: Option<Position>,
    /// They know that they have missed something.
    told_of_gap: bool,
    handles: Vec<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    At(Position),
    /// At an end of the log that could not be read: they have been given everything up to there.
    AtEnd,
    /// Nobody can tell.
    Lost,
}

impl<L: RoomLog> Worker<L> {
    /// For the members the socket was here all along, or has been suspended as they know, unless its earlier life has been
    /// given up. After the loss of all state they are told later, when every edge has had the time to come back.
    pub(super) async fn handle_restore(&mut self, restore: Restore, now_ms: u64) {
        let Restore { mut ticket, socket, room: key, position, earlier, arrival, is_told } =
            restore;
        if ticket.outbox().is_closed() {
            return;
        }
        if let Some((error, reason)) = self.refusal_of_return(&key, &socket, now_ms) {
            return self.refuse_return(ticket, (&socket, &key), earlier, (&error, &reason));
        }
        let end = self.log.end(&key).await.ok();
        let room = self.room(&key);
        let count_before = room.socket_count_of(socket.key.link);
        let joined = room.handle_join(socket.key, &socket.user, arrival);
        if joined == Joined::Already {
            return;
        }
        socket.keep_room();
        self.note_sight(&key, &socket);

        let link = self.links.entry(socket.key.link).or_insert_with(|| Link::new(ticket.outbox()));
        link.note_membership(&socket, &key);
        let groups = match link.catching_up.entry(key.clone()) {
            Entry::Occupied(groups) => groups.into_mut(),
            Entry::Vacant(vacant) if count_before == 0 => vacant.insert(Vec::new()),
            Entry::Vacant(vacant) => {
                // Sockets of this link that are in the room already have been given everything.
                let room = self.rooms.get(vacant.key());
                let mut handles = room.map_or_else(Vec::new, |room| room.handles(socket.key.link));
                handles.retain(|handle| *handle != socket.key.handle);
                vacant.insert(vec![Group::new(Standing::of(end), end, handles)])
            }
        };
        let is_at_end = matches!((position, end), (Some(Ok(at)), Some(end)) if at == end);
        let may_look_back = socket.may(Deed::History, &key);
        let is_left_out = !may_look_back && position.is_some() && !is_at_end;
        let position = if may_look_back { position } else { end.map(Ok) };
        if let (true, Some(Ok(position))) = (is_told, position) {
            ticket.instructions.join(socket.key, &key, position);
        }
        if is_left_out {
            self.metrics.gaps.increment(1);
            ticket.instructions.tell(&socket, &ClientError::MISSED_EVENTS, &key);
        }
        let standing = match position {
            None => Standing::of(end),
            Some(Ok(position)) => Standing::At(position),
            Some(Err(_)) => Standing::Lost,
        };
        add(groups, standing, end, socket.key.handle);
        if let Some(end) = end {
            let at = match standing {
                // A log that was set back may not have come there again.
                Standing::At(position)
                    if position.epoch == end.epoch && position.offset <= end.offset =>
                {
                    position
                }
                Standing::At(_) | Standing::AtEnd | Standing::Lost => end,
            };
            self.follow(&key, &socket.user, Coming::Back(at), now_ms).await;
        }

        let cause = &mut Cause::Event(&mut ticket);
        self.handle_restored(&key, (&joined, &socket.user), cause);
        if let Some(earlier_self) = earlier {
            let parting = self.agenda.parting(Instant::now());
            let room = self.rooms.get_mut(&key);
            let left = room.map_or(Left::Never, |room| room.handle_leave(earlier_self, parting));
            self.handle_left(&key, left, cause);
        }
        self.effects.finish_ticket(ticket);
    }

    pub(super) async fn handle_catch_up(&mut self, catch_up: CatchUp, now_ms: u64) {
        let CatchUp { mut ticket, room: key } = catch_up;
        let outbox = ticket.outbox().clone();
        let link = self.links.get_mut(&outbox.link()).filter(|_| !outbox.is_closed());
        let Some(mut groups) = link.and_then(|link| link.catching_up.remove(&key)) else {
            return self.effects.note_caught_up(outbox, key, true);
        };

        // All groups together get one page a turn: that is what the outbox keeps room for.
        let mut complete = true;
        for group in &mut groups {
            complete &= ticket.instructions.bytes() < PAGE_BYTES_MAX
                && self.lead(group, &key, &mut ticket, now_ms).await;
        }
        // What is in the outbox now is followed by whatever is logged from here on.
        if !complete && let Some(link) = self.links.get_mut(&outbox.link()) {
            link.catching_up.insert(key.clone(), groups);
        }
        self.effects.finish_ticket(ticket);
        self.effects.note_caught_up(outbox, key, complete);
    }

    /// Gives a group the next page, or as much of it as fits; tells whether it stands at the end of the log now.
    async fn lead(
        &mut self,
        group: &mut Group,
        key: &RoomKey,
        ticket: &mut Ticket,
        now_ms: u64,
    ) -> bool {
        let page = match group.standing {
            Standing::At(position) => {
                self.log.read(key, Range::After(position), PAGE, now_ms).await
            }
            Standing::AtEnd => Err(Unreadable.into()),
            Standing::Lost => Err(ReadError::Gap),
        };
        let link = ticket.outbox().link();
        let here = self.rooms.get(key).map_or(0, |room| room.socket_count_of(link));
        let audience = || {
            if group.handles.len() == here {
                return Audience::Room { room: key, except: None };
            }
            Audience::Sockets { realm: key.realm(), handles: group.handles.clone() }
        };
        match page {
            Ok(Page { entries, more }) => {
                let mut given = 0;
                for entry in &entries {
                    // What is sent of an entry may be many times its size: it names the sockets.
                    if ticket.instructions.bytes() >= PAGE_BYTES_MAX {
                        break;
                    }
                    ticket.instructions.emit(audience(), &missed(key, entry));
                    group.standing = Standing::At(entry.position);
                    given += 1;
                }
                !more && given == entries.len()
            }
            Err(error) => {
                let end = self.log.end(key).await.ok();
                // Since they stood at the end, something may have been logged.
                let skips_unseen = group.standing == Standing::AtEnd && end.is_some();
                if !group.told_of_gap || skips_unseen {
                    self.metrics.gaps.increment(group.handles.len() as u64);
                    let args = client_view::exception(
                        &ClientError::MISSED_EVENTS,
                        Some(key.name_for_clients()),
                    );
                    let emit = Emit {
                        event: EXCEPTION,
                        args,
                        volatile: false,
                        position: None,
                        except_users: &[],
                    };
                    ticket.instructions.emit(audience(), &emit);
                }
                let is_at_end = match error {
                    ReadError::Gap => group.go_on_after_gap(end),
                    ReadError::Unreadable(_) => group.go_on_at(end),
                };
                let room = self.rooms.get(key);
                let users = room.map(|room| room.users_of(link, &group.handles));
                let users = users.into_iter().flatten().cloned().collect();
                self.note_gap(key, users, group.standing.position(), now_ms).await;
                is_at_end
            }
        }
    }
}

impl Group {
    fn new(standing: Standing, restored_at: Option<Position>, handles: Vec<u64>) -> Self {
        Self { standing, restored_at, told_of_gap: false, handles }
    }

    fn has(&self, socket: SocketKey) -> bool {
        self.handles.contains(&socket.handle)
    }

    /// Skips what cannot be had, and no more: what was logged since the sockets were announced must reach them. Of a log
    /// whose life began after they had last seen it, they have seen nothing. Tells whether they stand at the end.
    fn go_on_after_gap(&mut self, end: Option<Position>) -> bool {
        let Some(end) = end else { return self.go_on_at(None) };
        let is_of_another_life =
            !matches!(self.standing, Standing::At(position) if position.epoch == end.epoch);
        let next = if is_of_another_life {
            Position::start(end.epoch)
        } else {
            let restored_at = self
                .restored_at
                .filter(|at| self.standing != Standing::At(*at) && at.epoch == end.epoch);
            restored_at.unwrap_or(end)
        };
        self.told_of_gap = true;
        self.standing = Standing::At(next);
        next == end
    }

    /// Has the sockets be given what is logged from now on: trying again might never come to an end.
    fn go_on_at(&mut self, end: Option<Position>) -> bool {
        self.told_of_gap = true;
        self.standing = Standing::of(end);
        true
    }
}

impl Standing {
    /// At the end of the log, as far as that can be read.
    fn of(position: Option<Position>) -> Self {
        position.map_or(Self::AtEnd, Self::At)
    }

    fn position(self) -> Option<Position> {
        match self {
            Self::At(position) => Some(position),
            Self::AtEnd | Self::Lost => None,
        }
    }
}

fn add(groups: &mut Vec<Group>, standing: Standing, end: Option<Position>, handle: u64) {
    // Those who were told of a gap are not told of another.
    let is_alike = |group: &&mut Group| group.standing == standing && !group.told_of_gap;
    match groups.iter_mut().find(is_alike) {
        Some(group) => group.handles.push(handle),
        None => groups.push(Group::new(standing, end, vec![handle])),
    }
}

pub(super) fn missed<'a>(key: &'a RoomKey, entry: &'a LogEntry) -> Emit<'a> {
    let args = client_view::entry(key.name_for_clients(), entry);
    Emit {
        event: &entry.event,
        args,
        volatile: false,
        position: Some((key, entry.position)),
        except_users: &entry.except_users,
    }
}

impl Link {
    /// Notes that a socket has come into a room and stands at the end of its log, if that matters.
    pub(super) fn join_catching_up(
        &mut self,
        socket: SocketKey,
        key: &RoomKey,
        end: Option<Position>,
    ) {
        if let Some(groups) = self.catching_up.get_mut(key) {
            add(groups, Standing::of(end), end, socket.handle);
        }
    }

    /// Has a socket stand at the end of a room's log, if it is being led there. Tells whether it was.
    pub(super) fn skip_to_end(
        &mut self,
        socket: SocketKey,
        key: &RoomKey,
        end: Option<Position>,
    ) -> bool {
        let groups = self.catching_up.get(key);
        let group = groups.and_then(|groups| groups.iter().find(|group| group.has(socket)));
        if group.is_none_or(|group| group.standing == Standing::of(end)) {
            return false;
        }
        self.leave_catching_up(socket, key);
        self.join_catching_up(socket, key, end);
        true
    }

    /// Takes a socket out of the groups of a room.
    pub(super) fn leave_catching_up(&mut self, socket: SocketKey, key: &RoomKey) {
        let Some(groups) = self.catching_up.get_mut(key) else { return };
        for group in &mut *groups {
            group.handles.retain(|handle| *handle != socket.handle);
        }
        groups.retain(|group| !group.handles.is_empty());
    }
}
