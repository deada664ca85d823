//! Sends what does not go to a room to sockets wherever they are.

use smallvec::SmallVec;

use super::{
    instructions::{Audience, Emit, Instructions},
    links::Links,
    outbox::{Outbox, Ticket},
};
use crate::{
    room_key::Realm,
    socket::{LinkKey, SocketKey},
};

/// Whom something is for, of a tenant in a whole namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target<'a> {
    /// All sockets of a subject, of one issuer or, where none is named, of each that the tenant has.
    User { subject: &'a str, issuer: &'a str },
    /// All sockets.
    Everyone,
}

impl Links {
    /// Sends an event over every link of the namespace that may have sockets which it is for. What goes back over the link of
    /// `cause` stands among its instructions.
    pub(crate) fn send(
        &self,
        (realm, target): (Realm<'_>, Target<'_>),
        emit: &Emit<'_>,
        (traceparent, except): (&str, Option<SocketKey>),
        mut cause: Option<&mut Ticket>,
    ) {
        for outbox in self.reached((realm, target), except) {
            let except = except.filter(|socket| socket.link == outbox.link());
            let audience = match target {
                Target::User { subject, issuer } => {
                    Audience::User { realm, user: (subject, issuer), except }
                }
                Target::Everyone => Audience::Everyone { realm, except },
            };
            match &mut cause {
                Some(ticket) if ticket.outbox().link() == outbox.link() => {
                    ticket.instructions.emit(audience, emit);
                }
                Some(_) | None => {
                    let mut instructions = Instructions::new(traceparent.to_owned());
                    instructions.emit(audience, emit);
                    outbox.push(instructions);
                }
            }
        }
    }

    fn reached(
        &self,
        (realm, target): (Realm<'_>, Target<'_>),
        except: Option<SocketKey>,
    ) -> Vec<Outbox> {
        let mut outboxes = self.outboxes(realm.namespace);
        let Target::User { subject, issuer } = target else { return outboxes };
        // Looked at first: by the time that all are announced, they are in the registry.
        let link_of = |outbox: &Outbox| (!outbox.is_all_announced()).then(|| outbox.link());
        let unknown: SmallVec<[LinkKey; 4]> = outboxes.iter().filter_map(link_of).collect();
        let known = self.registry().links_of(realm, (subject, issuer), except);
        outboxes
            .retain(|outbox| known.contains(&outbox.link()) || unknown.contains(&outbox.link()));
        outboxes
    }
}
