//! Follows what users may do: out of rooms in which they may be no longer, and into sight of who is there.

use std::sync::Arc;

use super::{Worker, fan_out::Cause};
use crate::{
    audit, client_error::ClientError, edge_link::Ticket, room_key::RoomKey, room_log::RoomLog,
    room_rules::Deed, socket::Socket,
};

impl<L: RoomLog> Worker<L> {
    pub(super) async fn handle_refreshed(
        &mut self,
        mut ticket: Ticket,
        socket: &Arc<Socket>,
        now_ms: u64,
    ) {
        if ticket.outbox().is_closed() {
            return;
        }
        for key in self.rooms_of(socket.key) {
            if socket.may_be_in(&key) {
                self.note_sight(&key, socket);
                continue;
            }
            ticket.instructions.leave(socket.key, &key);
            ticket.instructions.tell(socket, &ClientError::REMOVED, &key);
            self.metrics.removals.increment(1);
            audit::removed(&socket.user);
            let left = self.take_out(socket, &key);
            self.unfollow(&key, &socket.user, now_ms).await;
            self.handle_left(&key, left, &mut Cause::Event(&mut ticket));
        }
        self.effects.finish_ticket(ticket);
    }

    /// Notes whether a socket of a room may see who is there.
    pub(super) fn note_sight(&mut self, key: &RoomKey, socket: &Socket) {
        if let Some(room) = self.rooms.get_mut(key) {
            room.note_sight(socket.key, socket.may(Deed::Presence, key));
        }
    }
}
