//! Follows the edges: sockets that go, and links that go with all their sockets.

use std::{collections::HashSet, sync::Arc};

use super::{Worker, fan_out::Cause};
use crate::{
    edge_link::Ticket,
    room::Left,
    room_key::RoomKey,
    room_log::RoomLog,
    socket::{LinkKey, SocketKey},
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
                self.drop_if_empty(&key);
            }
        }
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
