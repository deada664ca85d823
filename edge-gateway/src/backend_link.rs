//! Our end of the stream to a business service: what waits to be sent or to be acknowledged, and where to go on after a break.

pub(crate) mod driver;
mod events;
mod inbox;
mod outstanding;

use std::{
    collections::VecDeque,
    rc::Rc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use prost::Message;
use proto::{
    edge::v1::{
        AckFinished, AllAnnounced, CatchUp, ClientAck, ClientEvent, Delivered, EdgeEvent,
        EdgeFrame, Hello, SocketClosed, SocketOpened, SocketRefreshed, SocketResumed,
        SocketSuspended, Welcome, edge_event::Kind,
    },
    encoded::Encoded,
};
use tokio::sync::Notify;

pub(crate) use self::{
    events::{EmitCount, Moves, json_list, opened, payload_bytes},
    outstanding::Reception,
};
use self::{
    events::{EventNames, LinkClock, event, event_bytes, millis, number_of, wire_identity},
    outstanding::Held,
};
use crate::{
    shard::ConnectionKey,
    socket::Identity,
    telemetry::{Metrics, as_f64},
};

/// Most bytes that wait, sent or not, for one business service on one shard. When there are more, the connections that
/// talk to it are not read until there are fewer.
const WAITING_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Most bytes and events that one frame takes up, but for a single larger event.
const FRAME_BYTES_MAX: usize = 64 * 1024;
const FRAME_EVENTS_MAX: usize = 256;

/// After so many frames or bytes from the business service the edge acknowledges without waiting for the next tick: it must
/// not be what fills the other side's outbox.
const UNACKNOWLEDGED_FRAMES_MAX: u64 = 64;
const UNACKNOWLEDGED_BYTES_MAX: usize = 512 * 1024;

/// A link to one business service, as state: what a stream carries next and what must outlive the stream.
#[derive(Debug)]
pub(crate) struct BackendLink {
    edge_id: Rc<str>,
    link_id: String,
    namespaces: Vec<String>,
    event_names: EventNames,
    clock: LinkClock,
    /// Which life of the business service has our sockets; empty before the first.
    backend_id: String,
    attached: bool,
    /// It wants to know which rooms a socket was in when it ends.
    rooms_on_close: bool,
    /// Clients' events that are worth nothing later.
    volatile_events: Vec<String>,
    /// It can give events that have a position again.
    refills: bool,
    /// It wants to know what a new token says.
    refreshes: bool,
    /// How far this life of it has brought us, for sockets that it can bring back on another edge.
    delivered: EmitCount,
    /// Not yet in a frame.
    queued: VecDeque<EdgeEvent>,
    queued_bytes: usize,
    /// In numbered frames that have not been acknowledged, oldest first.
    unacknowledged: VecDeque<Unacknowledged>,
    unacknowledged_bytes: usize,
    /// Of the above, what clients have sent.
    held: Held,
    /// How many of the unacknowledged frames have been handed to the present stream.
    handed_out: usize,
    last_seq: u64,
    /// The last frame of the business service that was carried out.
    received: u64,
    /// How much of that we have not acknowledged.
    received_bytes: usize,
    /// The last one that we have acknowledged.
    acknowledged: u64,
    acknowledge: bool,
    /// Connections that are not read until there is room.
    waiting: Vec<ConnectionKey>,
    /// Wakes the task that drives the stream.
    wake: Rc<Notify>,
    metrics: Metrics,
}

#[derive(Debug)]
struct Unacknowledged {
    frame: EdgeFrame,
    bytes: usize,
    /// The number that names the last event of a client up to here.
    last_event: u128,
}

/// Why a frame of the business service breaks the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SequenceError {
    #[error("frame {found} came where {expected} was due")]
    Hole { expected: u64, found: u64 },
    #[error("frame {found} was acknowledged, and the last one sent was {last}")]
    AcknowledgesUnsent { found: u64, last: u64 },
}

