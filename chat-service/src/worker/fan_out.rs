//! Sends an event to everyone in a room, over the links that have someone there.

use std::collections::HashMap;

use super::{Link, Worker, effects::Effects};
use crate::{
    edge_link::{Audience, Emit, Instructions, Ticket},
    room::Room,
    room_key::RoomKey,
    socket::{LinkKey, SocketKey},
};

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
