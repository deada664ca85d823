//! Sees to everything whose time has come: pings, time limits, expiring tokens.

use std::time::{Duration, Instant};

use edge_protocol::{
    engine_io::{Beat, PING_TEXT_FRAME},
    websocket::PING_FRAME,
};

use super::{ConnectionKey, Entry, Hearing, Shard, TICK, Wire, wheel::Tick};
use crate::close_reason::CloseReason;

impl Shard {
    pub(crate) fn pong_received(&mut self, key: ConnectionKey, now: Instant) {
        if self.is_confirmation(key) {
            return;
        }
        let interval = self.limits.ping_interval;
        let Some(entry) = self.entry(key) else { return };
        entry.heartbeat.handle_pong(now, interval);
        if entry.hearing == Hearing::Asked {
            entry.hearing = Hearing::Certain;
        }
        // So far the wheel waits for the end of the ping timeout, which may be later than the next ping.
        self.schedule_sooner(key);
    }

    /// The client has pinged, which only those of Engine.IO 3 do.
    pub(super) fn ping_received(&mut self, key: ConnectionKey, now: Instant) {
        let patience = self.limits.ping_patience();
        if let Some(entry) = self.entry(key) {
            // The wheel names the connection too early now, and is told then.
            entry.heartbeat.handle_ping(now, patience);
        }
    }

    /// A packet waits for its attachments from `now` on.
    pub(crate) fn assembling(&mut self, key: ConnectionKey, now: Instant) {
        if let Some(entry) = self.entry(key) {
            entry.assembling_since = Some(now);
            self.schedule_sooner(key);
        }
    }

    /// The token that let this connection in ends at `at`.
    pub(crate) fn expire_at(&mut self, key: ConnectionKey, at: Instant) {
        if let Some(entry) = self.entry(key) {
            entry.expires_at = Some(entry.expires_at.map_or(at, |earlier| earlier.min(at)));
            entry.is_warned = false;
            self.schedule(key);
        }
    }

    /// Sees to everything whose time has come. Called every [`TICK`].
    pub(crate) fn tick(&mut self, now: Instant) {
        let mut due = std::mem::take(&mut self.due);
        let tick = self.wheel.advance(now, &mut due);
        // The tick's own time: what is counted from it falls on a tick again, and is not late by one more each time.
        let ticked_at = self.wheel.time_of(tick);
        for key in due.drain(..) {
            if self.entry(key).is_some_and(|entry| entry.next_visit <= tick) {
                self.visit(key, ticked_at);
            }
        }
        self.due = due;
        self.expire_events(now);
        self.expire_server_acks(now);
        self.verifications.forget_finished();
        self.sessions.expire(now);
        self.expire_recovery(now);
        self.end_pauses_for_bytes(now);
        self.close_stalled(now);
        self.see_to_confirmations(now);
        for link in &mut self.links {
            link.acknowledge_now();
        }
    }

    fn visit(&mut self, key: ConnectionKey, now: Instant) {
        let (interval, timeout) = (self.limits.ping_interval, self.limits.ping_timeout);
        let warning = self.limits.expiry_warning;
        let Some(entry) = self.entry(key) else { return };
        if entry.connect_by.is_some_and(|at| at <= now) {
            return self.close(key, CloseReason::ConnectTimeout);
        }
        if entry.expires_at.is_some_and(|at| at <= now) {
            return self.close(key, CloseReason::TokenExpired);
        }
        let warns_at = entry.warns_at(warning);
        if entry.attachments_due_at(timeout).is_some_and(|at| at <= now) {
            return self.attachments_overdue(key);
        }
        if warns_at.is_some_and(|at| at <= now) {
            self.warn_of_expiry(key);
        }
        let Some(entry) = self.entry(key) else { return };
        // Heartbeats are early by up to a tick rather than late: a client counts on the interval and the timeout too.
        let soon = now + TICK;
        if entry.pauses.is_paused() && entry.heartbeat.due_at() <= soon {
            entry.heartbeat.postpone(soon, interval);
            entry.hearing = Hearing::Uncertain;
        }
        let ping: &[u8] = match entry.wire {
            Wire::SocketIo(_) | Wire::SocketIo2(_) => &PING_TEXT_FRAME,
            Wire::PlainJson(_) => &PING_FRAME,
        };
        match entry.heartbeat.handle_timeout(soon, timeout) {
            Some(Beat::Ping) => {
                entry.hearing = match entry.hearing {
                    _ if entry.connection.is_behind() => Hearing::Uncertain,
                    Hearing::Certain => Hearing::Certain,
                    Hearing::Uncertain | Hearing::Asked => Hearing::Asked,
                };
                self.send_control(key, ping);
            }
            Some(Beat::GiveUp) => return self.close(key, CloseReason::PingTimeout),
            None => {}
        }
        self.schedule(key);
    }

    /// Has the wheel name a connection when the first of its deadlines has passed.
    pub(super) fn schedule(&mut self, key: ConnectionKey) {
        let Some(due) = self.first_deadline(key) else { return };
        let visit = self.wheel.schedule(key, due);
        if let Some(entry) = self.entry(key) {
            entry.next_visit = visit;
        }
    }

    /// As [`schedule`](Self::schedule), where the wheel may name the connection early enough already.
    fn schedule_sooner(&mut self, key: ConnectionKey) {
        let Some(due) = self.first_deadline(key) else { return };
        if self.entry(key).is_some_and(|entry| due < entry.next_visit) {
            self.schedule(key);
        }
    }

    fn first_deadline(&mut self, key: ConnectionKey) -> Option<Tick> {
        let (timeout, warning) = (self.limits.ping_timeout, self.limits.expiry_warning);
        let entry = self.entry(key)?;
        let assemble_by = entry.attachments_due_at(timeout);
        let beat_at = entry.heartbeat.due_at();
        let beat_at = beat_at.checked_sub(TICK).unwrap_or(beat_at);
        let deadlines = [entry.connect_by, entry.warns_at(warning), entry.expires_at, assemble_by];
        let first = deadlines.into_iter().flatten().fold(beat_at, Instant::min);
        Some(self.wheel.tick_at(first))
    }
}

impl Entry {
    /// When the attachments of a packet must have come. What is not read cannot come.
    fn attachments_due_at(&self, timeout: Duration) -> Option<Instant> {
        let since = self.assembling_since.filter(|_| !self.pauses.is_paused())?;
        since.checked_add(timeout)
    }

    /// When the client is to be told that a token expires; none once it is, and where nobody is.
    fn warns_at(&self, warning: Duration) -> Option<Instant> {
        let expires_at = self.expires_at.filter(|_| !self.is_warned && !warning.is_zero())?;
        // What lies before the clock's beginning is over.
        Some(expires_at.checked_sub(warning).unwrap_or_else(Instant::now))
    }
}
