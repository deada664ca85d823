//! What clients send: decoded, checked against their limits, and passed on to their business service.

use std::time::Instant;

use bytes::Bytes;
use edge_protocol::{
    engine_io::{self, Received, v3},
    socket_io::{Action, AssembleError, DecodePacketError, Packet},
    websocket::{Message, Opcode, put_pong},
};
use proto::edge::v1::{ClientEvent, EdgeEvent, edge_event::Kind};
use service_kit::trace::{SpanKind, traceparent_of};

use super::{
    ConnectionKey, ConnectionLimit, Flow, NamespaceKey, Shard, SocketKey, Wire, acks::ClientAck,
    rate::Allowance,
};
use crate::{
    application::Application,
    backend_link::{Reception, json_list},
    close_reason::CloseReason,
    error_answer::ErrorAnswer,
    telemetry,
};

/// An event as a client sent it.
pub(super) struct Event<'a> {
    pub(super) socket: SocketKey,
    pub(super) name: &'a str,
    /// The elements of a JSON list.
    pub(super) args: &'a str,
    pub(super) ack_id: Option<u64>,
    /// What a plain JSON client calls its request: JSON text.
    pub(super) json_id: Option<&'a str>,
    pub(super) attachments: &'a [Bytes],
}

impl Shard {
    /// Handles one message of a client, which has come `now` or a moment before.
    pub(crate) fn receive(
        &mut self,
        key: ConnectionKey,
        message: Message<'_>,
        now: Instant,
    ) -> Flow {
        match message {
            Message::Text(text) => self.receive_text(key, text, now),
            Message::Binary(bytes) => self.receive_binary(key, bytes, now),
            Message::Ping(payload) => {
                let mut pong = Vec::with_capacity(payload.len() + 2);
                put_pong(&mut pong, payload);
                self.send_control(key, &pong);
                self.flow(key)
            }
            Message::Pong(_) => {
                match self.entry(key).map(|entry| &entry.wire) {
                    Some(Wire::PlainJson(_)) => self.pong_received(key, now),
                    Some(Wire::SocketIo2(_)) => drop(self.is_confirmation(key)),
                    Some(Wire::SocketIo(_)) | None => {}
                }
                self.flow(key)
            }
            Message::Close(_) => self.closed(key, CloseReason::ClosedByClient),
        }
    }

    fn receive_text(&mut self, key: ConnectionKey, text: &str, now: Instant) -> Flow {
        match self.entry(key).map(|entry| &entry.wire) {
            Some(Wire::SocketIo(_)) => self.receive_engine_io(key, engine_io::receive(text), now),
            Some(Wire::SocketIo2(_)) => self.receive_engine_io_3(key, v3::receive(text), now),
            Some(Wire::PlainJson(_)) => match self.application {
                Application::Services => self.receive_json(key, text, now),
                Application::Echo => self.echo_frame(key, Opcode::Text, text.as_bytes()),
            },
            None => Flow::Closed,
        }
    }

    fn receive_binary(&mut self, key: ConnectionKey, bytes: &[u8], now: Instant) -> Flow {
        let application = self.application;
        match self.entry(key).map(|entry| &entry.wire) {
            Some(Wire::SocketIo(_)) => self.receive_bytes(key, Bytes::copy_from_slice(bytes), now),
            Some(Wire::SocketIo2(_)) => {
                self.receive_engine_io_3(key, v3::receive_binary(bytes), now)
            }
            Some(Wire::PlainJson(_)) if application == Application::Echo => {
                self.echo_frame(key, Opcode::Binary, bytes)
            }
            Some(Wire::PlainJson(_)) => self.receive_json_binary(key, bytes, now),
            None => Flow::Closed,
        }
    }

    /// Handles an Engine.IO packet, from whichever transport.
    pub(crate) fn receive_engine_io(
        &mut self,
        key: ConnectionKey,
        received: Result<Received<'_>, engine_io::DecodePacketError>,
        now: Instant,
    ) -> Flow {
        match received {
            Ok(Received::Message(packet)) => match self.application {
                Application::Services => self.receive_socket_io(key, packet, now),
                Application::Echo => self.echo_packet(key, packet),
            },
            Ok(Received::Binary(base64)) => match base64.decode(self.payload_bytes_max(key)) {
                Ok(bytes) => self.receive_bytes(key, bytes, now),
                Err(_) => self.closed(key, CloseReason::MalformedPacket),
            },
            Ok(Received::Pong) => {
                self.pong_received(key, now);
                Flow::Continue
            }
            Ok(Received::Ignored) => Flow::Continue,
            Ok(Received::Closed) => self.closed(key, CloseReason::ClosedByClient),
            Err(_) => self.closed_untold(key),
        }
    }

    /// Closes a session whose client does not speak Engine.IO, and so is not told in it.
    pub(super) fn closed_untold(&mut self, key: ConnectionKey) -> Flow {
        let session = self.entry(key).and_then(|entry| entry.session);
        self.close(key, CloseReason::MalformedPacket);
        if let Some(session) = session {
            self.forget_session(session);
        }
        Flow::Closed
    }

