//! Tells a business service that starts anew about the sockets that are here.

use std::collections::{HashSet, VecDeque};

use proto::edge::v1::{EdgeEvent, Membership, Welcome, edge_event::Kind};

use super::{LinkKey, Shard};
use crate::{
    backend_link::{self, Lost, SequenceError},
    socket::{Socket, Stage},
};

impl Shard {
    /// A stream of a link is up.
    pub(crate) fn attached(
        &mut self,
        link: LinkKey,
        welcome: &Welcome,
    ) -> Result<(), SequenceError> {
        let Some(state) = self.links.get_mut(link.0) else { return Ok(()) };
        if welcome.resumed {
            state.resumed(welcome)?;
        } else {
            let lost = state.started_anew(welcome);
            self.announce(link, lost);
        }
        self.resume_waiting(link);
        Ok(())
    }

    /// What was in flight is answered `unavailable`: it may or may not have taken effect. Then come the sockets that are in,
    /// those that wait to be let in, and last what had not been sent.
    fn announce(&mut self, link: LinkKey, lost: Lost) {
        for event in &lost.in_flight {
            self.give_up(event);
        }
        self.server_acks.forget(link);
        self.abandon_settlements(link);
        let sockets: Vec<EdgeEvent> = self
            .sockets
            .iter()
            .filter(|(_, socket)| self.belongs_to(link, socket))
            .map(|(index, socket)| self.announcement(index, socket))
            .collect();
        let known: HashSet<u64> = sockets.iter().map(|event| event.socket).collect();
        let Some(state) = self.links.get_mut(link.0) else { return };
        for event in sockets {
            state.requeue(event);
        }
        state.all_announced();
        for event in still_meaningful(lost.unsent, &known) {
            state.requeue(event);
        }
    }

    fn belongs_to(&self, link: LinkKey, socket: &Socket) -> bool {
        let namespace = self.namespaces.get(socket.namespace.index());
        namespace.is_some_and(|namespace| namespace.link == link)
    }

    fn announcement(&self, index: usize, socket: &Socket) -> EdgeEvent {
        let settings = self.namespaces.get(socket.namespace.index()).map(|one| &one.settings);
        let path = settings.map_or("", |settings| &settings.path);
        let mut opened = backend_link::opened(path, &socket.public_id, socket.identity.as_deref());
        let mut traceparent = String::new();
        match &socket.stage {
            Stage::Opening { span, auth, found } => {
                traceparent = service_kit::trace::traceparent_of(span.as_deref());
                let entry = self.connections.get(socket.connection.index as usize);
                opened.handshake = entry.zip(settings).map(|(entry, settings)| {
                    entry.handshake.for_backend(&settings.handshake, auth.clone())
                });
                if let Some(found) = found {
                    opened.recovered = true;
                    opened.memberships = found.claimed.memberships.clone();
                }
            }
            Stage::Live | Stage::Arriving { .. } | Stage::Suspended { .. } => {
                opened.announced = true;
                opened.suspended = matches!(socket.stage, Stage::Suspended { .. });
                opened.memberships = self.memberships(index);
            }
        }
        EdgeEvent { socket: socket.handle, traceparent, kind: Some(Kind::Opened(opened)) }
    }

    pub(super) fn memberships(&self, index: usize) -> Vec<Membership> {
        let key = super::SocketKey(u32::try_from(index).unwrap_or(u32::MAX));
        let rooms = self.rooms.rooms_of(key);
        rooms
            .map(|(room, position)| Membership {
                room: room.to_owned(),
                position: position.to_owned(),
            })
            .collect()
    }
}

/// A business service that starts anew knows only the sockets that were announced, and its predecessor's tags mean
/// nothing to it.
fn still_meaningful(
    unsent: VecDeque<EdgeEvent>,
    known: &HashSet<u64>,
) -> impl Iterator<Item = EdgeEvent> {
    unsent.into_iter().filter(|event| match &event.kind {
        Some(Kind::Event(_)) => known.contains(&event.socket),
        Some(
            Kind::Opened(_)
            | Kind::Closed(_)
            | Kind::Ack(_)
            | Kind::Suspended(_)
            | Kind::Resumed(_)
            | Kind::AckFinished(_)
            | Kind::AllAnnounced(_),
        )
        | None => false,
    })
}
