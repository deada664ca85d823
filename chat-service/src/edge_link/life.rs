//! One life of a link: its sockets, what the edge has sent and has not been begun, what it has not confirmed.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    hint, mem,
    sync::Arc,
};

use proto::{auth::v1::Capability, edge::v1 as wire, encoded::Encoded};
use service_kit::{
    clock,
    trace::{self, TraceParent},
};
use thiserror::Error;
use tokio::time::Instant;

use super::{
    edge_clock::EdgeClock,
    frame::{Event, EventKind, Frame, Introduction, Resumed, Sent},
    instructions::Instructions,
    links::{LinkSettings, Links},
    outbox::{Outbox, Ticket},
    planned::Planned,
    reentries::Reentering,
    sent::SentFrames,
    stream::StreamEnd,
};
use crate::{
    client_event::ClientEvent,
    declared_events::{Allowance, Allowances},
    room::Arrival,
    room_key::{RoomKey, is_namespace},
    room_rules::{Capabilities, CapabilitiesError},
    socket::{LinkKey, Socket, SocketKey},
    telemetry::{self, Outcome},
    user::{User, UserError},
    worker::{CatchUp, Command, Departure},
    workers::{WorkerSet, Workers},
};

/// Most bytes of events that were received and not begun. Above it, nothing more is read from the stream. It is more than
/// an edge keeps unacknowledged, so that its confirmations are read even while its events wait.
const BACKLOG_BYTES_MAX: usize = 8 * 1024 * 1024;

#[derive(Debug)]
pub(super) struct Life {
    pub(super) outbox: Outbox,
    pub(super) sent: SentFrames,
    /// Number of the last frame that was received.
    pub(super) received: u64,
    edge_clock: EdgeClock,
    /// The rooms that announced sockets are in.
    pub(super) announced_rooms: HashSet<RoomKey>,
    /// In how many rooms sockets are being given what they missed. No event is begun meanwhile.
    pub(super) catching_up: usize,
    /// Sockets whose clients want to go on with those that they had, by their handles.
    pub(super) reentries: HashMap<u64, Box<Reentering>>,
    /// The life of this link before this one, while its sockets are still in the rooms.
    pub(super) earlier: Option<LinkKey>,
    /// By their handles, which the edge has chosen and no client.
    pub(super) sockets: foldhash::HashMap<u64, Attached>,
    namespaces: Vec<Arc<str>>,
    pub(super) backlog: VecDeque<(u64, Event)>,
    backlog_bytes: usize,
}

#[derive(Debug)]
pub(super) struct Attached {
    pub(super) socket: Arc<Socket>,
    /// Those that may have it in a room.
    pub(super) workers: WorkerSet,
    /// What it has used of the rates of declared events, once it has sent one that has a rate.
    pub(super) allowances: Option<Box<Allowances>>,
    /// What it has used of the rate of joins.
    pub(super) joins: Allowance,
    /// The audit log has it that there were too many.
    pub(super) has_joined_too_often: bool,
}

impl Life {
    pub(super) fn new(outbox: Outbox, namespaces: &[String], earlier: Option<LinkKey>) -> Self {
        Self {
            outbox,
            sent: SentFrames::default(),
            received: 0,
            edge_clock: EdgeClock::new(Instant::now()),
            announced_rooms: HashSet::new(),
            catching_up: 0,
            reentries: HashMap::new(),
            earlier,
            sockets: foldhash::HashMap::default(),
            namespaces: namespaces.iter().map(|namespace| namespace.as_str().into()).collect(),
            backlog: VecDeque::new(),
            backlog_bytes: 0,
        }
    }

    pub(super) fn key(&self) -> LinkKey {
        self.outbox.link()
    }

    pub(super) fn into_sockets(self) -> Vec<Arc<Socket>> {
        self.sockets.into_values().map(|attached| attached.socket).collect()
    }

    pub(super) fn socket_count(&self) -> usize {
        self.sockets.len()
    }

    /// Whether further events may be begun. With a full backlog they must be: it holds up the confirmations that would make
    /// room in the outbox.
    pub(super) fn may_begin(&self) -> bool {
        self.backlog_is_full() || self.outbox.standing().has_room
    }

    pub(super) fn backlog_is_full(&self) -> bool {
        self.backlog_bytes >= BACKLOG_BYTES_MAX
    }

