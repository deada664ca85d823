//! Clients' events that no business service has acknowledged: how many there may be, and what becomes of them.

use std::{collections::VecDeque, time::Instant};

use proto::edge::v1::{ClientEvent, EdgeEvent, Welcome, edge_event::Kind};

use super::{
    BackendLink, EmitCount, WAITING_BYTES_MAX,
    events::{event_bytes, number, number_of},
};
use crate::telemetry::as_f64;

/// Most events of clients that wait for a business service that is away. Further ones are answered `unavailable`.
const HELD_EVENTS_MAX: usize = 16_384;

/// The deadline of an event that is sent and needs nothing more: it lies in the past.
const SETTLED: u64 = 0;

/// How many events of clients are kept, and how large they are.
#[derive(Debug, Default)]
pub(super) struct Held {
    count: usize,
    bytes: usize,
}

/// What becomes of a client's event as it comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reception {
    Taken,
    /// It is volatile, and the business service is away or there is little memory.
    Dropped,
    /// The business service is away, and there is no room for more to wait.
    Refused,
}

/// What became of a link's events when its business service came back with nothing.
#[derive(Debug, Default)]
pub(crate) struct Lost {
    /// Nobody knows what became of these.
    pub(crate) in_flight: Vec<EdgeEvent>,
    /// These had not been sent.
    pub(crate) unsent: VecDeque<EdgeEvent>,
}

impl Held {
    pub(super) fn add(&mut self, event: &EdgeEvent) {
        if is_client_event(event) {
            self.count += 1;
            self.bytes += event_bytes(event);
        }
    }

    pub(super) fn take(&mut self, event: &EdgeEvent) {
        if is_client_event(event) {
            self.count -= 1;
            self.bytes -= event_bytes(event);
        }
    }

    fn is_full(&self) -> bool {
        self.count >= HELD_EVENTS_MAX || self.bytes >= WAITING_BYTES_MAX
    }
}

impl BackendLink {
    /// Whether an event of this name may wait here. While the business service is there it may: the connections are not
    /// read when it does not keep up.
    pub(crate) fn receive(&self, name: &str, is_short_of_memory: bool) -> Reception {
        if (!self.attached || is_short_of_memory) && self.is_volatile(name) {
            return Reception::Dropped;
        }
        if self.attached {
            return Reception::Taken;
        }
        if self.held.is_full() { Reception::Refused } else { Reception::Taken }
    }

    fn is_volatile(&self, name: &str) -> bool {
        self.volatile_events.iter().any(|volatile| volatile == name)
    }

    /// The stream is up, and the business service knows nothing of this link. Both directions start again at 1.
    pub(crate) fn started_anew(&mut self, welcome: &Welcome) -> Lost {
        let in_flight = self.unacknowledged.drain(..).flat_map(|one| one.frame.events);
        let in_flight = in_flight.filter(|event| !is_settled(event)).collect();
        let unsent = std::mem::take(&mut self.queued);
        let bytes = self.unacknowledged_bytes + self.queued_bytes;
        self.metrics.link_queue_bytes.decrement(as_f64(bytes));
        self.unacknowledged_bytes = 0;
        self.queued_bytes = 0;
        self.held = Held::default();
        self.last_seq = 0;
        self.received = 0;
        self.acknowledged = 0;
        self.delivered = EmitCount { memory: welcome.memory, count: 0 };
        self.attach(welcome);
        Lost { in_flight, unsent }
    }

    /// Whether the time of an event is up.
    pub(crate) fn is_late(&self, event: &ClientEvent, now: Instant) -> bool {
        event.deadline_ms <= self.clock.ms(now)
    }

    /// Puts back what a business service that started anew must still hear of.
    pub(crate) fn requeue(&mut self, event: EdgeEvent) {
        self.push(event);
    }

    /// An event has had its effects, and waits for no answer: nothing more need become of it, whoever comes next.
    pub(crate) fn note_handled(&mut self, id: &[u8]) {
        let Some(number) = number(id) else { return };
        let frame = self.unacknowledged.partition_point(|one| one.last_event < number);
        let Some(frame) = self.unacknowledged.get_mut(frame) else { return };
        let event = frame.frame.events.iter_mut().find(|event| number_of(event) == Some(number));
        if let Some(EdgeEvent { kind: Some(Kind::Event(event)), .. }) = event {
            event.deadline_ms = SETTLED;
        }
    }

    /// Sends an event again that nobody knows the fate of.
    pub(crate) fn repeat(&mut self, mut event: EdgeEvent) {
        if let Some(Kind::Event(client_event)) = &mut event.kind {
            client_event.repeated = true;
            self.metrics.repeats.increment(1);
        }
        self.push(event);
    }

    /// Takes out the client events whose deadline has passed before they could be sent, and copies of those that were
    /// sent, have not been acknowledged and have nobody who waits for an ack: while the link is down their clients must
    /// be told.
    pub(crate) fn take_overdue(&mut self, now: Instant) -> Vec<EdgeEvent> {
        let now_ms = self.clock.ms(now);
        let mut overdue = Vec::new();
        if !self.attached {
            let sent = self.unacknowledged.iter_mut().flat_map(|one| &mut one.frame.events);
            for event in sent {
                if let Some(Kind::Event(client_event)) = &mut event.kind
                    && client_event.ack_id.is_none()
                    && (1..=now_ms).contains(&client_event.deadline_ms)
                {
                    // Told once; and a business service that sees it later sees that it is too late.
                    client_event.deadline_ms = SETTLED;
                    overdue.push(event.clone());
                }
            }
        }
        // Deadlines rise along the queue.
        let in_time = |event: &EdgeEvent| matches!(&event.kind, Some(Kind::Event(event)) if event.deadline_ms > now_ms);
        let end = self.queued.iter().position(in_time).unwrap_or(self.queued.len());
        if self.queued.iter().take(end).any(is_client_event) {
            let (late, others): (Vec<_>, Vec<_>) =
                self.queued.drain(..end).partition(is_client_event);
            for event in others.into_iter().rev() {
                self.queued.push_front(event);
            }
            late.iter().for_each(|event| self.held.take(event));
            let bytes = late.iter().map(event_bytes).sum();
            self.queued_bytes -= bytes;
            self.metrics.link_queue_bytes.decrement(as_f64(bytes));
            overdue.extend(late);
        }
        overdue
    }
}

fn is_client_event(event: &EdgeEvent) -> bool {
    matches!(event.kind, Some(Kind::Event(_)))
}

/// Whether it is known what became of an event that was sent, or its client has been told that nobody knows.
fn is_settled(event: &EdgeEvent) -> bool {
    matches!(&event.kind, Some(Kind::Event(event)) if event.deadline_ms == SETTLED)
}
