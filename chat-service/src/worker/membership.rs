//! Follows the edges: sockets that go, and links that go with all their sockets.

use std::{collections::HashSet, sync::Arc};

use smallvec::SmallVec;
use tokio::time::Instant;

use super::{Departure, Link, Worker, deliveries::Coming, fan_out::Cause};
use crate::{
    edge_link::Ticket,
    room::{Arrival, Joined, Left, Parting},
    room_key::RoomKey,
    room_log::RoomLog,
    socket::{LinkKey, Socket, SocketKey},
};

impl<L: RoomLog> Worker<L> {
    pub(super) fn handle_socket_closed(
        &mut self,
        (mut ticket, socket): (Ticket, SocketKey),
        departure: Departure,
        now_ms: u64,
    ) {
        let Some(link) = self.links.get_mut(&socket.link) else { return };
        let rooms = link.sockets.remove(&socket.handle).map(|stay| stay.rooms).unwrap_or_default();
        for key in &rooms {
            link.leave_catching_up(socket, key);
        }
        let parting = match departure {
            Departure::Said => Parting::Final,
            Departure::Lost => self.agenda.parting(Instant::now()),
        };
        for key in rooms {
            let room = self.rooms.get_mut(&key);
            let left = room.map_or(Left::Never, |room| room.handle_leave(socket, parting));
            self.note_if_lost(&key, &left, now_ms);
            self.handle_left(&key, left, &mut Cause::Event(&mut ticket));
        }
        self.effects.finish_ticket(ticket);
    }

    pub(super) fn handle_suspended(&mut self, mut ticket: Ticket, socket: SocketKey, now_ms: u64) {
        let parting = self.agenda.parting(Instant::now());
        for key in self.rooms_of(socket) {
            let room = self.rooms.get_mut(&key);
            let left = room.map_or(Left::Never, |room| room.handle_suspended(socket, parting));
            self.note_if_lost(&key, &left, now_ms);
            self.handle_left(&key, left, &mut Cause::Event(&mut ticket));
        }
        self.effects.finish_ticket(ticket);
    }

    /// The socket is told that its own user is back, as it was told that it had gone.
    pub(super) async fn handle_resumed(
        &mut self,
        mut ticket: Ticket,
        socket: SocketKey,
        now_ms: u64,
    ) {
        for key in self.rooms_of(socket) {
            let joined = self.rooms.get_mut(&key).and_then(|room| room.handle_resumed(socket));
            if let Some((Joined::User, user)) = joined {
                self.follow_back(&key, &user, now_ms).await;
                self.tell_joined(&key, &user, None, &mut Cause::Event(&mut ticket));
            }
        }
        self.effects.finish_ticket(ticket);
    }

    /// The socket is told that its own user is back, as in [`handle_resumed`](Self::handle_resumed).
    pub(super) async fn handle_moved(
        &mut self,
        mut ticket: Ticket,
        socket: &Arc<Socket>,
        key: RoomKey,
        now_ms: u64,
    ) {
        if ticket.outbox().is_closed() {
            return;
        }
        if let Some((error, reason)) = self.refusal_of_return(&key, socket, now_ms) {
            return self.refuse_return(ticket, (socket, &key), None, (&error, &reason));
        }
        let end = self.log.end(&key).await.ok();
        let joined = self.room(&key).handle_join(socket.key, &socket.user, Arrival::Present);
        if joined == Joined::Already {
            return;
        }
        socket.keep_room();
        self.note_sight(&key, socket);
        if let Some(end) = end {
            self.follow(&key, &socket.user, Coming::Along(end), now_ms).await;
        }
        let link = self.links.entry(socket.key.link).or_insert_with(|| Link::new(ticket.outbox()));
        link.note_membership(socket, &key);
        link.join_catching_up(socket.key, &key, end);
        if joined == Joined::User {
            self.tell_joined(&key, &socket.user, None, &mut Cause::Event(&mut ticket));
        }
        self.effects.finish_ticket(ticket);
    }

    /// A socket that has moved here had left a room where it was before.
    pub(super) async fn handle_left_elsewhere(
        &mut self,
        mut ticket: Ticket,
        socket: &Socket,
        key: &RoomKey,
        now_ms: u64,
    ) {
        if ticket.outbox().is_closed() {
            return;
        }
        let left = self.take_out(socket, key);
        self.unfollow(key, &socket.user, now_ms).await;
        self.handle_left(key, left, &mut Cause::Event(&mut ticket));
        self.effects.finish_ticket(ticket);
    }

    /// Ends the stay of a socket in a room, if it is in it.
    pub(super) fn take_out(&mut self, socket: &Socket, key: &RoomKey) -> Left {
        let room = self.rooms.get_mut(key);
        let left = room.map_or(Left::Never, |room| room.handle_leave(socket.key, Parting::Final));
        if left != Left::Never {
            socket.give_room_back();
            if let Some(link) = self.links.get_mut(&socket.key.link) {
                link.forget_membership(socket.key, key);
            }
        }
        left
    }

    fn note_if_lost(&mut self, key: &RoomKey, left: &Left, now_ms: u64) {
        match left {
            Left::Going { user, .. } | Left::User(user) => self.note_lost(key, user, now_ms),
            Left::Never | Left::Socket => {}
        }
    }

    pub(super) fn rooms_of(&self, socket: SocketKey) -> SmallVec<[RoomKey; 1]> {
        let link = self.links.get(&socket.link);
        link.and_then(|link| Some(link.sockets.get(&socket.handle)?.rooms.clone()))
            .unwrap_or_default()
    }

    /// Its users have been gone for the grace of the link already: no other one is added.
    pub(super) fn handle_link_gone(&mut self, link: LinkKey, now_ms: u64) {
        self.effects.forget(link);
        let Some(gone) = self.links.remove(&link) else { return };
        let now = Instant::now();
        let rooms: HashSet<RoomKey> =
            gone.sockets.into_values().flat_map(|stay| stay.rooms).collect();
        for key in rooms {
            let Some(room) = self.rooms.get_mut(&key) else { continue };
            let users = room.handle_link_gone(link, now);
            for user in &users {
                self.note_lost(&key, user, now_ms);
            }
            self.agenda.note_gone(&key, users, now);
            self.drop_if_empty(&key);
        }
    }
}