    /// Takes a frame in. What it confirms is freed even where its events were received before.
    pub(super) fn handle_frame(
        &mut self,
        frame: Frame,
        settings: &LinkSettings,
        planned: &mut VecDeque<Planned>,
    ) -> Result<(), StreamEnd> {
        let Frame { seq, ack, sent_ms, events } = frame;
        self.edge_clock.handle_sent(sent_ms, Instant::now());
        let confirmed = self.sent.confirm(ack).map_err(|_| StreamEnd::Confirmation)?;
        if confirmed > 0 {
            self.outbox.confirm(confirmed);
        }
        if seq <= self.received {
            return Ok(());
        }
        if seq != self.received + 1 {
            return Err(StreamEnd::Hole);
        }
        self.received = seq;
        self.outbox.begin_frame(events.len());
        self.backlog_bytes += events.iter().map(|event| event.bytes).sum::<usize>();
        self.fetch_sockets(&events);
        let before = self.backlog.len();
        self.backlog.extend(events.into_iter().map(|event| (seq, event)));
        self.narrow(before, settings, planned);
        Ok(())
    }

    /// Has the processor fetch the sockets that a frame is about, several at a time. Where there are many, each event would else wait
    /// for its own to come from memory.
    fn fetch_sockets(&self, events: &[Event]) {
        for event in events {
            let known = self.sockets.get(&event.socket);
            hint::black_box(known.map(|attached| attached.socket.has_namesakes()));
        }
    }

    /// The next frame to write.
    pub(super) fn next_frame(&mut self) -> Option<Encoded<wire::BackendFrame>> {
        if let Some(frame) = self.sent.next_owed() {
            return Some(frame);
        }
        self.outbox.take_batch().map(|batch| self.sent.number(batch))
    }

    pub(super) fn has_output(&self) -> bool {
        self.sent.owes_frames() || self.outbox.standing().has_output
    }

    /// Forgets what was not begun. It is never acknowledged.
    pub(super) fn drop_backlog(&mut self) {
        self.backlog.clear();
        self.backlog_bytes = 0;
    }

    /// Sockets are no longer announced: begins to give them what they missed.
    fn end_announcements(&mut self, settings: &LinkSettings, planned: &mut VecDeque<Planned>) {
        for room in mem::take(&mut self.announced_rooms) {
            self.catching_up += 1;
            planned.push_back(self.catch_up(&settings.workers, room));
        }
        self.narrow(0, settings, planned);
    }

    /// Goes on with the rooms whose sockets have not been given everything.
    pub(super) fn go_on_catching_up(&mut self, workers: &Workers, planned: &mut VecDeque<Planned>) {
        for (room, complete) in self.outbox.take_caught_up() {
            if complete {
                self.catching_up -= 1;
            } else {
                planned.push_back(self.catch_up(workers, room));
            }
        }
    }

    pub(super) fn catch_up(&self, workers: &Workers, room: RoomKey) -> Planned {
        let worker = workers.of(&room);
        let catch_up = CatchUp { ticket: self.outbox.extra_ticket(), room };
        Planned { worker, command: Command::CatchUp(Box::new(catch_up)) }
    }

