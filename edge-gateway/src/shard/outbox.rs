//! What waits for one client that does not read fast enough: bounded, control before data.

use std::{collections::VecDeque, io::IoSlice};

use bytes::{Buf, Bytes};

/// Most bytes that pings and pongs may take up while they wait.
pub(crate) const CONTROL_BYTES_MAX: usize = 64 * 1024;

/// How many pieces one write hands to the kernel.
pub(crate) const SLICES_MAX: usize = 16;

/// Frames that the socket has not taken yet.
///
/// It exists only while there is a backlog. Data frames are shared with the other recipients, not copied. Control frames
/// go out before waiting data, but never into the middle of a frame.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    data: VecDeque<Bytes>,
    data_bytes: usize,
    control: Vec<u8>,
    /// The first data frame has been written in part.
    partial: bool,
    /// How many bytes of data the client has taken of it.
    taken_bytes: u64,
    /// Of the data that goes through it, the bytes up to here take up no room.
    free_until: u64,
}

/// A frame found no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full;

impl Outbox {
    /// Queues the rest of a frame whose first part has been written already.
    pub(crate) fn push_rest(&mut self, rest: Bytes) {
        self.partial = true;
        self.data_bytes += rest.len();
        self.data.push_front(rest);
    }

    pub(crate) fn push_data(&mut self, frame: Bytes, bytes_max: usize) -> Result<(), Full> {
        if self.counted_bytes().saturating_add(frame.len()) > bytes_max {
            return Err(Full);
        }
        self.data_bytes += frame.len();
        self.data.push_back(frame);
        Ok(())
    }

    pub(crate) fn push_control(&mut self, frame: &[u8]) -> Result<(), Full> {
        if self.control.len() + frame.len() > CONTROL_BYTES_MAX {
            return Err(Full);
        }
        self.control.extend_from_slice(frame);
        Ok(())
    }

    /// Drops the data that waits, except a frame already begun, without which the client could make nothing of what follows.
    pub(crate) fn drop_data(&mut self) {
        self.data.truncate(usize::from(self.partial));
        self.data_bytes = self.data.iter().map(Bytes::len).sum();
    }

    /// Takes everything, control first. Only for an outbox of which nothing was written in part.
    pub(crate) fn take_all(&mut self) -> Vec<Bytes> {
        let control = std::mem::take(&mut self.control);
        let control = (!control.is_empty()).then(|| Bytes::from(control));
        self.data_bytes = 0;
        control.into_iter().chain(self.data.drain(..)).collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.data.is_empty() && self.control.is_empty()
    }

    /// How many bytes of data wait.
    pub(crate) fn data_bytes(&self) -> usize {
        self.data_bytes
    }

    /// How many of them take up room.
    pub(crate) fn counted_bytes(&self) -> usize {
        self.data_bytes - self.free_bytes()
    }

    /// How many of them take up none.
    pub(crate) fn free_bytes(&self) -> usize {
        let free = self.free_until.saturating_sub(self.taken_bytes);
        usize::try_from(free).unwrap_or(usize::MAX).min(self.data_bytes)
    }

    /// Has all that waits now take up no room: it has a bound of its own.
    pub(crate) fn free_room(&mut self) {
        self.free_until = self.taken_bytes + self.data_bytes as u64;
    }

    /// How many bytes of data have been taken since there is a backlog.
    pub(crate) fn taken_bytes(&self) -> u64 {
        self.taken_bytes
    }

