//! Frames that were numbered and not yet confirmed, to be sent again on the next stream.

use std::collections::VecDeque;

use proto::{edge::v1 as wire, encoded::Encoded};
use thiserror::Error;

use super::outbox::Batch;

/// Numbers frames and keeps them until the edge has confirmed them. How much it may keep is the outbox's business.
#[derive(Debug, Default)]
pub(super) struct SentFrames {
    last_seq: u64,
    last_ack: u64,
    frames: VecDeque<SentFrame>,
    /// How many of the frames were written to the present stream.
    written: usize,
    /// The present stream has yet to hear how far the EdgeFrames are done with.
    owes_ack: bool,
}

#[derive(Debug)]
struct SentFrame {
    seq: u64,
    frame: Encoded<wire::BackendFrame>,
    /// What the batch counts for in the outbox.
    bytes: usize,
}

/// The edge confirms what it was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the edge confirms frames that were never sent, or no longer confirms what it did")]
pub(super) struct ConfirmError;

impl SentFrames {
    /// Whether there is a frame to write before anything new.
    pub(super) fn owes_frames(&self) -> bool {
        self.written < self.frames.len() || self.owes_ack
    }

    /// The next frame that was written to an earlier stream only, then an acknowledgement if one is due.
    pub(super) fn next_owed(&mut self) -> Option<Encoded<wire::BackendFrame>> {
        if let Some(SentFrame { frame, .. }) = self.frames.get(self.written) {
            self.written += 1;
            return Some(frame.clone());
        }
        let owes_ack = std::mem::take(&mut self.owes_ack);
        let ack = wire::BackendFrame { ack: self.last_ack, ..Default::default() };
        owes_ack.then(|| Encoded::from(&ack))
    }

    /// Makes the next frame. One without instructions has no number and is not kept.
    pub(super) fn number(&mut self, batch: Batch) -> Encoded<wire::BackendFrame> {
        self.last_ack = batch.ack.unwrap_or(self.last_ack);
        let mut frame = wire::BackendFrame { ack: self.last_ack, ..Default::default() };
        if batch.is_empty() {
            return Encoded::from(&frame);
        }
        self.last_seq += 1;
        frame.seq = self.last_seq;
        let (seq, bytes) = (frame.seq, batch.bytes());
        let frame = Encoded::appended(batch.fields, &frame);
        self.frames.push_back(SentFrame { seq, frame: frame.clone(), bytes });
        self.written += 1;
        frame
    }

    /// Forgets the frames up to `seq`; tells how many bytes they counted for.
    pub(super) fn confirm(&mut self, seq: u64) -> Result<usize, ConfirmError> {
        if seq > self.last_seq {
            return Err(ConfirmError);
        }
        let mut bytes = 0;
        while let Some(frame) = self.frames.pop_front_if(|frame| frame.seq <= seq) {
            bytes += frame.bytes;
            self.written = self.written.saturating_sub(1);
        }
        Ok(bytes)
    }

    /// Starts over on a new stream whose edge has carried out everything up to `received`; tells how many bytes that
    /// confirms.
    pub(super) fn resume(&mut self, received: u64) -> Result<usize, ConfirmError> {
        if received.saturating_add(self.frames.len() as u64) < self.last_seq {
            return Err(ConfirmError);
        }
        let bytes = self.confirm(received)?;
        self.written = 0;
        self.owes_ack = self.last_ack > 0;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::{
        edge_link::{Instructions, Outbox},
        socket::LinkKey,
    };

    fn batch(ack: Option<u64>) -> Batch {
        let outbox = Outbox::new(LinkKey(1));
        let mut instructions = Instructions::default();
        instructions.close(7);
        outbox.push(&instructions);
        let mut batch = outbox.take_batch().unwrap();
        batch.ack = ack;
        batch
    }

    fn ack_only(ack: u64) -> Batch {
        let mut batch = Batch::default();
        batch.ack = Some(ack);
        batch
    }

    /// What the edge reads.
    fn read(frame: &Encoded<wire::BackendFrame>) -> wire::BackendFrame {
        wire::BackendFrame::decode(frame.as_bytes().clone()).unwrap()
    }

    #[test]
    fn numbers_frames_with_instructions_and_keeps_them_until_they_are_confirmed() {
        let mut sent = SentFrames::default();

        let first = read(&sent.number(batch(None)));
        assert_eq!((first.seq, first.ack, first.instructions.len()), (1, 0, 1));
        let ack_only = read(&sent.number(ack_only(4)));
        assert_eq!((ack_only.seq, ack_only.ack), (0, 4));
        let second = read(&sent.number(batch(None)));
        assert_eq!((second.seq, second.ack), (2, 4));

        assert_eq!(sent.confirm(1), Ok(batch(None).bytes()));
        assert_eq!(sent.confirm(1), Ok(0));
        assert_eq!(sent.confirm(3), Err(ConfirmError));
        assert!(!sent.owes_frames());
    }

    #[test]
    fn sends_again_what_the_edge_has_not_seen_and_then_how_far_it_is() {
        let mut sent = SentFrames::default();
        let frames: Vec<_> = (1..=3).map(|n| sent.number(batch(Some(n)))).collect();
        sent.number(ack_only(9));

        assert_eq!(sent.resume(1), Ok(batch(None).bytes()));

        assert_eq!(sent.next_owed().as_ref().map(read), Some(read(&frames[1])));
        assert_eq!(sent.next_owed().as_ref().map(read), Some(read(&frames[2])));
        let ack = read(&sent.next_owed().unwrap());
        assert_eq!((ack.seq, ack.ack), (0, 9));
        assert!(sent.next_owed().is_none());
        assert_eq!(read(&sent.number(batch(None))).seq, 4);
    }

    #[test]
    fn a_confirmation_in_the_middle_of_sending_again_skips_nothing() {
        let mut sent = SentFrames::default();
        let frames: Vec<_> = (1..=3).map(|n| sent.number(batch(Some(n)))).collect();
        sent.resume(0).unwrap();
        assert_eq!(sent.next_owed().as_ref().map(read), Some(read(&frames[0])));

        sent.confirm(1).unwrap();

        assert_eq!(sent.next_owed().as_ref().map(read), Some(read(&frames[1])));
    }

    #[test]
    fn cannot_resume_where_the_edge_is_ahead_or_behind_what_is_kept() {
        let mut sent = SentFrames::default();
        sent.number(batch(None));
        sent.number(batch(None));
        sent.confirm(1).unwrap();

        assert_eq!(sent.resume(3), Err(ConfirmError));
        assert_eq!(sent.resume(u64::MAX), Err(ConfirmError));
        assert_eq!(sent.resume(0), Err(ConfirmError));
        assert_eq!(sent.resume(1), Ok(0));
    }
}