impl BackendLink {
    pub(crate) fn new(
        edge_id: Rc<str>,
        link_id: String,
        namespaces: Vec<String>,
        metrics: Metrics,
        now: Instant,
    ) -> Self {
        Self {
            edge_id,
            link_id,
            namespaces,
            event_names: EventNames::random(),
            clock: LinkClock::new(now),
            backend_id: String::new(),
            attached: false,
            rooms_on_close: false,
            volatile_events: Vec::new(),
            refills: false,
            refreshes: false,
            delivered: EmitCount::default(),
            queued: VecDeque::new(),
            queued_bytes: 0,
            unacknowledged: VecDeque::new(),
            unacknowledged_bytes: 0,
            held: Held::default(),
            handed_out: 0,
            last_seq: 0,
            received: 0,
            received_bytes: 0,
            acknowledged: 0,
            acknowledge: false,
            waiting: Vec::new(),
            wake: Rc::default(),
            metrics,
        }
    }

    pub(crate) fn wake(&self) -> Rc<Notify> {
        Rc::clone(&self.wake)
    }

    pub(crate) fn is_attached(&self) -> bool {
        self.attached
    }

    /// How many events are in no frame yet.
    pub(crate) fn queued_events(&self) -> usize {
        self.queued.len()
    }

    pub(crate) fn wants_rooms_on_close(&self) -> bool {
        self.rooms_on_close
    }

    /// How far it has brought us, if it can bring sockets back on another edge.
    pub(crate) fn delivered(&self) -> Option<EmitCount> {
        Some(self.delivered).filter(|delivered| delivered.memory != 0)
    }

    /// Counts an emit with a position.
    pub(crate) fn note_logged(&mut self) {
        self.delivered.count += 1;
    }

    pub(crate) fn refills(&self) -> bool {
        self.refills
    }

    /// Whether connections that talk to this business service should wait. While it is away they are answered instead.
    pub(crate) fn is_full(&self) -> bool {
        self.attached && self.queued_bytes + self.unacknowledged_bytes > WAITING_BYTES_MAX
    }

    /// Whether everything that was to be sent has been taken by the business service.
    pub(crate) fn is_idle(&self) -> bool {
        self.queued.is_empty() && self.unacknowledged.is_empty()
    }

    /// Has `connection` resumed once there is room.
    pub(crate) fn wait_for_room(&mut self, connection: ConnectionKey) {
        self.waiting.push(connection);
    }

    /// The connections that may go on, if there is room.
    pub(crate) fn take_waiting(&mut self) -> Vec<ConnectionKey> {
        if self.is_full() { Vec::new() } else { std::mem::take(&mut self.waiting) }
    }

    // What happens at the edge, in the order in which it happens.

    pub(crate) fn socket_opened(&mut self, handle: u64, traceparent: String, opened: SocketOpened) {
        self.push(EdgeEvent {
            socket: handle,
            traceparent,
            kind: Some(Kind::Opened(opened.into())),
        });
    }

    /// Takes back that a socket was opened, if that has not been sent; returns whether so.
    pub(crate) fn take_back_opened(&mut self, handle: u64) -> bool {
        let is_it = |event: &EdgeEvent| {
            event.socket == handle && matches!(event.kind, Some(Kind::Opened(_)))
        };
        // Who comes and goes while a business service is away is near the end.
        let place = self.queued.iter().rposition(is_it);
        let Some(event) = place.and_then(|place| self.queued.remove(place)) else { return false };
        let bytes = event_bytes(&event);
        self.queued_bytes -= bytes;
        self.metrics.link_queue_bytes.decrement(as_f64(bytes));
        true
    }

    pub(crate) fn socket_closed(&mut self, handle: u64, reason: &str, rooms: Vec<String>) {
        let closed = SocketClosed { reason: reason.to_owned(), rooms };
        self.push(event(handle, Kind::Closed(closed)));
    }

    pub(crate) fn socket_suspended(&mut self, handle: u64, reason: &str) {
        let suspended = SocketSuspended { reason: reason.to_owned() };
        self.push(event(handle, Kind::Suspended(suspended)));
    }