    /// Fills `slices` with what to write next; returns how many it filled.
    pub(crate) fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>; SLICES_MAX]) -> usize {
        let rest = if self.partial { self.data.front() } else { None };
        let control = (!self.control.is_empty()).then_some(self.control.as_slice());
        let pieces = rest
            .map(|rest| &rest[..])
            .into_iter()
            .chain(control)
            .chain(self.data.iter().skip(usize::from(self.partial)).map(|frame| &frame[..]));

        let mut filled = 0;
        for (slot, piece) in slices.iter_mut().zip(pieces) {
            *slot = IoSlice::new(piece);
            filled += 1;
        }
        filled
    }

    /// Puts all the data behind what is in `buffer`, frame after frame.
    pub(crate) fn copy_to(&self, buffer: &mut Vec<u8>) {
        for frame in &self.data {
            buffer.extend_from_slice(frame);
        }
    }

    /// Forgets the first `written` bytes of what `copy_to` gave: they never waited for the client.
    pub(crate) fn take_first(&mut self, mut written: usize) {
        if written == self.data_bytes {
            self.data.clear();
            self.data_bytes = 0;
            return;
        }
        while written > 0 && !self.data.is_empty() {
            written = self.advance_front(written);
        }
        self.taken_bytes = 0;
    }

    /// Forgets the first `written` bytes of what `slices` gave.
    pub(crate) fn advance(&mut self, mut written: usize) {
        if self.partial {
            written = self.advance_front(written);
            if self.partial {
                return;
            }
        }
        let control = written.min(self.control.len());
        self.control.drain(..control);
        written -= control;
        while written > 0 && !self.data.is_empty() {
            written = self.advance_front(written);
        }
    }

    fn advance_front(&mut self, written: usize) -> usize {
        let Some(front) = self.data.front_mut() else { return 0 };
        let taken = written.min(front.len());
        front.advance(taken);
        self.data_bytes -= taken;
        self.taken_bytes += taken as u64;
        self.partial = !front.is_empty();
        if !self.partial {
            self.data.pop_front();
        }
        written - taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next_bytes(outbox: &Outbox) -> Vec<u8> {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let filled = outbox.slices(&mut slices);
        slices[..filled].iter().flat_map(|slice| slice.to_vec()).collect()
    }

    #[test]
    fn control_goes_before_waiting_data_but_not_into_a_frame() {
        let mut outbox = Outbox::default();
        outbox.push_rest(Bytes::from_static(b"rest"));
        outbox.push_data(Bytes::from_static(b"data"), 100).unwrap();
        outbox.push_control(b"ping").unwrap();

        assert_eq!(next_bytes(&outbox), b"restpingdata");

        outbox.advance(2);
        assert_eq!(next_bytes(&outbox), b"stpingdata");
        outbox.advance(4);
        assert_eq!(next_bytes(&outbox), b"ngdata");
        outbox.advance(3);
        outbox.push_control(b"pong").unwrap();
        assert_eq!(next_bytes(&outbox), b"atapong");
        outbox.advance(7);
        assert!(outbox.is_empty());
        assert_eq!(outbox.data_bytes(), 0);
    }

    #[test]
    fn each_lane_has_its_bound() {
        let mut outbox = Outbox::default();

        assert_eq!(outbox.push_data(Bytes::from_static(b"12345"), 5), Ok(()));
        assert_eq!(outbox.push_data(Bytes::from_static(b"6"), 5), Err(Full));
        assert_eq!(outbox.push_control(&[0; CONTROL_BYTES_MAX]), Ok(()));
        assert_eq!(outbox.push_control(&[0]), Err(Full));
    }

    #[test]
    fn what_is_free_takes_up_no_room_and_what_comes_behind_it_does() {
        let mut outbox = Outbox::default();
        outbox.push_rest(Bytes::from_static(b"1234"));
        outbox.push_data(Bytes::from_static(b"56789"), 100).unwrap();
        outbox.free_room();

        assert_eq!(outbox.push_data(Bytes::from_static(b"abcde"), 5), Ok(()));
        assert_eq!((outbox.data_bytes(), outbox.counted_bytes(), outbox.free_bytes()), (14, 5, 9));
        assert_eq!(outbox.push_data(Bytes::from_static(b"f"), 5), Err(Full));
        outbox.advance(9);
        assert_eq!(outbox.push_data(Bytes::from_static(b"f"), 5), Err(Full));
        outbox.advance(1);
        assert_eq!(outbox.push_data(Bytes::from_static(b"f"), 5), Ok(()));
        assert_eq!((outbox.data_bytes(), outbox.counted_bytes()), (5, 5));
    }

    #[test]
    fn a_frame_that_was_begun_is_not_dropped() {
        let mut outbox = Outbox::default();
        outbox.push_rest(Bytes::from_static(b"rest"));
        outbox.push_data(Bytes::from_static(b"data"), 100).unwrap();

        outbox.drop_data();

        assert_eq!(next_bytes(&outbox), b"rest");
        assert_eq!(outbox.data_bytes(), 4);
    }

    #[test]
    fn more_frames_than_one_write_takes_go_out_in_order() {
        let mut outbox = Outbox::default();
        for number in 0..40_u8 {
            outbox.push_data(Bytes::copy_from_slice(&[number]), 100).unwrap();
        }

        let mut seen = Vec::new();
        while !outbox.is_empty() {
            let bytes = next_bytes(&outbox);
            outbox.advance(bytes.len());
            seen.extend(bytes);
        }

        assert_eq!(seen, (0..40).collect::<Vec<_>>());
    }
}
