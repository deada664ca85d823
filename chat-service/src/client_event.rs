//! One event of a client, from its arrival to its answer.

use std::sync::Arc;

use bytes::Bytes;
use service_kit::trace::{Span, TraceParent};
use tokio::time::Instant;

use crate::{
    client_error::ClientError,
    client_view::{self, EXCEPTION},
    edge_link::{Audience, Emit, Ticket},
    room_log::EventName,
    socket::Socket,
    telemetry::{Metrics, Outcome},
};

/// An event being handled. Whatever it leads to goes into the ticket's instructions, its answer last, and is sent when it is
/// dropped.
#[derive(Debug)]
pub(crate) struct ClientEvent {
    pub(crate) socket: Arc<Socket>,
    pub(crate) ticket: Ticket,
    /// Present when the client waits for an answer.
    pub(crate) ack_id: Option<u64>,
    /// From then on the event must have no effect.
    pub(crate) deadline: Instant,
    /// What its edge calls it.
    pub(crate) name: Option<EventName>,
    /// Present if an earlier life of this service may have carried it out: since when, by our wall clock.
    pub(crate) repeated_since_ms: Option<u64>,
    /// `chat.handle`.
    pub(crate) span: Option<Span>,
}

impl ClientEvent {
    pub(crate) fn is_expired(&self, now: Instant) -> bool {
        now >= self.deadline
    }

    /// Where the spans of what it leads to belong.
    pub(crate) fn trace(&self) -> Option<TraceParent> {
        self.span.as_ref().map(Span::context)
    }

    /// Lets the event be without effect or answer: the edge has answered it already.
    pub(crate) fn expire(&mut self, metrics: &Metrics) {
        metrics.count(Outcome::Expired);
        self.fail("expired");
    }

    /// Answers that it was carried out. `args` is asked for what to say only when the client waits for it.
    pub(crate) fn answer(&mut self, metrics: &Metrics, args: impl FnOnce() -> Bytes) {
        metrics.count(Outcome::CarriedOut);
        if let Some(ack_id) = self.ack_id {
            self.ticket.instructions.acknowledge(self.socket.key, ack_id, args());
        }
    }

    /// Has it never sent again, where it waits for no answer by which its edge could tell that it was handled.
    pub(crate) fn end_repeats(&mut self) {
        if let (None, Some(name)) = (self.ack_id, &self.name) {
            self.ticket.instructions.handled(name);
        }
    }

    /// Answers that it was not carried out, or tells the client of it where it does not wait for an answer.
    pub(crate) fn refuse(&mut self, metrics: &Metrics, error: &ClientError) {
        metrics.count_refused(error.code);
        let trace_id = self.trace().map(TraceParent::trace_id);
        let trace_id = trace_id.map(tracing::field::display);
        tracing::debug!(code = error.code.label(), trace.id = trace_id, "event refused");
        self.fail(error.code.label());
        let socket = self.socket.key;
        match self.ack_id {
            Some(ack_id) => {
                self.ticket.instructions.acknowledge(socket, ack_id, client_view::error(error))
            }
            None => {
                let handles = vec![socket.handle];
                let audience = Audience::Sockets { realm: self.socket.realm(), handles };
                let args = client_view::exception(error, None);
                let emit = Emit {
                    event: EXCEPTION,
                    args,
                    volatile: false,
                    position: None,
                    except_users: &[],
                };
                self.ticket.instructions.emit(audience, &emit);
            }
        }
    }

    fn fail(&mut self, label: &'static str) {
        if let Some(span) = &mut self.span {
            span.fail(label);
        }
    }
}
