//! Carries out an emit: encodes once for each wire format, writes the same bytes to every socket of the audience.

mod burst;
mod encoded;
mod marks;

use std::time::{Duration, Instant};

use bytes::Bytes;
use edge_protocol::socket_io::EncodeError;
use proto::edge::v1::{AckRequest, Audience, Emit};
use service_kit::trace::{Span, SpanKind, TraceParent};
use smallvec::SmallVec;

use self::encoded::Encoded;
pub(crate) use self::marks::Marks;
use super::{
    ConnectionKey, Entry, LinkKey, NamespaceKey, Shard, SocketKey, Wire, acks::ServerAck,
    rooms::RoomKey,
};
use crate::{
    backend_link::EmitCount,
    close_reason::CloseReason,
    connection::{Class, Pace, Sent},
    socket::{Socket, Stage},
    telemetry,
};

/// How long clients may take to acknowledge, unless the business service says otherwise, and at most.
const ASK_TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);
const ASK_TIMEOUT_MAX: Duration = Duration::from_secs(60);

/// How many recipients are looked up before the first of them is written to. Of many connections hardly one is in the
/// processor's caches; what is looked up in a row is fetched from memory at the same time.
const LOOKED_UP_MAX: usize = 16;

/// An emit, and where it belongs.
#[derive(Clone, Copy)]
struct Delivery<'a> {
    link: LinkKey,
    namespace: NamespaceKey,
    audience: &'a Audience,
    emit: &'a Emit,
    ack_id: Option<u64>,
}

/// A socket that gets an event.
struct Recipient<'a> {
    key: SocketKey,
    socket: &'a Socket,
    /// Its connection, and how that stands; none for one that is not there.
    connected: Option<(&'a Entry, Pace)>,
}

/// What came of one fan-out.
#[derive(Default)]
pub(super) struct Outcome {
    pub(super) recipients: u32,
    dropped: u64,
    /// For how many it was left out.
    collapsed: u64,
    /// Those for whom something was left out for the first time in this room.
    pub(super) behind: SmallVec<[SocketKey; 8]>,
    pub(super) overflowed: SmallVec<[ConnectionKey; 8]>,
    asked: SmallVec<[SocketKey; 4]>,
    /// Its frames, where one of the recipients may come back for it.
    kept: Option<Bytes>,
    /// It cannot be put into a frame of everyone's wire format.
    is_unencodable: bool,
}

impl Shard {
    pub(crate) fn emit(&mut self, link: LinkKey, traceparent: &str, emit: &Emit) {
        let audience = emit.audience.as_ref();
        let namespace = audience.and_then(|audience| self.namespace(&audience.namespace));
        let (Some(audience), Some(namespace)) = (audience, namespace) else {
            // Whoever waits for answers is told that nobody was asked.
            if let Some(ask) = &emit.ask {
                self.asked_nobody(link, ask, 0);
            }
            return self.bad_instruction("emit to no namespace that has a route");
        };
        if self.is_spared(emit) {
            if let Some(ask) = &emit.ask {
                self.asked_nobody(link, ask, 0);
            }
            return self.common.metrics.drops.memory.increment(1);
        }
        let ack_id = self.ack_id_of(emit);
        let delivery = Delivery { link, namespace, audience, emit, ack_id };
        let span = self.deliver_span(traceparent);
        let outcome = self.deliver(&delivery);
        self.conclude(&delivery, outcome, span);
    }

    /// Whether an emit is not carried out, as it may be lost and there is little memory.
    fn is_spared(&self, emit: &Emit) -> bool {
        emit.volatile && emit.position.is_empty() && self.limits.overload.is_short_of_memory()
    }

    fn deliver_span(&self, traceparent: &str) -> Option<Span> {
        let parent = TraceParent::parse(traceparent);
        self.tracer.follow(telemetry::SPAN_DELIVER, SpanKind::Producer, parent)
    }