    pub(crate) fn socket_resumed(
        &mut self,
        handle: u64,
        identity: Option<&Identity>,
        Moves { joined, left }: Moves,
    ) {
        let identity = identity.map(wire_identity);
        self.push(event(handle, Kind::Resumed(SocketResumed { identity, joined, left }.into())));
    }

    pub(crate) fn socket_refreshed(&mut self, handle: u64, identity: &Identity) {
        if self.refreshes {
            let identity = Some(wire_identity(identity));
            self.push(event(handle, Kind::Refreshed(SocketRefreshed { identity }.into())));
        }
    }

    pub(crate) fn catch_up(&mut self, handle: u64, catch_up: CatchUp) {
        self.push(event(handle, Kind::CatchUp(catch_up)));
    }

    pub(crate) fn report_delivery(&mut self, report: Delivered) {
        self.push(event(0, Kind::Delivered(report)));
    }

    /// The client waits for it from `now` on, and so long.
    pub(crate) fn client_event(
        &mut self,
        handle: u64,
        traceparent: String,
        event: ClientEvent,
        (now, timeout): (Instant, Duration),
    ) {
        let received_ms = self.clock.ms(now);
        let deadline_ms = received_ms.saturating_add(millis(timeout));
        let id = self.event_names.next();
        let event = ClientEvent { id, received_ms, deadline_ms, ..event };
        self.push(EdgeEvent { socket: handle, traceparent, kind: Some(Kind::Event(event)) });
    }

    pub(crate) fn client_answered(
        &mut self,
        handle: u64,
        tag: u64,
        args: &str,
        attachments: &[Bytes],
    ) {
        let ack = ClientAck { tag, args: json_list(args), attachments: attachments.to_vec() };
        self.push(event(handle, Kind::Ack(ack)));
    }

    pub(crate) fn ack_finished(&mut self, tag: u64, asked: u32, answered: u32) {
        self.push(event(0, Kind::AckFinished(AckFinished { tag, asked, answered })));
    }

    pub(crate) fn all_announced(&mut self) {
        self.push(event(0, Kind::AllAnnounced(AllAnnounced {})));
    }

    fn push(&mut self, event: EdgeEvent) {
        let bytes = event_bytes(&event);
        self.queued_bytes += bytes;
        self.held.add(&event);
        self.metrics.link_queue_bytes.increment(as_f64(bytes));
        self.queued.push_back(event);
        self.wake.notify_one();
    }

    /// The sockets of which something has not been acknowledged. Once it is, every instruction that stems from before has
    /// been carried out.
    pub(crate) fn unacknowledged_sockets(&self) -> impl Iterator<Item = u64> {
        let sent = self.unacknowledged.iter().flat_map(|one| &one.frame.events);
        sent.chain(&self.queued).map(|event| event.socket)
    }

    // The stream.

    /// The first frame of a stream.
    pub(crate) fn hello(&self, now: Instant) -> Encoded<EdgeFrame> {
        let hello = Hello {
            edge_id: self.edge_id.as_ref().to_owned(),
            link_id: self.link_id.clone(),
            backend_id: self.backend_id.clone(),
            received: self.received,
            namespaces: self.namespaces.clone(),
        };
        Encoded::from(&EdgeFrame { hello: Some(hello), ..self.unnumbered(now) })
    }

    fn unnumbered(&self, now: Instant) -> EdgeFrame {
        EdgeFrame { ack: self.received, sent_ms: self.clock.ms(now), ..EdgeFrame::default() }
    }

    /// The stream is up and the business service has everything up to `welcome.received`. It has not handled all of that yet.
    pub(crate) fn resumed(&mut self, welcome: &Welcome) -> Result<(), SequenceError> {
        self.check_ack(welcome.received)?;
        self.attach(welcome);
        let frames = self.unacknowledged.iter().map(|one| one.frame.seq);
        self.handed_out = frames.take_while(|seq| *seq <= welcome.received).count();
        Ok(())
    }

    fn attach(&mut self, welcome: &Welcome) {
        welcome.backend_id.clone_into(&mut self.backend_id);
        self.handed_out = 0;
        self.attached = true;
        self.rooms_on_close = welcome.rooms_on_close;
        self.volatile_events.clone_from(&welcome.volatile_events);
        self.refills = welcome.refills;
        self.refreshes = welcome.refreshes;
        self.metrics.links_up.increment(1.0);
    }