    /// Begins the next event of the backlog; tells whether there was one.
    pub(super) fn begin_next(
        &mut self,
        (links, now): (&Links, Instant),
        planned: &mut VecDeque<Planned>,
    ) -> bool {
        let settings = links.settings();
        if self.catching_up > 0 {
            return false;
        }
        let Some((seq, event)) = self.backlog.pop_front() else { return false };
        let Event { socket: handle, trace: parent, kind, bytes } = event;
        self.backlog_bytes -= bytes;
        match kind {
            EventKind::Opened { who, reentry } => {
                let span = telemetry::open_span(&settings.tracer, parent, &who.namespace);
                let traceparent = trace::traceparent_of(span.as_ref());
                let ticket = self.outbox.ticket(seq, Instructions::new(traceparent));
                self.open(handle, (*who, reentry, ticket), links);
            }
            EventKind::Announced { who, memberships, is_suspended } => {
                let mut ticket = self.outbox.ticket(seq, Instructions::default());
                let earlier = self.earlier.map(|link| SocketKey { link, handle });
                if let Some(socket) = self.admit((handle, earlier), *who, links, &mut ticket) {
                    let arrival = if is_suspended { Arrival::Suspended } else { Arrival::Present };
                    for membership in memberships {
                        let restored = (&socket, membership, arrival);
                        planned.extend(self.restore_announced(settings, &ticket, restored));
                    }
                }
            }
            EventKind::Recovered { who, memberships } => {
                let ticket = self.outbox.ticket(seq, Instructions::default());
                self.take_in(handle, (*who, &memberships, ticket), links, planned);
            }
            EventKind::Suspended => {
                let ticket = self.outbox.ticket(seq, Instructions::default());
                self.tell_workers(handle, &ticket, planned, Command::SocketSuspended);
            }
            EventKind::Resumed(resumed) => {
                self.resume((handle, seq), resumed, settings, planned);
            }
            EventKind::Refreshed { who } => self.refresh((handle, seq), who, settings, planned),
            EventKind::CatchUp { room, position, bytes_max } => {
                let ticket = self.outbox.ticket(seq, Instructions::default());
                let asked = (room, position, bytes_max);
                // One that is gone is owed nothing.
                if let Some(Attached { socket, .. }) = self.sockets.get(&handle) {
                    planned.extend(Planned::refill(socket, ticket, asked, &settings.workers));
                }
            }
            EventKind::Delivered { sockets, room, position } => {
                planned.extend(self.note_delivered(seq, &sockets, (&room, position), settings));
            }
            EventKind::Unidentified => {
                let mut ticket = self.outbox.ticket(seq, Instructions::default());
                ticket.instructions.refuse(handle, "Unauthorized", br#"{"code":"unauthorized"}"#);
            }
            EventKind::AllAnnounced => {
                links.note_all_announced(&self.outbox);
                drop(self.outbox.ticket(seq, Instructions::default()));
                self.end_announcements(settings, planned);
            }
            EventKind::Closed { reason, departure } => {
                self.close((handle, seq), (&reason, departure), links, planned);
            }
            EventKind::Client(sent) => {
                self.begin_event((handle, seq), (sent, parent), (links, now), planned);
            }
            EventKind::Unasked => drop(self.outbox.ticket(seq, Instructions::default())),
        }
        true
    }

    fn note_delivered(
        &self,
        seq: u64,
        handles: &[u64],
        place: (&str, String),
        settings: &LinkSettings,
    ) -> Option<Planned> {
        let ticket = self.outbox.ticket(seq, Instructions::default());
        let sockets = handles.iter().filter_map(|handle| self.sockets.get(handle));
        Planned::delivered(sockets.map(|attached| &*attached.socket), ticket, place, settings)
    }

    fn close(
        &mut self,
        (handle, seq): (u64, u64),
        (reason, departure): (&str, Departure),
        links: &Links,
        planned: &mut VecDeque<Planned>,
    ) {
        let settings = links.settings();
        self.reentries.remove(&handle);
        let ticket = self.outbox.ticket(seq, Instructions::default());
        self.tell_workers(handle, &ticket, planned, |ticket, socket| {
            Command::SocketClosed(ticket, socket, departure)
        });
        if let Some(attached) = self.sockets.remove(&handle) {
            settings.metrics.sockets.decrement(1);
            settings.registry.note_closed(&attached.socket, reason, clock::unix_ms());
            links.memory().forget(&attached.socket);
            self.outbox.unfollow(handle);
        }
    }

    fn begin_event(
        &mut self,
        (handle, seq): (u64, u64),
        (sent, parent): (Sent, Option<TraceParent>),
        (links, now): (&Links, Instant),
        planned: &mut VecDeque<Planned>,
    ) {
        let settings = links.settings();
        let Some(attached) = self.sockets.get_mut(&handle) else {
            drop(self.outbox.ticket(seq, Instructions::default()));
            return settings.metrics.count(Outcome::UnknownSocket);
        };
        let Sent { name, args, ack_id, deadline_ms, id, repeated_since_ms } = sent;
        let not_before = |at| self.edge_clock.not_before(at, (now, clock::unix_ms()));
        let repeated_since_ms = repeated_since_ms.map(not_before);
        let socket = Arc::clone(&attached.socket);
        let span = telemetry::handle_span(&settings.tracer, parent, &socket.namespace, &name);
        let traceparent = trace::traceparent_of(span.as_ref());
        let ticket = self.outbox.ticket(seq, Instructions::new(traceparent));
        let event = ClientEvent {
            socket,
            ticket,
            ack_id,
            deadline: self.edge_clock.deadline(deadline_ms, now),
            name: id,
            repeated_since_ms,
            span,
        };
        attached.begin(event, (&name, &args), (links, now), planned);
    }

    fn resume(
        &mut self,
        (handle, seq): (u64, u64),
        Resumed { who, joined, left }: Resumed,
        settings: &LinkSettings,
        planned: &mut VecDeque<Planned>,
    ) {
        let mut ticket = self.outbox.ticket(seq, Instructions::default());
        self.renew((handle, &mut ticket), who, settings, planned);
        self.tell_workers(handle, &ticket, planned, Command::SocketResumed);
        let Some(attached) = self.sockets.get(&handle) else { return };
        let socket = Arc::clone(&attached.socket);
        for room in &joined {
            planned.extend(self.take_over(settings, ticket.another(), &socket, room));
        }
        let left = left.iter();
        planned.extend(
            left.filter_map(|room| Planned::give_up(&settings.workers, &ticket, &socket, room)),
        );
    }

    /// Has every worker that may have a socket in a room do something about it.
    fn tell_workers(
        &self,
        handle: u64,
        ticket: &Ticket,
        planned: &mut VecDeque<Planned>,
        command: impl Fn(Ticket, SocketKey) -> Command,
    ) {
        let Some(attached) = self.sockets.get(&handle) else { return };
        for worker in attached.workers.iter() {
            let command = command(ticket.another(), attached.socket.key);
            planned.push_back(Planned { worker, command });
        }
    }

    /// Takes a socket in, in place of what it was earlier, unless it cannot be served. Its connection is closed then: the
    /// client will try again.
    pub(super) fn admit(
        &mut self,
        (handle, earlier): (u64, Option<SocketKey>),
        who: Introduction,
        links: &Links,
        ticket: &mut Ticket,
    ) -> Option<Arc<Socket>> {
        let settings = links.settings();
        let Introduction { socket_id, namespace, user, capabilities, recovery } = who;
        let Some((user, capabilities)) = usable(&namespace, (user, capabilities), settings) else {
            ticket.instructions.close(handle);
            return None;
        };
        let known = self.namespaces.iter().find(|known| ***known == *namespace);
        let namespace = known.map_or_else(|| namespace.into(), Arc::clone);
        let key = SocketKey { link: self.key(), handle };
        let events = settings.namespaces.events(&namespace).cloned();
        let rules = Arc::clone(settings.namespaces.rules(&namespace));
        let socket = Socket::new(key, socket_id, namespace, user).with_events(events);
        let socket = socket.with_rules(rules, capabilities).with_recovery(recovery);
        let socket = Arc::new(socket);
        let attached = Attached {
            socket: Arc::clone(&socket),
            workers: WorkerSet::default(),
            allowances: None,
            joins: Allowance::default(),
            has_joined_too_often: false,
        };
        if self.sockets.insert(handle, attached).is_none() {
            settings.metrics.sockets.increment(1);
        }
        settings.registry.note_opened(&socket, earlier, clock::unix_ms());
        links.memory().keep(&socket, &self.outbox);
        Some(socket)
    }
}

/// Who a socket is of and what that user may do, unless the edge says what it should not.
fn usable(
    namespace: &str,
    (user, capabilities): (Result<User, UserError>, Vec<Capability>),
    settings: &LinkSettings,
) -> Option<(User, Arc<Capabilities>)> {
    if !is_namespace(namespace) {
        tracing::error!("edge opens a socket in what is no namespace");
        return None;
    }
    let user = user.map_err(UnusableIdentity::User);
    let usable = user.and_then(|user| Ok((user, settings.capabilities.share(capabilities)?)));
    usable
        .inspect_err(|error| {
            tracing::error!(%error, "edge opens a socket with an unusable identity");
        })
        .ok()
}

#[derive(Debug, Error)]
enum UnusableIdentity {
    #[error(transparent)]
    User(UserError),
    #[error(transparent)]
    Capabilities(#[from] CapabilitiesError),
}
