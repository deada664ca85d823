//! Carries out an emit: encodes once for each wire format, writes the same bytes to every socket of the audience.

mod burst;
mod marks;

use std::{
    borrow::Cow,
    time::{Duration, Instant},
};

use bytes::Bytes;
use edge_protocol::{
    engine_io::v3::BinaryForm,
    plain_json,
    socket_io::{self, EncodeError},
};
use proto::edge::v1::{AckRequest, Audience, Emit};
use service_kit::trace::{Span, SpanKind, TraceParent};
use smallvec::SmallVec;

pub(crate) use self::marks::Marks;
use super::{
    ConnectionKey, LinkKey, NamespaceKey, Shard, SocketKey, Wire, acks::ServerAck, rooms::RoomKey,
};
use crate::{
    backend_link::EmitCount,
    close_reason::CloseReason,
    connection::{Class, Pace, Sent},
    socket::Stage,
    telemetry,
};

/// How long clients may take to acknowledge, unless the business service says otherwise, and at most.
const ASK_TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);
const ASK_TIMEOUT_MAX: Duration = Duration::from_secs(60);

/// One event in each wire format that somebody in the audience speaks, made when the first of them comes up.
struct Encoded<'a> {
    namespace: &'a str,
    emit: &'a Emit,
    ack_id: Option<u64>,
    class: Class,
    /// The room whose log has it, where it can be had again.
    log: Option<RoomKey>,
    /// For clients that recover their connections.
    offset: Option<String>,
    /// What stands behind that, for those who have been given all that the link has brought.
    delivered: Option<EmitCount>,
    /// It is to be kept for those of them that miss it.
    is_kept: bool,
    /// What tells it from others, while a socket may have been given it elsewhere.
    fingerprint: Option<u64>,
    socket_io: Option<Bytes>,
    /// The same for clients that are behind.
    behind: Option<Bytes>,
    /// With bytes, as Engine.IO 3 has them.
    older: [Option<Bytes>; 2],
    plain_json: Option<Bytes>,
}

impl<'a> Encoded<'a> {
    fn new(namespace: &'a str, emit: &'a Emit, class: Class) -> Self {
        Self {
            namespace,
            emit,
            ack_id: None,
            class,
            log: None,
            offset: None,
            delivered: None,
            is_kept: false,
            fingerprint: None,
            socket_io: None,
            behind: None,
            older: [None, None],
            plain_json: None,
        }
    }

    fn socket_io(&mut self) -> Result<&Bytes, EncodeError> {
        if self.socket_io.is_none() {
            self.socket_io = Some(self.encode_socket_io(self.delivered)?);
        }
        self.socket_io.as_ref().ok_or(EncodeError::NotAnArray)
    }

    /// For a client that is behind. It has not been given all that the link has brought, and must not say so later.
    fn socket_io_behind(&mut self) -> Result<&Bytes, EncodeError> {
        if self.delivered.is_none() {
            return self.socket_io();
        }
        if self.behind.is_none() {
            self.behind = Some(self.encode_socket_io(None)?);
        }
        self.behind.as_ref().ok_or(EncodeError::NotAnArray)
    }

    fn encode_socket_io(&self, delivered: Option<EmitCount>) -> Result<Bytes, EncodeError> {
        let Emit { event, args, attachments, .. } = self.emit;
        let namespace = self.namespace;
        let frames = match (&self.offset, delivered.map(EmitCount::to_suffix)) {
            (Some(offset), suffix) => {
                let offset = match suffix {
                    Some(suffix) => Cow::Owned(format!("{offset}{suffix}")),
                    None => Cow::Borrowed(&**offset),
                };
                socket_io::encode_recoverable_event_frames(
                    namespace,
                    event,
                    args,
                    &offset,
                    attachments,
                )
            }
            (None, _) => {
                socket_io::encode_event_frames(namespace, event, args, self.ack_id, attachments)
            }
        }?;
        Ok(frames.into())
    }

    /// Only bytes differ for older clients.
    fn socket_io_2(&mut self, form: BinaryForm) -> Result<&Bytes, EncodeError> {
        if self.emit.attachments.is_empty() {
            return self.socket_io();
        }
        self.socket_io()?;
        let [bytes, base64] = &mut self.older;
        let older = match form {
            BinaryForm::Bytes => bytes,
            BinaryForm::Base64 => base64,
        };
        if older.is_none() {
            let rewritten = self.socket_io.as_ref().map(|frames| form.rewrite(frames));
            *older = rewritten.and_then(Result::ok).map(Bytes::from);
        }
        older.as_ref().ok_or(EncodeError::NotAnArray)
    }

    fn plain_json(&mut self) -> Result<&Bytes, EncodeError> {
        if self.plain_json.is_none() {
            let Emit { event, args, attachments, .. } = self.emit;
            let frames = plain_json::encode_event_frames(event, args, self.ack_id, attachments)?;
            self.plain_json = Some(frames.into());
        }
        self.plain_json.as_ref().ok_or(EncodeError::NotAnArray)
    }
}

/// An emit, and where it belongs.
#[derive(Clone, Copy)]
struct Delivery<'a> {
    link: LinkKey,
    namespace: NamespaceKey,
    audience: &'a Audience,
    emit: &'a Emit,
    ack_id: Option<u64>,
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
        Encoded {
            ack_id,
            log,
            is_kept: offset.is_some() && !emit.volatile,
            delivered: offset.as_ref().and_then(|_| self.delivered_to(namespace)),
            offset,
            fingerprint: self.recovery.double_of(emit),
            ..Encoded::new(&audience.namespace, emit, class)
        }
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

        for socket in all {
            if (simple || marks.first(socket))
                && self.write(socket, &mut encoded, &mut outcome).is_err()
            {
                outcome.is_unencodable = true;
                break;
            }
        }
        self.marks = marks;
        outcome
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
        let mut encoded = Encoded {
            offset: self.recovery.last_offset(namespace),
            fingerprint: self.recovery.double_of(emit),
            ..Encoded::new(&path, emit, Class::Refillable)
        };
        let mut outcome = Outcome::default();
        self.write(key, &mut encoded, &mut outcome)?;
        Ok(outcome)
    }

    fn write(
        &self,
        key: SocketKey,
        encoded: &mut Encoded<'_>,
        outcome: &mut Outcome,
    ) -> Result<(), EncodeError> {
        let Some(socket) = self.sockets.get(key.index()) else { return Ok(()) };
        if encoded.is_kept && outcome.kept.is_none() && socket.recoverable.is_some() {
            outcome.kept = Some(encoded.socket_io()?.clone());
        }
        let is_double = encoded.fingerprint.is_some_and(|fingerprint| {
            socket.recoverable.as_ref().is_some_and(|one| one.has_got(fingerprint))
        });
        if is_double || !matches!(socket.stage, Stage::Live) {
            return Ok(());
        }
        let entry = self.connections.get(socket.connection.index as usize);
        let entry = entry.filter(|entry| entry.serial == socket.connection.serial);
        let Some(entry) = entry else { return Ok(()) };
        if let Some(room) = encoded.log
            && entry.connection.pace() != Pace::Even
            && self.rooms.is_lagging(room, key)
        {
            outcome.collapsed += 1;
            return Ok(());
        }
        let Encoded { class, log, emit: Emit { uncompressed, .. }, ack_id, .. } = *encoded;
        let frame = match &entry.wire {
            Wire::SocketIo(_) if entry.connection.pace() == Pace::Even => encoded.socket_io()?,
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