    pub(super) fn receive_socket_io(
        &mut self,
        key: ConnectionKey,
        text: &str,
        now: Instant,
    ) -> Flow {
        let bounds = self.message_bounds(key);
        let Some(entry) = self.entry(key) else { return Flow::Closed };
        match entry.assembler.text(text, bounds) {
            Ok(packet) => {
                if !entry.assembler.is_idle() {
                    self.assembling(key, now);
                }
                self.handle_packet(key, packet, now)
            }
            Err(error) => {
                if error == AssembleError::Packet(DecodePacketError::TooDeep) {
                    self.common.metrics.limit_hits.json_depth.increment(1);
                }
                self.closed(key, reason_of(error))
            }
        }
    }

    /// Handles bytes that an Engine.IO packet has brought.
    pub(super) fn receive_bytes(&mut self, key: ConnectionKey, bytes: Bytes, now: Instant) -> Flow {
        match self.application {
            Application::Services => self.receive_attachment(key, bytes, now),
            Application::Echo => self.echo_frame(key, Opcode::Binary, &bytes),
        }
    }

    /// Adds an attachment to the packet that waits for it.
    fn receive_attachment(&mut self, key: ConnectionKey, attachment: Bytes, now: Instant) -> Flow {
        let Some(entry) = self.entry(key) else { return Flow::Closed };
        match entry.assembler.binary(attachment) {
            Ok(Some(packet)) => {
                entry.assembling_since = None;
                self.handle_packet(key, packet.packet(), now)
            }
            Ok(None) => Flow::Continue,
            Err(error) => self.closed(key, reason_of(error)),
        }
    }

    pub(super) fn handle_packet(
        &mut self,
        key: ConnectionKey,
        packet: Packet<'_>,
        now: Instant,
    ) -> Flow {
        if let Packet::Disconnect { namespace } = &packet
            && let Some(namespace) = self.namespace(namespace)
        {
            self.verifications.withdraw(key, namespace);
            self.recovery.claims.withdraw(key, namespace);
        }
        let Some(entry) = self.entry(key) else { return Flow::Closed };
        let Some(session) = entry.wire.session_mut() else { return Flow::Closed };
        let Ok(action) = session.handle(packet) else {
            return self.closed(key, CloseReason::ProtocolViolation);
        };
        match action {
            Action::Connect { namespace, auth } => match self.within_comings(key, namespace, now) {
                Ok(()) => self.connect_requested(key, namespace, auth),
                Err(flow) => flow,
            },
            Action::TooManyNamespaces { namespace } => {
                if let Err(flow) = self.within_comings(key, namespace, now) {
                    return flow;
                }
                self.common.metrics.limit_hits.namespaces.increment(1);
                self.audit_limit(key, ConnectionLimit::Namespaces);
                let data = Some(&b"{\"code\":\"namespace_limit\"}"[..]);
                let message = "Too many namespaces";
                self.send_connect_error(key, namespace, message, data);
                self.flow(key)
            }
            Action::Event { socket, ack_id, name, args, attachments } => {
                let event = Event { socket, name: &name, args, ack_id, json_id: None, attachments };
                self.event(key, &event, now)
            }
            Action::Ack { socket, ack_id, args, attachments } => {
                let namespace = self.sockets.get(socket.index()).map(|socket| socket.namespace);
                self.client_answered(socket, ack_id, args, attachments);
                namespace.map_or(Flow::Continue, |namespace| self.wait_for_room(key, namespace))
            }
            Action::Disconnect { socket } => {
                let namespace = self.sockets.get(socket.index()).map(|socket| socket.namespace);
                self.end_elsewhere(socket);
                self.remove_socket(socket, "client_disconnect");
                if self.take_allowance(key, now) == Allowance::Exhausted {
                    return self.closed(key, CloseReason::RateLimited);
                }
                namespace.map_or(Flow::Continue, |namespace| self.wait_for_room(key, namespace))
            }
            Action::Nothing => Flow::Continue,
        }
    }

