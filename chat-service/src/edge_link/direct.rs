//! Sends what does not go to a room to sockets wherever they are.

use std::cell::LazyCell;

use super::{
    instructions::{Audience, Emit, Instructions},
    links::Links,
    outbox::{Outbox, Ticket},
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
    /// Sends an event over every link of the namespace that may have sockets which it is for; it is made up if there is one. What
    /// goes back over the link of `cause` stands among its instructions.
    pub(crate) fn send<'a>(
        &self,
        (realm, target): (Realm<'_>, Target<'_>),
        emit: impl FnOnce() -> Emit<'a>,
        (traceparent, except): (&str, Option<SocketKey>),
        mut cause: Option<&mut Ticket>,
    ) {
        let emit = LazyCell::new(emit);
        let put = |outbox: &Outbox| {
            let except = except.filter(|socket| socket.link == outbox.link());
            let audience = match target {
                Target::User { subject, issuer } => {
                    Audience::User { realm, user: (subject, issuer), except }
                }
                Target::Everyone => Audience::Everyone { realm, except },
            };
            match &mut cause {
                Some(ticket) if ticket.outbox().link() == outbox.link() => {
                    ticket.instructions.emit(audience, &emit);
                }
                Some(_) | None => {
                    let mut instructions = Instructions::new(traceparent.to_owned());
                    instructions.emit(audience, &emit);
                    outbox.push(&instructions);
                }
            }
        };
        match target {
            Target::Everyone => self.outboxes(realm.namespace, |_| true).iter().for_each(put),
            // A socket that moves is not missed: none does until the event is on its links.
            Target::User { subject, issuer } => {
                self.registry().with_links_of(realm, (subject, issuer), except, |known| {
                    // The sockets of a link that has still to announce them are not in the registry yet.
                    let may_have_one = |outbox: &Outbox| {
                        known.contains(&outbox.link()) || !outbox.is_all_announced()
                    };
                    self.outboxes(realm.namespace, may_have_one).iter().for_each(put);
                });
            }
        }
    }
}
