//! Sends an event to everyone in a room, over the links that have someone there.

use std::collections::HashMap;

use super::{Link, Worker, effects::Effects};
use crate::{
    client_view::{self, NOTICE_USERS_MAX, PRESENCE},
    edge_link::{Audience, Emit, Instructions, Ticket},
    room::Room,
    room_key::RoomKey,
    socket::{LinkKey, SocketKey},
    user::User,
};

/// Most bytes of profiles in one notice of who joined or left.
const NOTICE_BYTES_MAX: usize = 64 * 1024;

/// What a fan-out stems from.
#[derive(Debug)]
pub(super) enum Cause<'a> {
    /// An event of a link. What goes back over that link stands among the event's own instructions, in order.
    Event(&'a mut Ticket),
    /// Anything else, with its trace.
    Other(String),
}

impl<L> Worker<L> {
    pub(super) fn fan_out(
        &mut self,
        room: &RoomKey,
        emit: &Emit<'_>,
        except: Option<SocketKey>,
        cause: &mut Cause<'_>,
    ) {
        if let Some(members) = self.rooms.get(room) {
            let audience = (room, members, except);
            fan_out(&self.links, audience, emit, cause, &mut self.effects);
        }
    }

    /// Tells a room who has joined.
    pub(super) fn tell_joined(
        &mut self,
        room: &RoomKey,
        user: &User,
        socket: SocketKey,
        ticket: &mut Ticket,
    ) {
        let count = self.user_count(room);
        let args = client_view::presence(room.name(), &[user], &[], count);
        self.fan_out(room, &presence(args), Some(socket), &mut Cause::Event(ticket));
    }

    /// Tells a room who has left, in as few notices as their size allows.
    pub(super) fn tell_left(&mut self, room: &RoomKey, users: &[&User], cause: &mut Cause<'_>) {
        let count = self.user_count(room);
        let mut rest = users;
        while !rest.is_empty() {
            let mut bytes = 0;
            let fitting = rest.iter().take(NOTICE_USERS_MAX).take_while(|user| {
                bytes += user.profile().get().len();
                bytes <= NOTICE_BYTES_MAX
            });
            let (told, untold) = rest.split_at(fitting.count().max(1));
            let args = client_view::presence(room.name(), &[], told, count);
            self.fan_out(room, &presence(args), None, cause);
            rest = untold;
        }
    }

    fn user_count(&self, room: &RoomKey) -> usize {
        self.rooms.get(room).map_or(0, Room::user_count)
    }
}

fn presence(args: bytes::Bytes) -> Emit<'static> {
    Emit { event: PRESENCE, args, volatile: false, position: None, except_users: &[] }
}

fn fan_out(
    links: &HashMap<LinkKey, Link>,
    (room, members, except): (&RoomKey, &Room, Option<SocketKey>),
    emit: &Emit<'_>,
    cause: &mut Cause<'_>,
    effects: &mut Effects,
) {
    for (key, socket_count) in members.links() {
        let Some(link) = links.get(&key) else { continue };
        let except = except.filter(|socket| socket.link == key);
        let nobody_else = except.is_some() && socket_count == 1;
        let comes_later = emit.position.is_some() && link.catching_up.contains_key(room);
        if nobody_else || comes_later {
            continue;
        }
        let audience = Audience::Room { room, except };
        let traceparent = match cause {
            Cause::Event(ticket) if ticket.outbox().link() == key => {
                ticket.instructions.emit(audience, emit);
                continue;
            }
            Cause::Event(ticket) => ticket.instructions.traceparent(),
            Cause::Other(traceparent) => traceparent,
        };
        let mut instructions = Instructions::new(traceparent.to_owned());
        instructions.emit(audience, emit);
        effects.send(&link.outbox, instructions);
    }
}
