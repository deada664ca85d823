//! Follows the edges: sockets that go, and links that go with all their sockets.

use std::{collections::HashSet, sync::Arc};

use super::{Link, Worker, fan_out::Cause};
use crate::{
    edge_link::Ticket,
    room::{Joined, Left},
    room_key::RoomKey,
    room_log::RoomLog,
    socket::{LinkKey, Socket, SocketKey},
    user::User,
};

impl<L: RoomLog> Worker<L> {
    pub(super) fn handle_socket_closed(&mut self, mut ticket: Ticket, socket: SocketKey) {
        let Some(link) = self.links.get_mut(&socket.link) else { return };
        let rooms = link.sockets.remove(&socket.handle).unwrap_or_default();
        for key in &rooms {
            link.leave_catching_up(socket, key);
        }
        for key in rooms {
            let left =
                self.rooms.get_mut(&key).map_or(Left::Never, |room| room.handle_leave(socket));
            if let Left::User(user) = left {
                self.tell_left(&key, &[&user], &mut Cause::Event(&mut ticket));
            }
            self.drop_if_empty(&key);
        }
        self.effects.finish_ticket(ticket);
    }

    pub(super) fn handle_suspended(&mut self, mut ticket: Ticket, socket: SocketKey) {
        for key in self.rooms_of(socket) {
            let left =
                self.rooms.get_mut(&key).map_or(Left::Never, |room| room.handle_suspended(socket));
            if let Left::User(user) = left {
                self.tell_left(&key, &[&user], &mut Cause::Event(&mut ticket));
            }
        }
        self.effects.finish_ticket(ticket);
    }

    pub(super) fn handle_resumed(&mut self, mut ticket: Ticket, socket: SocketKey) {
        for key in self.rooms_of(socket) {
            let joined = self.rooms.get_mut(&key).and_then(|room| room.handle_resumed(socket));
            if let Some((Joined::User, user)) = joined {
                self.tell_joined(&key, &user, socket, &mut ticket);
            }
        }
        self.effects.finish_ticket(ticket);
    }

    pub(super) async fn handle_moved(
        &mut self,
        mut ticket: Ticket,
        socket: &Arc<Socket>,
        key: RoomKey,
    ) {
        if ticket.outbox().is_closed() {
            return;
        }
        let end = self.log.end(&key).await;
        let joined = self.room(&key).handle_join(socket.key, &socket.user);
        if joined == Joined::Already {
            return;
        }
        socket.keep_room();
        let link = self.links.entry(socket.key.link).or_insert_with(|| Link::new(ticket.outbox()));
        link.note_membership(socket.key, &key);
        link.join_catching_up(socket.key, &key, end);
        if joined == Joined::User {
            self.tell_joined(&key, &socket.user, socket.key, &mut ticket);
        }
        self.effects.finish_ticket(ticket);
    }

    fn rooms_of(&self, socket: SocketKey) -> Vec<RoomKey> {
        let link = self.links.get(&socket.link);
        link.and_then(|link| link.sockets.get(&socket.handle).cloned()).unwrap_or_default()
    }

    pub(super) fn handle_link_gone(&mut self, link: LinkKey) {
        let Some(gone) = self.links.remove(&link) else { return };
        let rooms: HashSet<RoomKey> = gone.sockets.into_values().flatten().collect();
        for key in rooms {
            let Some(room) = self.rooms.get_mut(&key) else { continue };
            let users = room.handle_link_gone(link);
            let users: Vec<&User> = users.iter().map(Arc::as_ref).collect();
            self.tell_left(&key, &users, &mut Cause::Other(String::new()));
            self.drop_if_empty(&key);
        }
    }
}
