//! The spans and metrics of the chat service, each named once.

use std::sync::Arc;

use metrics::{Counter, Gauge, counter, gauge};
use service_kit::trace::{Span, SpanKind, TraceParent, Tracer};

use crate::{client_error::ClientErrorCode, namespaces::Namespaces, room_rules::Action};

/// Handles are made once, after the recorder of the process was installed.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    carried_out: Counter,
    expired: Counter,
    unknown_socket: Counter,
    refused: [(ClientErrorCode, Counter); ClientErrorCode::ALL.len()],
    denied: [(Action, Counter); Action::ALL.len()],
    /// Sockets that were taken out of rooms in which they may no longer be.
    pub(crate) removals: Counter,
    /// Rooms with members.
    pub(crate) rooms: Gauge,
    /// Edge links whose sockets are kept, attached or not.
    pub(crate) links: Gauge,
    pub(crate) sockets: Gauge,
    /// Events added to the logs.
    pub(crate) logged: Counter,
    /// Lives of edge links that were given up because the edge did not keep up.
    pub(crate) overflows: Counter,
    /// Volatile instructions that found little room in the outbox of an edge.
    pub(crate) volatile_dropped: Counter,
    /// Sockets told that events of a room passed them by.
    pub(crate) gaps: Counter,
    /// Users whose deliveries are not followed, as too many are.
    pub(crate) unfollowed: Counter,
    /// Users and sockets that were put out of rooms by services,
    pub(crate) kicks: Counter,
    /// and users that were banned from them.
    pub(crate) bans: Counter,
    /// How many of either are remembered.
    pub(crate) exclusions: Gauge,
    /// Kicks and bans that were refused, as too many are remembered.
    pub(crate) exclusions_refused: Counter,
    /// Sockets that were not let back into a room, as they had been put out.
    pub(crate) returns_refused: Counter,
    /// Clients' events that applications declare, by their numbers.
    declared: Arc<[Counter]>,
}

/// What became of a client's event, besides being refused.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Outcome {
    CarriedOut,
    /// Found after its deadline.
    Expired,
    /// Of a socket that this link does not have.
    UnknownSocket,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let events =
            |outcome: &'static str| counter!("sockeye_chat_events_total", "outcome" => outcome);
        Self {
            carried_out: events("ok"),
            expired: events("expired"),
            unknown_socket: events("unknown_socket"),
            refused: ClientErrorCode::ALL.map(|code| (code, events(code.label()))),
            denied: Action::ALL.map(|action| {
                (action, counter!("sockeye_chat_denials_total", "action" => action.label()))
            }),
            removals: counter!("sockeye_chat_removals_total"),
            rooms: gauge!("sockeye_chat_rooms"),
            links: gauge!("sockeye_chat_links"),
            sockets: gauge!("sockeye_chat_sockets"),
            logged: counter!("sockeye_chat_logged_total"),
            overflows: counter!("sockeye_chat_link_overflows_total"),
            volatile_dropped: counter!("sockeye_chat_volatile_dropped_total"),
            gaps: counter!("sockeye_chat_gaps_total"),
            unfollowed: counter!("sockeye_chat_unfollowed_users_total"),
            kicks: counter!("sockeye_chat_kicks_total"),
            bans: counter!("sockeye_chat_bans_total"),
            exclusions: gauge!("sockeye_chat_exclusions"),
            exclusions_refused: counter!("sockeye_chat_exclusions_refused_total"),
            returns_refused: counter!("sockeye_chat_returns_refused_total"),
            declared: Arc::default(),
        }
    }

    /// Adds those for the events that are declared. As many labels as the file has events are few.
    pub(crate) fn with_declared(self, namespaces: &Namespaces) -> Self {
        let mut declared: Vec<_> = namespaces
            .all_events()
            .flat_map(|(namespace, events)| events.iter().map(move |event| (namespace, event)))
            .collect();
        declared.sort_unstable_by_key(|(_, event)| event.number);
        let counters = declared.into_iter().map(|(namespace, event)| {
            let labels = [("namespace", namespace.to_owned()), ("event", event.name.to_string())];
            counter!("sockeye_chat_declared_events_total", &labels)
        });
        Self { declared: counters.collect(), ..self }
    }

    pub(crate) fn count_declared(&self, number: usize) {
        if let Some(counter) = self.declared.get(number) {
            counter.increment(1);
        }
    }

    pub(crate) fn count(&self, outcome: Outcome) {
        match outcome {
            Outcome::CarriedOut => self.carried_out.increment(1),
            Outcome::Expired => self.expired.increment(1),
            Outcome::UnknownSocket => self.unknown_socket.increment(1),
        }
    }

    pub(crate) fn count_denied(&self, action: Action) {
        for (denied, counter) in &self.denied {
            if *denied == action {
                counter.increment(1);
            }
        }
    }

    pub(crate) fn count_refused(&self, code: ClientErrorCode) {
        for (refused, counter) in &self.refused {
            if *refused == code {
                counter.increment(1);
            }
        }
    }
}

/// A socket enters a namespace.
pub(crate) fn open_span(
    tracer: &Tracer,
    parent: Option<TraceParent>,
    namespace: &str,
) -> Option<Span> {
    let mut span = tracer.follow("chat.open", SpanKind::Consumer, parent)?;
    describe(&mut span, "process", "open", namespace);
    Some(span)
}

/// A client's event is handled.
pub(crate) fn handle_span(
    tracer: &Tracer,
    parent: Option<TraceParent>,
    namespace: &str,
    event: &str,
) -> Option<Span> {
    let mut span = tracer.follow("chat.handle", SpanKind::Consumer, parent)?;
    describe(&mut span, "process", "handle", namespace);
    span.set("sockeye.event", event.to_owned());
    Some(span)
}

/// An event is added to a log.
pub(crate) fn append_span(tracer: &Tracer, parent: Option<TraceParent>) -> Option<Span> {
    tracer.follow("chat.append", SpanKind::Internal, parent)
}

/// Another service publishes.
pub(crate) fn publish_span(
    tracer: &Tracer,
    parent: Option<TraceParent>,
    namespace: &str,
    event: &str,
) -> Option<Span> {
    let mut span = tracer.start("chat.publish", SpanKind::Server, parent)?;
    describe(&mut span, "send", "publish", namespace);
    span.set("sockeye.event", event.to_owned());
    span.set("rpc.system.name", "grpc");
    span.set("rpc.service", "sockeye.chat.v1.ChatService");
    span.set("rpc.method", "Publish");
    Some(span)
}

fn describe(span: &mut Span, operation: &'static str, name: &'static str, namespace: &str) {
    span.set("messaging.system", "sockeye");
    span.set("messaging.operation.type", operation);
    span.set("messaging.operation.name", name);
    span.set("messaging.destination.name", namespace.to_owned());
}
