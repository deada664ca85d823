//! Takes sockets into rooms that they were in before: on an earlier life of their link, on another link, or on an edge that is
//! lost.

use std::{collections::VecDeque, sync::Arc};

use tokio::{sync::oneshot, time::Instant};

use super::{
    frame::{Introduction, Membership, Reentry},
    life::Life,
    links::{LinkSettings, Links},
    memory::Recalled,
    outbox::{Outbox, Ticket},
    planned::Planned,
};
use crate::{
    audit,
    client_error::ClientError,
    room::Arrival,
    room_key::RoomKey,
    room_log::{Limit, Position, Range},
    socket::{Socket, SocketKey},
    worker::{Command, History, Query, Restore},
    workers::Workers,
};

/// A client wants to go on with the socket that it had, and it is being looked whether all is there that it missed.
#[derive(Debug)]
pub(super) struct Reentering {
    who: Introduction,
    /// Holds up the acknowledgement of what the edge has asked.
    ticket: Ticket,
    recalled: Recalled,
    /// What the client calls the socket that it had.
    reentry: Reentry,
}

impl Life {
    /// Lets a client in: as a new socket, or as the one that it had, once it is certain that it can be.
    pub(super) fn open(
        &mut self,
        handle: u64,
        (who, reentry, mut ticket): (Introduction, Option<Reentry>, Ticket),
        links: &Links,
    ) {
        let recalled = reentry.and_then(|reentry| {
            let user = who.user.as_ref().ok()?;
            let recalled =
                links.memory().recall(&reentry, (&who.namespace, user), Instant::now())?;
            Some((reentry, recalled))
        });
        let Some((reentry, recalled)) = recalled else {
            if let Some(socket) = self.admit((handle, None), who, links, &mut ticket) {
                ticket.instructions.accept(socket.key);
            }
            return;
        };
        let (outbox, workers) = (self.outbox.clone(), links.settings().workers.clone());
        links.spawn(verify(outbox, workers, handle, recalled.rooms.clone()));
        self.reentries.insert(handle, Box::new(Reentering { who, ticket, recalled, reentry }));
    }

    /// Lets those in of whom it is known by now whether they can go on as what they were.
    pub(super) fn go_on_reentering(&mut self, links: &Links, planned: &mut VecDeque<Planned>) {
        for (handle, complete) in self.outbox.take_verified() {
            // One that is gone is owed nothing.
            let Some(reentering) = self.reentries.remove(&handle) else { continue };
            let Reentering { mut who, mut ticket, recalled, reentry } = *reentering;
            let user = who.user.as_ref().ok();
            // Another client may have taken it meanwhile.
            let again = user.and_then(|user| {
                links.memory().recall(&reentry, (&who.namespace, user), Instant::now())
            });
            if !complete || again.as_ref().map(|again| again.key) != Some(recalled.key) {
                if let Some(socket) = self.admit((handle, None), who, links, &mut ticket) {
                    ticket.instructions.accept(socket.key);
                }
                continue;
            }
            who.socket_id = Arc::clone(&recalled.id);
            if let Some(recovery) = &mut who.recovery {
                recovery.key = reentry.key;
            }
            let Some(socket) = self.admit((handle, Some(recalled.key)), who, links, &mut ticket)
            else {
                continue;
            };
            ticket.instructions.recall(socket.key, &recalled.id);
            self.bring_back(&socket, recalled, (&mut ticket, links.settings()), planned);
        }
    }

    fn bring_back(
        &mut self,
        socket: &Arc<Socket>,
        Recalled { key: earlier, rooms, .. }: Recalled,
        (ticket, settings): (&mut Ticket, &LinkSettings),
        planned: &mut VecDeque<Planned>,
    ) {
        let (rooms, forbidden): (Vec<_>, Vec<_>) =
            rooms.into_iter().partition(|(room, _)| socket.may_be_in(room));
        for (room, _) in forbidden {
            tell_removed(socket, &room, (&mut *ticket, settings));
        }
        for (room, position) in &rooms {
            let restore = Restore {
                ticket: ticket.another(),
                socket: Arc::clone(socket),
                room: room.clone(),
                position: Some(Ok(*position)),
                earlier: Some(earlier),
                arrival: Arrival::Present,
                is_told: true,
            };
            planned.extend(self.restore(settings, restore));
        }
        for (room, _) in rooms {
            self.catching_up += 1;
            planned.push_back(self.catch_up(&settings.workers, room));
        }
    }

