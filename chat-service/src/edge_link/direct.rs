//! Sends what does not go to a room to sockets wherever they are, without asking anyone where.

use super::{
    instructions::{Audience, Emit, Instructions},
    links::Links,
    outbox::Ticket,
};
use crate::{room_key::Realm, socket::SocketKey};

/// Whom something is for, of a tenant in a whole namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target<'a> {
    /// All sockets of a subject, of one issuer or, where none is named, of each that the tenant has.
    User { subject: &'a str, issuer: &'a str },
    /// All sockets.
    Everyone,
}

impl Links {
    /// Sends an event over every link of the namespace. What goes back over the link of `cause` stands among its instructions.
    pub(crate) fn send(
        &self,
        (realm, target): (Realm<'_>, Target<'_>),
        emit: &Emit<'_>,
        (traceparent, except): (&str, Option<SocketKey>),
        mut cause: Option<&mut Ticket>,
    ) {
        for outbox in self.outboxes(realm.namespace) {
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
}
