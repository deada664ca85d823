//! Frames that were numbered and not yet confirmed, to be sent again on the next stream.

use std::collections::VecDeque;

use bytes::Bytes;
use prost::Message;
use proto::edge::v1 as wire;
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

/// Encoded: one allocation instead of some for each instruction, and seldom needed again.
#[derive(Debug)]
struct SentFrame {
    seq: u64,
    encoded: Bytes,
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
    pub(super) fn next_owed(&mut self) -> Option<wire::BackendFrame> {
        if let Some(frame) = self.frames.get(self.written) {
            self.written += 1;
            let frame = wire::BackendFrame::decode(frame.encoded.clone());
            return Some(frame.expect("these bytes were encoded from such a frame"));
        }
        let owes_ack = std::mem::take(&mut self.owes_ack);
        owes_ack.then(|| wire::BackendFrame { ack: self.last_ack, ..Default::default() })
    }

    /// Makes the next frame. One without instructions has no number and is not kept.
    pub(super) fn number(&mut self, batch: Batch) -> wire::BackendFrame {
        self.last_ack = batch.ack.unwrap_or(self.last_ack);
        let Batch { instructions, bytes, ack: _ } = batch;
        let mut frame =
            wire::BackendFrame { seq: 0, ack: self.last_ack, welcome: None, instructions };
        if !frame.instructions.is_empty() {
            self.last_seq += 1;
            frame.seq = self.last_seq;
            let encoded = frame.encode_to_vec().into();
            self.frames.push_back(SentFrame { seq: frame.seq, encoded, bytes });
            self.written += 1;
        }
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
    use super::*;

    fn batch(ack: Option<u64>) -> Batch {
        Batch { instructions: vec![wire::Instruction::default()], bytes: 10, ack }
    }

    #[test]
    fn numbers_frames_with_instructions_and_keeps_them_until_they_are_confirmed() {
        let mut sent = SentFrames::default();

        assert_eq!(sent.number(batch(None)).seq, 1);
        let ack_only = sent.number(Batch { instructions: Vec::new(), bytes: 0, ack: Some(4) });
        assert_eq!((ack_only.seq, ack_only.ack), (0, 4));
        let second = sent.number(batch(None));
        assert_eq!((second.seq, second.ack), (2, 4));

        assert_eq!(sent.confirm(1), Ok(10));
        assert_eq!(sent.confirm(1), Ok(0));
        assert_eq!(sent.confirm(3), Err(ConfirmError));
        assert!(!sent.owes_frames());
    }

    #[test]
    fn sends_again_what_the_edge_has_not_seen_and_then_how_far_it_is() {
        let mut sent = SentFrames::default();
        let frames: Vec<_> = (1..=3).map(|n| sent.number(batch(Some(n)))).collect();
        sent.number(Batch { instructions: Vec::new(), bytes: 0, ack: Some(9) });

        assert_eq!(sent.resume(1), Ok(10));

        assert_eq!(sent.next_owed().as_ref(), Some(&frames[1]));
        assert_eq!(sent.next_owed().as_ref(), Some(&frames[2]));
        let ack = sent.next_owed().unwrap();
        assert_eq!((ack.seq, ack.ack), (0, 9));
        assert_eq!(sent.next_owed(), None);
        assert_eq!(sent.number(batch(None)).seq, 4);
    }

    #[test]
    fn a_confirmation_in_the_middle_of_sending_again_skips_nothing() {
        let mut sent = SentFrames::default();
        let frames: Vec<_> = (1..=3).map(|n| sent.number(batch(Some(n)))).collect();
        sent.resume(0).unwrap();
        assert_eq!(sent.next_owed().as_ref(), Some(&frames[0]));

        sent.confirm(1).unwrap();

        assert_eq!(sent.next_owed().as_ref(), Some(&frames[1]));
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