    pub(super) fn restore_announced(
        &mut self,
        settings: &LinkSettings,
        ticket: &Ticket,
        (socket, membership, arrival): (&Arc<Socket>, Membership, Arrival),
    ) -> Option<Planned> {
        let Membership { room, position } = membership;
        let room = room_of(socket, (ticket, settings), &room)?;
        self.announced_rooms.insert(room.clone());
        self.outbox.enter(socket.key.handle, room.clone(), None);
        let earlier = self.earlier.map(|link| SocketKey { link, handle: socket.key.handle });
        let restore = Restore {
            ticket: ticket.another(),
            socket: Arc::clone(socket),
            room,
            position: (!position.is_empty()).then(|| position.parse::<Position>()),
            earlier,
            arrival,
            is_told: false,
        };
        self.restore(settings, restore)
    }

    fn restore(&mut self, settings: &LinkSettings, restore: Restore) -> Option<Planned> {
        let attached = self.sockets.get_mut(&restore.socket.key.handle)?;
        let worker = settings.workers.of(&restore.room);
        attached.workers.insert(worker);
        Some(Planned { worker, command: Command::Restore(Box::new(restore)) })
    }

    /// Lets a socket in that was on another link. It is in its rooms as soon as it is let in: not before it is known in which.
    pub(super) fn take_in(
        &mut self,
        handle: u64,
        (who, memberships, mut ticket): (Introduction, &[Membership], Ticket),
        links: &Links,
        planned: &mut VecDeque<Planned>,
    ) {
        let Some(socket) = self.admit((handle, None), who, links, &mut ticket) else { return };
        ticket.instructions.accept(socket.key);
        let accept = Arc::new(ticket);
        for Membership { room, .. } in memberships {
            let ticket = Ticket::before(&accept);
            planned.extend(self.take_over(links.settings(), ticket, &socket, room));
        }
    }

    /// Takes a socket into a room that it was in on another link.
    pub(super) fn take_over(
        &mut self,
        settings: &LinkSettings,
        ticket: Ticket,
        socket: &Arc<Socket>,
        room: &str,
    ) -> Option<Planned> {
        let room = room_of(socket, (&ticket, settings), room)?;
        let attached = self.sockets.get_mut(&socket.key.handle)?;
        let worker = settings.workers.of(&room);
        attached.workers.insert(worker);
        self.outbox.enter(socket.key.handle, room.clone(), None);
        let command = Command::SocketMoved(ticket, Arc::clone(socket), room);
        Some(Planned { worker, command })
    }
}

/// The room that an edge says a socket is in, unless it must not be.
fn room_of(
    socket: &Socket,
    (ticket, settings): (&Ticket, &LinkSettings),
    name: &str,
) -> Option<RoomKey> {
    let Ok(room) = RoomKey::parse(&socket.namespace, name) else {
        tracing::error!("edge has a socket in what is no room");
        return None;
    };
    // Who has an inbox, and who may be where, may have changed with the settings or the token. An edge may also have come into the
    // room with a service that knew no tenants.
    if !socket.may_be_in(&room) {
        let mut ticket = ticket.another();
        ticket.instructions.leave(socket.key, &room);
        tell_removed(socket, &room, (&mut ticket, settings));
        return None;
    }
    Some(room)
}

/// Tells a client that it is in a room no longer. Of others' inboxes and of other tenants' rooms it knows nothing.
fn tell_removed(socket: &Socket, room: &RoomKey, (ticket, settings): (&mut Ticket, &LinkSettings)) {
    if room.is_inbox() || !room.is_in(socket.realm()) {
        return;
    }
    ticket.instructions.tell(socket, &ClientError::REMOVED, room);
    settings.metrics.removals.increment(1);
    audit::removed(&socket.user);
}

/// Finds out whether the logs still have all that comes after these positions.
async fn verify(outbox: Outbox, workers: Workers, handle: u64, rooms: Vec<(RoomKey, Position)>) {
    let mut complete = true;
    for (room, position) in rooms {
        complete = complete && has_all_after(&workers, room, position).await;
    }
    outbox.note_verified(handle, complete);
}

async fn has_all_after(workers: &Workers, room: RoomKey, position: Position) -> bool {
    let (asker, answer) = oneshot::channel();
    let queue = workers.queue(workers.of(&room));
    let (range, limit) = (Range::After(position), Limit { count: 1, bytes: 1 });
    let query = Query::History(History { room, range, limit }, asker);
    if queue.send(Command::Query(Box::new(query))).await.is_err() {
        return false;
    }
    matches!(answer.await, Ok(Ok(_)))
}
