//! What plain JSON clients send: requests, answers, and what is neither, which is answered as well.

use std::time::Instant;

use bytes::Bytes;
use edge_protocol::plain_json::{Answer, DecodeMessageError, Message, Refusal, Request};

use super::{
    ConnectionKey, ConnectionLimit, Flow, Shard, SocketKey,
    inbound::Event,
    rate::Allowance,
    wire::{JsonSession, JsonStage, Wire},
};
use crate::{close_reason::CloseReason, error_answer::ErrorAnswer};

impl Shard {
    pub(super) fn receive_json(&mut self, key: ConnectionKey, text: &str, now: Instant) -> Flow {
        let bounds = self.message_bounds(key);
        let Some(session) = self.json_session(key) else { return Flow::Closed };
        let stage = session.stage;
        let received = session.assembler.text(text, bounds);
        if !session.assembler.is_idle() {
            self.assembling(key, now);
        }
        match (received, stage) {
            (Ok(message), JsonStage::Live(socket)) => self.handle_json(key, socket, message, now),
            (Ok(message), _) => self.json_auth_requested(key, &first_request(message)),
            (Err(refusal), _) => self.refuse_json(key, &refusal, now),
        }
    }

    /// A binary frame is the attachment that a message has announced, or else JSON, as with NestJS's adapter.
    pub(super) fn receive_json_binary(
        &mut self,
        key: ConnectionKey,
        bytes: &[u8],
        now: Instant,
    ) -> Flow {
        let Some(session) = self.json_session(key) else { return Flow::Closed };
        if session.assembler.is_idle()
            && let Ok(text) = str::from_utf8(bytes)
        {
            return self.receive_json(key, text, now);
        }
        let stage = session.stage;
        let received = session.assembler.binary(Bytes::copy_from_slice(bytes));
        if session.assembler.is_idle()
            && let Some(entry) = self.entry(key)
        {
            entry.assembling_since = None;
        }
        match (received, stage) {
            (Ok(Some(message)), JsonStage::Live(socket)) => {
                self.handle_json(key, socket, message.message(), now)
            }
            // Skipped, or not the last.
            (Ok(_), _) => Flow::Continue,
            (Err(refusal), _) => self.refuse_json(key, &refusal, now),
        }
    }

    fn handle_json(
        &mut self,
        key: ConnectionKey,
        socket: SocketKey,
        message: Message<'_>,
        now: Instant,
    ) -> Flow {
        match message {
            Message::Request(Request { event, data, id, attachments }) => {
                let ack_id = id.and_then(|_| self.next_json_ack_id(key));
                let args = data.unwrap_or_default();
                let event = Event { socket, name: &event, args, ack_id, json_id: id, attachments };
                self.event(key, &event, now)
            }
            Message::Answer(Answer { id, arg, attachments }) => {
                let namespace = self.sockets.get(socket.index()).map(|socket| socket.namespace);
                self.client_answered(socket, id, &arg, attachments);
                namespace.map_or(Flow::Continue, |namespace| self.wait_for_room(key, namespace))
            }
            Message::Incomplete { .. } => Flow::Continue,
        }
    }

    fn next_json_ack_id(&mut self, key: ConnectionKey) -> Option<u64> {
        let session = self.json_session(key)?;
        session.next_ack_id += 1;
        Some(session.next_ack_id)
    }

    /// Says what is wrong with a message, under its `id` where that could be read. It counts as an event: a client that
    /// sends nothing else is not free of limits.
    fn refuse_json(&mut self, key: ConnectionKey, refusal: &Refusal<'_>, now: Instant) -> Flow {
        if refusal.error == DecodeMessageError::TooDeep {
            self.common.metrics.limit_hits.json_depth.increment(1);
            self.audit_limit(key, ConnectionLimit::JsonDepth);
        }
        let answer = match self.take_allowance(key, now) {
            Allowance::Granted => ErrorAnswer::bad_request(refusal.error),
            Allowance::Refused { retry_after } => {
                self.audit_limit(key, ConnectionLimit::Events);
                self.common.metrics.drops.rate_limited.increment(1);
                ErrorAnswer::rate_limited(retry_after)
            }
            Allowance::Exhausted => return self.closed(key, CloseReason::RateLimited),
        };
        self.answer_json(key, refusal.id.as_deref().map(str::as_bytes), &answer);
        match refusal.error {
            DecodeMessageError::BadAttachmentCount | DecodeMessageError::AttachmentMissing => {
                self.closed(key, CloseReason::MalformedPacket)
            }
            DecodeMessageError::TooLarge => self.closed(key, CloseReason::PayloadTooLarge),
            DecodeMessageError::NotJson
            | DecodeMessageError::NotAnObject
            | DecodeMessageError::MissingEvent
            | DecodeMessageError::BadEvent
            | DecodeMessageError::EventTooLong
            | DecodeMessageError::BadId
            | DecodeMessageError::IdTooLong
            | DecodeMessageError::TooDeep
            | DecodeMessageError::BadPlaceholder
            | DecodeMessageError::AttachmentUnexpected => self.flow(key),
        }
    }

    /// Ends a connection whose attachments have not come in time.
    pub(super) fn attachments_overdue(&mut self, key: ConnectionKey) {
        let refusal = self.json_session(key).and_then(|session| session.assembler.give_up());
        match refusal {
            Some(refusal) => drop(self.refuse_json(key, &refusal, Instant::now())),
            None => self.close(key, CloseReason::MalformedPacket),
        }
    }

    fn json_session(&mut self, key: ConnectionKey) -> Option<&mut JsonSession> {
        match &mut self.entry(key)?.wire {
            Wire::PlainJson(session) => Some(session),
            Wire::SocketIo(_) | Wire::SocketIo2(_) => None,
        }
    }
}

/// A client that is not in yet says who it is and nothing else, so all else is a request without a token.
fn first_request(message: Message<'_>) -> Request<'_> {
    let id = match message {
        Message::Request(request) => return request,
        Message::Answer(_) => None,
        Message::Incomplete { id } => id,
    };
    Request { event: "".into(), data: None, id, attachments: &[] }
}