    /// Sees to what came of an emit.
    fn conclude(&mut self, delivery: &Delivery<'_>, outcome: Outcome, mut span: Option<Span>) {
        let Delivery { link, namespace, audience, emit, ack_id } = *delivery;
        if outcome.is_unencodable {
            self.bad_instruction("emit whose args are no JSON list, or with too many attachments");
        }
        for socket in outcome.behind {
            self.fall_behind(namespace, &emit.position_room, socket);
        }
        if let Some(frames) = outcome.kept {
            self.keep_for_recovery(namespace, emit, frames);
        }
        if !emit.position.is_empty() {
            self.advance(namespace, audience, emit);
        }
        self.common.metrics.deliveries.increment(u64::from(outcome.recipients));
        self.common.metrics.drops.volatile.increment(outcome.dropped);
        self.common.metrics.lag.collapsed.increment(outcome.collapsed);
        if let Some(span) = &mut span {
            span.set("messaging.system", "sockeye");
            span.set("messaging.operation.type", "send");
            span.set("messaging.operation.name", "deliver");
            span.set("messaging.destination.name", audience.namespace.clone());
            span.set("sockeye.event", emit.event.clone());
            span.set("sockeye.recipients", i64::from(outcome.recipients));
        }
        match (ack_id, &emit.ask) {
            (Some(ack_id), Some(ask)) => {
                let deadline = Instant::now() + ask_timeout(ask);
                self.ask(ack_id, ServerAck::new(link, ask.tag, outcome.asked, deadline));
            }
            (None, Some(ask)) => self.asked_nobody(link, ask, outcome.recipients),
            (_, None) => {}
        }
        for connection in outcome.overflowed {
            self.close(connection, CloseReason::SlowConsumer);
        }
    }

    /// Notes how far the audience has been given the log.
    fn advance(&mut self, namespace: NamespaceKey, audience: &Audience, emit: &Emit) {
        let Emit { position_room: room, position, .. } = emit;
        if audience.sockets.is_empty() {
            self.rooms.advance(namespace, room, position);
            self.note_given(namespace, room);
        }
        for handle in &audience.sockets {
            if let Some(socket) = self.socket_by_handle(*handle) {
                self.rooms.advance_one(namespace, room, socket, position);
                self.note_given_to(socket);
            }
        }
    }

