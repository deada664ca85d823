//! Tells a business service that starts anew about the sockets that are here.

use std::{
    collections::{HashSet, VecDeque},
    time::Instant,
};

use proto::edge::v1::{EdgeEvent, Membership, Welcome, edge_event::Kind};

use super::{LinkKey, Shard};
use crate::{
    backend_link::{self, SequenceError},
    socket::{Socket, Stage},
};

impl Shard {
    /// A stream of a link is up.
    pub(crate) fn attached(
        &mut self,
        link: LinkKey,
        welcome: &Welcome,
    ) -> Result<(), SequenceError> {
        self.want_confirmations(link, welcome);
        let Some(state) = self.links.get_mut(link.0) else { return Ok(()) };
        if welcome.resumed {
            state.resumed(welcome)?;
        } else {
            let mut lost = state.started_anew(welcome);
            let in_flight = std::mem::take(&mut lost.in_flight);
            let repeats = self.sort_in_flight(link, in_flight, welcome.takes_repeats);
            self.announce(link, repeats, lost.unsent);
            self.ask_all(link);
        }
        self.resume_waiting(link);
        Ok(())
    }

    /// The link of a business service is down: whoever waits for room there is answered now.
    pub(crate) fn detached(&mut self, link: LinkKey) {
        if let Some(state) = self.links.get_mut(link.0) {
            state.detached();
        }
        self.resume_waiting(link);
    }

    /// What was in flight may or may not have taken effect. What the business service can tell by its name is sent again, and
    /// so is what has arrived with clients, which is as true as before; the clients of the rest are answered `unavailable`.
    fn sort_in_flight(
        &mut self,
        link: LinkKey,
        in_flight: Vec<EdgeEvent>,
        takes_repeats: bool,
    ) -> Vec<EdgeEvent> {
        let now = Instant::now();
        let mut repeats = Vec::new();
        for event in in_flight {
            let is_report = matches!(event.kind, Some(Kind::Delivered(_)));
            if is_report || (takes_repeats && self.may_repeat(link, &event, now)) {
                repeats.push(event);
            } else {
                self.give_up(&event);
            }
        }
        repeats
    }

    /// Whether the client of an event has not been told what became of it, and need not be told yet.
    fn may_repeat(&self, link: LinkKey, event: &EdgeEvent, now: Instant) -> bool {
        let Some(Kind::Event(client_event)) = &event.kind else { return false };
        let waits =
            client_event.ack_id.is_none_or(|id| self.client_acks.is_waiting((event.socket, id)));
        waits && self.links.get(link.0).is_some_and(|link| !link.is_late(client_event, now))
    }

    /// First the sockets that are in, and those that wait to be let in; then what is sent again, and last what had not been
    /// sent.
    fn announce(&mut self, link: LinkKey, repeats: Vec<EdgeEvent>, unsent: VecDeque<EdgeEvent>) {
        self.server_acks.forget(link);
        self.abandon_settlements(link);
        self.forget_lags(link);
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
        let is_meaningful = |event: &EdgeEvent| is_meaningful(event, &known);
        repeats.into_iter().filter(is_meaningful).for_each(|event| state.repeat(event));
        unsent.into_iter().filter(is_meaningful).for_each(|event| state.requeue(event));
    }

    pub(super) fn belongs_to(&self, link: LinkKey, socket: &Socket) -> bool {
        let namespace = self.namespaces.get(socket.namespace.index());
        namespace.is_some_and(|namespace| namespace.link == link)
    }

    fn announcement(&self, index: usize, socket: &Socket) -> EdgeEvent {
        let settings = self.namespaces.get(socket.namespace.index()).map(|one| &one.settings);
        let path = settings.map_or("", |settings| &settings.path);
        let mut opened = backend_link::opened(path, &socket.public_id, socket.identity.as_deref());
        let mut traceparent = String::new();
        match &socket.stage {
            Stage::Opening { span, auth, found, comeback } => {
                let names = (found.as_deref(), comeback.as_deref());
                self.add_comeback(socket.namespace, names, &mut opened);
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
                let id = socket.recoverable.as_ref().map(|recoverable| recoverable.id);
                self.add_recoverability(socket.namespace, id, &mut opened);
            }
        }
        EdgeEvent { socket: socket.handle, traceparent, kind: Some(Kind::Opened(opened.into())) }
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
fn is_meaningful(event: &EdgeEvent, known: &HashSet<u64>) -> bool {
    match &event.kind {
        Some(Kind::Event(_)) => known.contains(&event.socket),
        Some(Kind::Delivered(_)) => true,
        Some(
            Kind::Opened(_)
            | Kind::Closed(_)
            | Kind::Ack(_)
            | Kind::Suspended(_)
            | Kind::Resumed(_)
            | Kind::Refreshed(_)
            | Kind::CatchUp(_)
            | Kind::AckFinished(_)
            | Kind::AllAnnounced(_),
        )
        | None => false,
    }
}