    pub(super) fn event(&mut self, key: ConnectionKey, event: &Event<'_>, now: Instant) -> Flow {
        if let Err(flow) = self.within_limits(key, event, now) {
            return flow;
        }
        if self.is_refresh(event) {
            return self.refresh_requested(key, event);
        }
        let Some(socket) = self.sockets.get(event.socket.index()) else { return Flow::Continue };
        let (handle, namespace) = (socket.handle, socket.namespace);
        if let Err(retry_after) = self.admit_ack(handle, event.ack_id, now) {
            self.audit_limit(key, ConnectionLimit::Acks);
            return self.refuse(key, event, &ErrorAnswer::rate_limited(retry_after));
        }
        let is_short = self.limits.overload.is_short_of_memory();
        let reception = self.link_of(namespace).map(|link| link.receive(event.name, is_short));
        match reception {
            None => return Flow::Continue,
            Some(Reception::Taken) => {}
            Some(Reception::Dropped) if event.ack_id.is_none() => {
                let drops = &self.common.metrics.drops;
                if is_short { &drops.memory } else { &drops.volatile }.increment(1);
                return Flow::Continue;
            }
            Some(Reception::Dropped | Reception::Refused) => {
                self.common.metrics.drops.unavailable.increment(1);
                return self.refuse(key, event, &ErrorAnswer::unavailable());
            }
        }

        let mut span = self.tracer.start(telemetry::SPAN_RECEIVE, SpanKind::Server, None);
        if let (Some(span), Some(namespace)) = (&mut span, self.namespaces.get(namespace.index())) {
            span.set("messaging.system", "sockeye");
            span.set("messaging.operation.type", "receive");
            span.set("messaging.operation.name", "receive");
            span.set("messaging.destination.name", namespace.settings.path.clone());
            span.set("sockeye.event", event.name.to_owned());
        }

        self.common.metrics.events_received.increment(1);
        let timeout = self.limits.event_timeout;
        self.wait_for_answer(handle, event, now);
        let client_event = ClientEvent {
            name: event.name.to_owned(),
            args: json_list(event.args),
            ack_id: event.ack_id,
            attachments: event.attachments.to_vec(),
            ..ClientEvent::default()
        };
        let Some(link) = self.link_of(namespace) else { return Flow::Continue };
        link.client_event(handle, traceparent_of(span.as_ref()), client_event, (now, timeout));
        self.wait_for_room(key, namespace)
    }

    /// Has the client of an event wait for an answer, if it wants one.
    pub(super) fn wait_for_answer(&mut self, handle: u64, event: &Event<'_>, now: Instant) {
        if let Some(ack_id) = event.ack_id {
            let json_id = event.json_id.map(|id| id.as_bytes().into());
            let ack =
                ClientAck { asked_at: now, deadline: now + self.limits.event_timeout, json_id };
            self.client_acks.insert((handle, ack_id), ack);
        }
    }

    /// Whether a connection that has just sent something to a namespace's business service must wait for room there.
    pub(crate) fn wait_for_room(&mut self, key: ConnectionKey, namespace: NamespaceKey) -> Flow {
        match self.link_of(namespace) {
            Some(link) if link.is_full() => {
                link.wait_for_room(key);
                self.pause(key)
            }
            Some(_) | None => Flow::Continue,
        }
    }

    pub(super) fn refuse(
        &mut self,
        key: ConnectionKey,
        event: &Event<'_>,
        answer: &ErrorAnswer,
    ) -> Flow {
        let Some(handle) = self.sockets.get(event.socket.index()).map(|socket| socket.handle)
        else {
            return Flow::Continue;
        };
        match event.json_id {
            Some(id) => self.answer_json(key, Some(id.as_bytes()), answer),
            None => self.answer_socket(handle, event.ack_id, answer),
        }
        self.flow(key)
    }

    /// Answers the client of an event that is given up: as its ack, or as an `exception` where it asked for none.
    pub(crate) fn give_up(&mut self, event: &EdgeEvent) {
        let Some(Kind::Event(client_event)) = &event.kind else { return };
        let waits =
            client_event.ack_id.is_none_or(|id| self.client_acks.is_waiting((event.socket, id)));
        if waits {
            self.common.metrics.drops.unavailable.increment(1);
            self.answer_socket(event.socket, client_event.ack_id, &ErrorAnswer::unavailable());
        }
    }

    /// Gives up the events whose deadline has passed.
    pub(crate) fn expire_events(&mut self, now: Instant) {
        for link in 0..self.links.len() {
            let overdue = self.links.get_mut(link).map(|link| link.take_overdue(now));
            for event in overdue.unwrap_or_default() {
                self.give_up(&event);
            }
            self.resume_waiting(super::LinkKey(link));
        }
        while let Some((handle, ack_id)) = self.client_acks.overdue(now) {
            self.common.metrics.drops.unavailable.increment(1);
            self.answer_socket(handle, Some(ack_id), &ErrorAnswer::unavailable());
        }
    }

    /// Has the connections read again that waited for room on a link.
    pub(crate) fn resume_waiting(&mut self, link: super::LinkKey) {
        let waiting = self.links.get_mut(link.0).map(|link| link.take_waiting());
        for key in waiting.unwrap_or_default() {
            self.resume(key);
        }
    }

    pub(crate) fn closed(&mut self, key: ConnectionKey, reason: CloseReason) -> Flow {
        self.close(key, reason);
        Flow::Closed
    }

    /// A connection may have been closed by what was just done for it.
    pub(crate) fn flow(&mut self, key: ConnectionKey) -> Flow {
        if self.entry(key).is_some() { Flow::Continue } else { Flow::Closed }
    }
}

fn reason_of(error: AssembleError) -> CloseReason {
    match error {
        AssembleError::TooLarge => CloseReason::PayloadTooLarge,
        AssembleError::Packet(_)
        | AssembleError::AttachmentExpected
        | AssembleError::AttachmentUnexpected => CloseReason::MalformedPacket,
    }
}