    fn encoded<'a>(
        &self,
        &Delivery { namespace, audience, emit, ack_id, .. }: &Delivery<'a>,
    ) -> Encoded<'a> {
        let log = self.log_of(namespace, emit);
        let class = match log {
            _ if emit.volatile => Class::Volatile,
            Some(_) => Class::Refillable,
            None => Class::Required,
        };
        let offset = self.recovery.offset_of(namespace, emit);
        let mut encoded = Encoded::new(&audience.namespace, emit, class);
        encoded.ack_id = ack_id;
        encoded.log = log;
        encoded.is_kept = offset.is_some() && !emit.volatile;
        encoded.delivered = offset.as_ref().and_then(|_| self.delivered_to(namespace));
        encoded.offset = offset;
        encoded.fingerprint = self.recovery.double_of(emit);
        encoded
    }

    fn deliver(&mut self, delivery: &Delivery<'_>) -> Outcome {
        let Delivery { namespace, audience, .. } = *delivery;
        let mut outcome = Outcome::default();
        let mut encoded = self.encoded(delivery);
        // Without exceptions and overlaps, as with most emits, there is nothing to note.
        let simple = audience.except_rooms.is_empty()
            && audience.except_sockets.is_empty()
            && audience.except_users.is_empty()
            && usize::from(audience.everyone)
                + audience.rooms.len()
                + audience.users.len()
                + audience.sockets.len()
                == 1;
        let mut marks = std::mem::take(&mut self.marks);
        if !simple {
            marks.begin(self.sockets.capacity());
            self.mark_exceptions(namespace, audience, &mut marks);
        }
        let is_in = |key: &SocketKey| {
            let socket = self.sockets.get(key.index());
            socket.is_some_and(|one| one.stage.is_in() && one.namespace == namespace)
        };
        let sockets = audience.sockets.iter().filter_map(|handle| self.socket_by_handle(*handle));
        let sockets = sockets.filter(is_in);
        let tenant = &*audience.tenant;
        let everyone = if audience.everyone { self.rooms.everyone(namespace, tenant) } else { &[] };
        let rooms = audience.rooms.iter().flat_map(|room| self.rooms.in_room(namespace, room));
        let users = self.users_of(namespace, audience);
        let all = everyone.iter().chain(rooms).copied().chain(users).chain(sockets);

        let all = all.filter(|socket| simple || marks.first(*socket));
        outcome.is_unencodable = self.write_all(all, &mut encoded, &mut outcome).is_err();
        self.marks = marks;
        outcome
    }

    /// Writes to some sockets, which are looked up in groups.
    fn write_all(
        &self,
        sockets: impl Iterator<Item = SocketKey>,
        encoded: &mut Encoded<'_>,
        outcome: &mut Outcome,
    ) -> Result<(), EncodeError> {
        let mut sockets = sockets.peekable();
        while sockets.peek().is_some() {
            let group = sockets.by_ref().take(LOOKED_UP_MAX).filter_map(|key| self.recipient(key));
            for recipient in group.collect::<SmallVec<[_; LOOKED_UP_MAX]>>() {
                self.write(&recipient, encoded, outcome)?;
            }
        }
        Ok(())
    }

    /// How far the link of a namespace has been brought, where its business service can bring sockets back.
    fn delivered_to(&self, namespace: NamespaceKey) -> Option<EmitCount> {
        let link = self.namespaces.get(namespace.index())?.link;
        self.links.get(link.0)?.delivered()
    }

    /// The room whose log can give an event again.
    fn log_of(&self, namespace: NamespaceKey, emit: &Emit) -> Option<RoomKey> {
        if emit.position.is_empty() || emit.ask.is_some() {
            return None;
        }
        let link = self.namespaces.get(namespace.index())?.link;
        self.links.get(link.0).filter(|link| link.refills())?;
        self.rooms.key_of(namespace, &emit.position_room)
    }

    /// Sends a socket an event that its room's log has given again. It is kept already for who may come back.
    pub(super) fn write_again(
        &self,
        key: SocketKey,
        namespace: NamespaceKey,
        emit: &Emit,
    ) -> Result<Outcome, EncodeError> {
        let path = self.path_of(namespace);
        let mut encoded = Encoded::new(&path, emit, Class::Refillable);
        encoded.offset = self.recovery.last_offset(namespace);
        encoded.fingerprint = self.recovery.double_of(emit);
        let mut outcome = Outcome::default();
        if let Some(recipient) = self.recipient(key) {
            self.write(&recipient, &mut encoded, &mut outcome)?;
        }
        Ok(outcome)
    }

    fn recipient(&self, key: SocketKey) -> Option<Recipient<'_>> {
        let socket = self.sockets.get(key.index())?;
        let connection = || {
            let entry = self.connections.get(socket.connection.index as usize)?;
            let is_its = entry.serial == socket.connection.serial;
            is_its.then(|| (entry, entry.connection.pace()))
        };
        let connected = matches!(socket.stage, Stage::Live).then(connection).flatten();
        Some(Recipient { key, socket, connected })
    }

    fn write(
        &self,
        &Recipient { key, socket, connected }: &Recipient<'_>,
        encoded: &mut Encoded<'_>,
        outcome: &mut Outcome,
    ) -> Result<(), EncodeError> {
        if encoded.is_kept && outcome.kept.is_none() && socket.recoverable.is_some() {
            outcome.kept = Some(encoded.socket_io()?.clone());
        }
        let is_double = encoded.fingerprint.is_some_and(|fingerprint| {
            socket.recoverable.as_ref().is_some_and(|one| one.has_got(fingerprint))
        });
        let Some((entry, pace)) = connected.filter(|_| !is_double) else { return Ok(()) };
        if let Some(room) = encoded.log
            && pace != Pace::Even
            && self.rooms.is_lagging(room, key)
        {
            outcome.collapsed += 1;
            return Ok(());
        }
        let Encoded { class, log, emit: Emit { uncompressed, .. }, ack_id, .. } = *encoded;
        let frame = match &entry.wire {
            Wire::SocketIo(_) if pace == Pace::Even => encoded.socket_io()?,
            Wire::SocketIo(_) => encoded.socket_io_behind()?,
            Wire::SocketIo2(client) => encoded.socket_io_2(client.handshake.binary_form)?,
            Wire::PlainJson(_) => encoded.plain_json()?,
        };
        let send = |class| {
            if *uncompressed {
                entry.connection.send_uncompressed(frame, class)
            } else {
                entry.connection.send(frame, class)
            }
        };
        let mut sent = send(class);
        if sent == Sent::Collapsed && log.is_some_and(|room| !self.rooms.may_lag(room, key)) {
            sent = send(Class::Required);
        }
        match sent {
            Sent::Accepted => {
                outcome.recipients += 1;
                if ack_id.is_some() {
                    outcome.asked.push(key);
                }
            }
            Sent::Dropped => outcome.dropped += 1,
            Sent::Collapsed => {
                outcome.collapsed += 1;
                outcome.behind.push(key);
            }
            Sent::Overflow => outcome.overflowed.push(socket.connection),
        }
        Ok(())
    }

    /// A business service asks for what cannot be: count it and say so, and go on with the rest.
    pub(crate) fn bad_instruction(&self, problem: &'static str) {
        self.common.metrics.drops.bad_instruction.increment(1);
        tracing::warn!(problem, "instruction ignored");
    }
}

fn ask_timeout(ask: &AckRequest) -> Duration {
    match ask.timeout_ms {
        0 => ASK_TIMEOUT_DEFAULT,
        millis => Duration::from_millis(millis.into()).min(ASK_TIMEOUT_MAX),
    }
}