    pub(crate) fn detached(&mut self) {
        if std::mem::take(&mut self.attached) {
            self.metrics.links_up.decrement(1.0);
        }
    }

    /// Whether [`next_frame`](Self::next_frame) has one.
    pub(crate) fn has_frame(&self) -> bool {
        self.handed_out < self.unacknowledged.len() || !self.queued.is_empty() || self.acknowledge
    }

    /// The next frame for the stream: one that was sent before a break, or all that waits, up to a frame's bounds, or an
    /// acknowledgement alone.
    pub(crate) fn next_frame(&mut self, now: Instant) -> Encoded<EdgeFrame> {
        if self.handed_out == self.unacknowledged.len() {
            self.fill_frame();
        }
        self.acknowledge = false;
        self.acknowledged = self.received;
        self.received_bytes = 0;
        let unnumbered = self.unnumbered(now);
        let Some(next) = self.unacknowledged.get(self.handed_out) else {
            return Encoded::from(&unnumbered);
        };
        self.handed_out += 1;
        Encoded::appended(next.frame.encode_to_vec(), &unnumbered)
    }

    fn fill_frame(&mut self) {
        let mut events = Vec::new();
        let mut bytes = 0;
        while let Some(event) = self.queued.front() {
            let next = event_bytes(event);
            if events.len() == FRAME_EVENTS_MAX || (bytes > 0 && bytes + next > FRAME_BYTES_MAX) {
                break;
            }
            bytes += next;
            events.extend(self.queued.pop_front());
        }
        if events.is_empty() {
            return;
        }
        self.queued_bytes -= bytes;
        self.unacknowledged_bytes += bytes;
        self.last_seq += 1;
        let last_event = events.iter().rev().find_map(number_of);
        let before = self.unacknowledged.back().map_or(0, |one| one.last_event);
        let last_event = last_event.unwrap_or(before);
        let frame = EdgeFrame { seq: self.last_seq, events, ..EdgeFrame::default() };
        self.unacknowledged.push_back(Unacknowledged { frame, bytes, last_event });
    }

    /// Forgets the frames that the business service has handled.
    pub(crate) fn handle_ack(&mut self, ack: u64) -> Result<(), SequenceError> {
        self.check_ack(ack)?;
        while self.unacknowledged.front().is_some_and(|one| one.frame.seq <= ack) {
            let Some(done) = self.unacknowledged.pop_front() else { break };
            self.unacknowledged_bytes -= done.bytes;
            done.frame.events.iter().for_each(|event| self.held.take(event));
            self.metrics.link_queue_bytes.decrement(as_f64(done.bytes));
            self.handed_out = self.handed_out.saturating_sub(1);
        }
        Ok(())
    }

    fn check_ack(&self, ack: u64) -> Result<(), SequenceError> {
        if ack > self.last_seq {
            return Err(SequenceError::AcknowledgesUnsent { found: ack, last: self.last_seq });
        }
        Ok(())
    }

    /// Whether the instructions of frame `seq` are still to be carried out; an error if one before it is missing.
    pub(crate) fn accept_frame(&mut self, seq: u64, bytes: usize) -> Result<bool, SequenceError> {
        if seq <= self.received {
            return Ok(false);
        }
        if seq != self.received + 1 {
            return Err(SequenceError::Hole { expected: self.received + 1, found: seq });
        }
        self.received = seq;
        self.received_bytes += bytes;
        if self.received - self.acknowledged >= UNACKNOWLEDGED_FRAMES_MAX
            || self.received_bytes >= UNACKNOWLEDGED_BYTES_MAX
        {
            self.acknowledge = true;
        }
        Ok(true)
    }

    /// Acknowledges what has been carried out since the last time, if anything.
    pub(crate) fn acknowledge_now(&mut self) {
        if self.attached && self.received > self.acknowledged {
            self.acknowledge = true;
            self.wake.notify_one();
        }
    }
}
