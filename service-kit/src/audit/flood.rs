//! Makes one line of events that repeat each other.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::event::AuditEvent;

/// For how long an event that repeats a written one is counted and not written.
const WINDOW: Duration = Duration::from_secs(1);

/// How many different events are told apart; those beyond are written each.
const EVENTS_MAX: usize = 1024;

/// The events that were written lately, and how often each came again since.
#[derive(Debug, Default)]
pub(super) struct Flood {
    bursts: HashMap<AuditEvent, Burst>,
}

#[derive(Debug)]
struct Burst {
    ends_at: Instant,
    repeated: u64,
    last_unix_ms: u64,
}

impl Flood {
    /// Returns the line of an event that is not like one that was just written.
    pub(super) fn admit(
        &mut self,
        event: AuditEvent,
        unix_ms: u64,
        now: Instant,
    ) -> Option<String> {
        let (event, traced) = (event.clone().apart_from_trace(), event);
        if let Some(burst) = self.bursts.get_mut(&event) {
            burst.repeated += 1;
            burst.last_unix_ms = unix_ms;
            return None;
        }
        let line = traced.line(unix_ms, 1);
        if self.bursts.len() < EVENTS_MAX {
            let burst = Burst { ends_at: now + WINDOW, repeated: 0, last_unix_ms: unix_ms };
            self.bursts.insert(event, burst);
        }
        Some(line)
    }

    /// Adds the lines of what came again until now. Whatever goes on has a line each second.
    pub(super) fn take_due(&mut self, now: Instant, lines: &mut Vec<String>) {
        self.bursts.retain(|event, burst| {
            if burst.ends_at > now {
                return true;
            }
            let repeated = std::mem::take(&mut burst.repeated);
            burst.ends_at = now + WINDOW;
            if repeated > 0 {
                lines.push(event.line(burst.last_unix_ms, repeated));
            }
            repeated > 0
        });
    }

    /// Adds the lines of all that came again, whenever it did.
    pub(super) fn finish(&mut self, lines: &mut Vec<String>) {
        for (event, burst) in self.bursts.drain().filter(|(_, burst)| burst.repeated > 0) {
            lines.push(event.line(burst.last_unix_ms, burst.repeated));
        }
    }

    /// Returns for how long there is nothing to say of what was, if anything ever will be.
    pub(super) fn rest(&self, now: Instant) -> Option<Duration> {
        let next = self.bursts.values().map(|burst| burst.ends_at).min()?;
        Some(next.saturating_duration_since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::Decision;

    fn event(subject: &str) -> AuditEvent {
        AuditEvent::new("edge-gateway", "connect", Decision::Denied).of_subject(subject)
    }

    #[test]
    fn what_goes_on_has_a_line_each_second_with_its_count() {
        let (mut flood, start) = (Flood::default(), Instant::now());
        let mut lines = Vec::new();

        lines.extend(flood.admit(event("ada"), 1, start));
        for ms in 2..=1000 {
            assert_eq!(flood.admit(event("ada"), ms, start), None);
        }
        flood.take_due(start + WINDOW, &mut lines);
        assert_eq!(flood.admit(event("ada"), 1001, start + WINDOW), None);
        flood.take_due(start + WINDOW * 2, &mut lines);
        flood.take_due(start + WINDOW * 3, &mut lines);

        assert_eq!(
            lines,
            [event("ada").line(1, 1), event("ada").line(1000, 999), event("ada").line(1001, 1),]
        );
        assert_eq!(flood.rest(start), None);
    }

    #[test]
    fn nothing_is_lost_at_the_end() {
        let (mut flood, start) = (Flood::default(), Instant::now());
        let mut lines = Vec::new();
        flood.admit(event("ada"), 1, start);
        flood.admit(event("ada"), 2, start);

        flood.finish(&mut lines);

        assert_eq!(lines, [event("ada").line(2, 1)]);
    }

    #[test]
    fn more_events_than_can_be_told_apart_are_written_each() {
        let (mut flood, start) = (Flood::default(), Instant::now());
        for number in 0..EVENTS_MAX {
            flood.admit(event(&number.to_string()), 1, start);
        }

        assert!(flood.admit(event("ada"), 1, start).is_some());
        assert!(flood.admit(event("ada"), 2, start).is_some());
        assert!(flood.admit(event("0"), 2, start).is_none());
    }
}
