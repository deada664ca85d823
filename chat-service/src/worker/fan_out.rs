//! Sends an event to everyone in a room, over the links that have someone there.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;

use super::{Link, Worker, effects::Effects};
use crate::{
    client_view::PRESENCE,
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
            let whole = |link: LinkKey, _| Some(whole_room(room, link, except));
            fan_out(&self.links, (room, members), whole, emit, (cause, &mut self.effects));
        }
    }

    /// Tells who comes and goes, or who is there: all who may see that.
    pub(super) fn fan_out_presence(
        &mut self,
        room: &RoomKey,
        args: Bytes,
        except: Option<SocketKey>,
        cause: &mut Cause<'_>,
    ) {
        let Some(members) = self.rooms.get(room) else { return };
        let emit =
            Emit { event: PRESENCE, args, volatile: false, position: None, except_users: &[] };
        let seers = |link: LinkKey, socket_count| match members.blind_of(link) {
            None => Some(whole_room(room, link, except)),
            Some(blind) => those_who_see(room, members, (link, socket_count, blind), except),
        };
        fan_out(&self.links, (room, members), seers, &emit, (cause, &mut self.effects));
    }
}

/// All sockets of a room on a link, but for one.
fn whole_room(room: &RoomKey, link: LinkKey, except: Option<SocketKey>) -> Audience<'_> {
    Audience::Room { room, except: except.filter(|socket| socket.link == link) }
}

/// The sockets of a link that may see who is in a room, but for one: whatever takes fewer words.
fn those_who_see<'a>(
    room: &'a RoomKey,
    members: &Room,
    (link, socket_count, blind): (LinkKey, usize, &HashSet<u64>),
    except: Option<SocketKey>,
) -> Option<Audience<'a>> {
    let except = except.filter(|socket| socket.link == link).map(|socket| socket.handle);
    let except = except.filter(|handle| !blind.contains(handle));
    if socket_count <= blind.len() + usize::from(except.is_some()) {
        return None;
    }
    if blind.len() <= socket_count / 2 {
        let mut except: Vec<_> = blind.iter().copied().chain(except).collect();
        except.sort_unstable();
        return Some(Audience::RoomBut { room, except });
    }
    let mut handles = members.handles(link);
    handles.retain(|handle| !blind.contains(handle) && Some(*handle) != except);
    Some(Audience::Sockets { realm: room.realm(), handles })
}

/// The same, of the sockets that are known here to be in the room.
fn announced<'a>(
    audience: Audience<'a>,
    room: &'a RoomKey,
    members: &Room,
    link: LinkKey,
) -> Audience<'a> {
    let except = match audience {
        Audience::Room { except, .. } => except.map(|socket| socket.handle).into_iter().collect(),
        Audience::RoomBut { except, .. } => except,
        other @ (Audience::Sockets { .. } | Audience::User { .. } | Audience::Everyone { .. }) => {
            return other;
        }
    };
    let mut handles = members.handles(link);
    handles.retain(|handle| except.binary_search(handle).is_err());
    Audience::Sockets { realm: room.realm(), handles }
}

fn fan_out<'a>(
    links: &HashMap<LinkKey, Link>,
    (room, members): (&'a RoomKey, &Room),
    audience: impl Fn(LinkKey, usize) -> Option<Audience<'a>>,
    emit: &Emit<'_>,
    (cause, effects): (&mut Cause<'_>, &mut Effects),
) {
    for (key, socket_count) in members.links() {
        let Some(link) = links.get(&key) else { continue };
        let Some(audience) = audience(key, socket_count) else { continue };
        let nobody_else =
            matches!(audience, Audience::Room { except: Some(_), .. } if socket_count == 1);
        let comes_later = emit.position.is_some() && link.catching_up.contains_key(room);
        if nobody_else || comes_later {
            continue;
        }
        // The edge may have more sockets there, which are announced only now, and do not come back.
        let audience = match link.catching_up.contains_key(room) {
            false => audience,
            true => announced(audience, room, members, key),
        };
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
