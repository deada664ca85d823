//! Which frames of an edge are done with.

use std::collections::VecDeque;

/// Which EdgeFrames are done with. Their events are worked on in parallel.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Every frame up to this one is done with.
    pub(super) done: u64,
    /// Of each frame after it, how many events are not.
    pub(super) undone: VecDeque<usize>,
}

impl Progress {
    /// Numbers begin at 1.
    pub(super) const NO_FRAME: u64 = 0;

    pub(super) fn add(&mut self, seq: u64) {
        if let Some(undone) = self.of(seq) {
            *undone += 1;
        }
    }

    pub(super) fn finish(&mut self, seq: u64) {
        if let Some(undone) = self.of(seq) {
            *undone -= 1;
        }
    }

    fn of(&mut self, seq: u64) -> Option<&mut usize> {
        let index = seq.checked_sub(self.done + 1)?;
        self.undone.get_mut(usize::try_from(index).ok()?)
    }

    /// Moves on over the frames that are done with; tells how far, if it moved.
    pub(super) fn advance(&mut self) -> Option<u64> {
        let before = self.done;
        while self.undone.front() == Some(&0) {
            self.undone.pop_front();
            self.done += 1;
        }
        (self.done > before).then_some(self.done)
    }
}
