//! What has come from a business service and is yet to be carried out: how much of it at once, and when.

use std::time::Duration;

use proto::edge::v1::BackendFrame;
use tokio::time::Instant;

use super::payload_bytes;

/// How many frames, and about how many bytes of them, are carried out before anything is written to those who are sent more than
/// one of their events.
const FRAMES_MAX: usize = 32;
const BYTES_MAX: usize = 256 * 1024;

/// A pass that is shorter than this is not worth waiting for others: timers have milliseconds.
const LONG_PASS: Duration = Duration::from_millis(1);

/// Frames in the order in which they came.
///
/// A pass carries out all that are here. It begins with the first of them, unless the shard is busy with rooms in which much is
/// said: most of what the last pass wrote were several events for the same clients, it was long, and it ended less than its length
/// ago. Others will come within a moment then, and are written by the same system calls if this pass waits for as long as the last
/// one took. With one event at a time nothing is held back.
#[derive(Debug)]
pub(super) struct Inbox {
    frames: Vec<BackendFrame>,
    bytes: usize,
    hold_max: Duration,
    held_until: Option<Instant>,
    last: Option<Pass>,
}

/// A long one that has written several events to the same clients.
#[derive(Debug, Clone, Copy)]
struct Pass {
    length: Duration,
    ended_at: Instant,
}

impl Inbox {
    pub(super) fn new(hold_max: Duration) -> Self {
        Self { frames: Vec::new(), bytes: 0, hold_max, held_until: None, last: None }
    }

    pub(super) fn push(&mut self, frame: BackendFrame, now: Instant) {
        if self.frames.is_empty() {
            let last = self.last.filter(|last| now.duration_since(last.ended_at) < last.length);
            let pause = last.map(|last| last.length.min(self.hold_max));
            self.held_until = pause.filter(|pause| !pause.is_zero()).map(|pause| now + pause);
        }
        self.bytes += payload_bytes(&frame);
        self.frames.push(frame);
    }

    pub(super) fn is_full(&self) -> bool {
        self.frames.len() >= FRAMES_MAX || self.bytes >= BYTES_MAX
    }

    /// When what is here is to be carried out, where it could have been before.
    pub(super) fn held_until(&self) -> Option<Instant> {
        self.held_until
    }

    /// What the next pass carries out.
    pub(super) fn take(&mut self) -> Vec<BackendFrame> {
        (self.bytes, self.held_until) = (0, None);
        std::mem::take(&mut self.frames)
    }

    /// Notes a pass, and whether most of it were several events for the same clients.
    pub(super) fn carried_out(&mut self, is_shared: bool, began_at: Instant, ended_at: Instant) {
        let length = ended_at.duration_since(began_at);
        self.last = (is_shared && length >= LONG_PASS).then_some(Pass { length, ended_at });
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proto::edge::v1::{Emit, Instruction, instruction::Kind};

    use super::*;

    const HOLD_MAX: Duration = Duration::from_millis(5);

    fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    fn frame(bytes: usize) -> BackendFrame {
        let emit = Emit { args: Bytes::from(vec![b' '; bytes]), ..Emit::default() };
        let instruction = Instruction { kind: Some(Kind::Emit(emit)), ..Instruction::default() };
        BackendFrame { instructions: vec![instruction], ..BackendFrame::default() }
    }

    /// How long an event is held back that comes `after` a pass of that length.
    fn held(is_shared: bool, length: Duration, after: Duration) -> Duration {
        let began_at = Instant::now();
        let mut inbox = Inbox::new(HOLD_MAX);
        inbox.push(frame(10), began_at);
        assert_eq!(inbox.held_until(), None, "nothing was carried out before");
        assert_eq!(inbox.take().len(), 1);
        inbox.carried_out(is_shared, began_at, began_at + length);
        let now = began_at + length + after;

        inbox.push(frame(10), now);

        inbox.held_until().map_or(Duration::ZERO, |until| until.duration_since(now))
    }

    #[test]
    fn events_are_held_back_where_a_long_pass_of_several_for_the_same_has_just_ended() {
        assert_eq!(held(true, ms(3), ms(2)), ms(3), "for as long as it has taken");
        assert_eq!(held(true, ms(80), ms(2)), HOLD_MAX, "and no longer than the settings say");
        assert_eq!(held(false, ms(3), ms(2)), ms(0), "each was for others");
        assert_eq!(held(true, ms(3), ms(3)), ms(0), "it is a while ago");
        assert_eq!(held(true, Duration::from_micros(999), ms(0)), ms(0), "it was short");
    }

    #[test]
    fn those_that_come_later_do_not_put_off_the_first() {
        let start = Instant::now();
        let mut inbox = Inbox::new(HOLD_MAX);
        inbox.carried_out(true, start, start + ms(4));
        inbox.push(frame(10), start + ms(5));

        inbox.push(frame(10), start + ms(7));

        assert_eq!(inbox.held_until(), Some(start + ms(9)));
        assert_eq!((inbox.take().len(), inbox.take().len(), inbox.held_until()), (2, 0, None));
    }

    #[test]
    fn with_so_much_there_is_no_waiting_for_more() {
        let now = Instant::now();
        let mut inbox = Inbox::new(HOLD_MAX);
        for _ in 0..FRAMES_MAX {
            assert!(!inbox.is_full());
            inbox.push(frame(10), now);
        }
        assert!(inbox.is_full());
        inbox.take();
        assert!(!inbox.is_full());

        inbox.push(frame(BYTES_MAX), now);

        assert!(inbox.is_full());
    }
}
