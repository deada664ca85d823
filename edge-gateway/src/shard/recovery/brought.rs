//! Keeps what sockets bring from other shards and edges within a bound.

use std::{cell::Cell, rc::Rc};

use super::{
    Missed, Shard, Wanted,
    claims::{Claimed, Found},
};
use crate::transport::mailbox::Place;

/// Most bytes that the sockets of a shard may have brought while it is not certain that their clients have got them. Who
/// brings more is a new socket.
const BROUGHT_BYTES_MAX: usize = 64 * 1024 * 1024;

/// How much all sockets of a shard have brought.
#[derive(Debug, Default)]
pub(super) struct BroughtBytes(Rc<Cell<usize>>);

/// What one socket has of it, until it is dropped.
#[derive(Debug, Default)]
pub(super) struct Share {
    all: Rc<Cell<usize>>,
    bytes: usize,
}

/// All that a socket has brought.
#[derive(Debug, Default)]
pub(super) struct Brought {
    pub(super) missed: Vec<Missed>,
    #[expect(dead_code, reason = "it holds the room until it is dropped")]
    pub(super) share: Share,
}

/// There is no room for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NoRoom;

impl BroughtBytes {
    pub(super) fn share(&self) -> Share {
        Share { all: Rc::clone(&self.0), bytes: 0 }
    }
}

impl Share {
    /// Makes room for what comes from this place.
    pub(super) fn add(&mut self, missed: &[Missed], from: Place) -> Result<(), NoRoom> {
        let bytes: usize = missed.iter().map(|one| bytes_of(one, from)).sum();
        let all = self.all.get() + bytes;
        if all > BROUGHT_BYTES_MAX {
            return Err(NoRoom);
        }
        self.all.set(all);
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.all.set(self.all.get() - self.bytes);
    }
}

/// The frames that come from a shard of this edge are that shard's own.
fn bytes_of(missed: &Missed, from: Place) -> usize {
    let frames = match from {
        Place::Shard(_) => 0,
        Place::Edge(_) => missed.frames.len(),
    };
    frames + missed.offset.len() + size_of::<Missed>()
}

impl Shard {
    /// Takes a claimed socket in, if there is room for what it brings. If not, it ends where it was when its time is up.
    pub(super) fn take_in(
        &self,
        wanted: Wanted,
        (place, claimed): (Place, Claimed),
    ) -> Result<Box<Found>, NoRoom> {
        let mut share = self.recovery.brought.share();
        share.add(&claimed.missed, place)?;
        Ok(Box::new(Found { wanted, place, claimed, share }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An event that counts for so many bytes when it comes from another edge.
    fn missed(bytes: usize) -> Missed {
        Missed {
            offset: "a-1".into(),
            frames: vec![0; bytes - "a-1".len() - size_of::<Missed>()].into(),
            fingerprint: 0,
            is_logged: false,
        }
    }

    #[test]
    fn there_is_room_up_to_the_bound_and_again_when_a_socket_needs_none_any_more() {
        let brought = BroughtBytes::default();
        let [mut first, mut second, mut third] = [(); 3].map(|()| brought.share());
        let half = [missed(BROUGHT_BYTES_MAX / 2)];

        assert_eq!(first.add(&half, Place::Edge(1)), Ok(()));
        assert_eq!(second.add(&half, Place::Edge(1)), Ok(()));
        assert_eq!(second.add(&[missed(200)], Place::Edge(1)), Err(NoRoom));
        assert_eq!(third.add(&[], Place::Edge(1)), Ok(()));
        drop(first);
        assert_eq!(second.add(&half, Place::Edge(1)), Ok(()));
        assert_eq!(third.add(&half, Place::Edge(1)), Err(NoRoom));
        drop(second);
        assert_eq!(third.add(&half, Place::Edge(1)), Ok(()));
        assert_eq!(brought.0.get(), BROUGHT_BYTES_MAX / 2);
    }

    #[test]
    fn what_a_shard_of_this_edge_keeps_anyway_takes_little_room() {
        let brought = BroughtBytes::default();
        let mut share = brought.share();
        let large = missed(BROUGHT_BYTES_MAX);

        for _ in 0..1000 {
            assert_eq!(share.add(std::slice::from_ref(&large), Place::Shard(0)), Ok(()));
        }

        assert!((1000..1_000_000).contains(&brought.0.get()));
    }
}
