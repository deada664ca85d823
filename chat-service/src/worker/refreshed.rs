//! Follows what users may do: out of rooms in which they may be no longer, and into sight of who is there.

use std::sync::Arc;

use super::{Worker, fan_out::Cause};
use crate::{
    audit,
    client_error::ClientError,
    edge_link::Ticket,
    room_key::RoomKey,
    room_log::RoomLog,
    room_rules::{Capabilities, Deed},
    socket::Socket,
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

    /// A token that comes while a socket is given what it missed counts when that is over. What its user may not look back at by that
    /// token it is given no more of: it goes on with what is logged from now on.
    pub(super) async fn handle_narrowed(
        &mut self,
        (mut ticket, socket): (Ticket, &Arc<Socket>),
        capabilities: &Capabilities,
        now_ms: u64,
    ) {
        if ticket.outbox().is_closed() {
            return;
        }
        for key in self.rooms_of(socket.key) {
            if socket.might_look_back(capabilities, &key) {
                continue;
            }
            let end = self.log.end(&key).await.ok();
            let link = self.links.get_mut(&socket.key.link);
            if !link.is_some_and(|link| link.skip_to_end(socket.key, &key, end)) {
                continue;
            }
            self.metrics.gaps.increment(1);
            if let Some(end) = end {
                ticket.instructions.join(socket.key, &key, end);
            }
            ticket.instructions.tell(socket, &ClientError::MISSED_EVENTS, &key);
            self.note_gap(&key, vec![Arc::clone(&socket.user)], end, now_ms).await;
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
