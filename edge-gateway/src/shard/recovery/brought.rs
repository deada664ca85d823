//! Keeps what sockets bring from other shards and edges within a bound.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;

use super::{
    ConnectionKey, Missed, Shard, Wanted,
    claims::{Claimed, Found},
    log::LOG_BYTES_MAX,
};
use crate::transport::mailbox::Place;

/// Most bytes that the sockets of a shard may have brought while it is not certain that their clients have got them. Who
/// brings more is a new socket.
const BROUGHT_BYTES_MAX: usize = 64 * 1024 * 1024;

/// From so many bytes on that a client missed and does not read, it goes on with no other socket on the same connection.
const UNREAD_BYTES_MAX: usize = LOG_BYTES_MAX;

/// How much all sockets of a shard have brought, also what has gone on to other shards of this edge.
#[derive(Debug, Default)]
pub(super) struct BroughtBytes(Arc<AtomicUsize>);

/// A part of it, until it is dropped.
#[derive(Debug, Default)]
pub(super) struct Share {
    all: Arc<AtomicUsize>,
    bytes: usize,
}

/// The frames of an event from another edge. They hold their room themselves: they may still wait for a client, or have
/// gone on to another shard, when the socket that brought them has ended.
#[derive(Debug)]
struct BroughtFrames {
    frames: Bytes,
    #[expect(dead_code, reason = "it holds the room until it is dropped")]
    share: Share,
}

/// All that a socket has brought.
#[derive(Debug, Default)]
pub(super) struct Brought {
    pub(super) missed: Vec<Missed>,
    #[expect(dead_code, reason = "it holds the room of all but the frames until it is dropped")]
    pub(super) share: Share,
}

/// There is no room for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NoRoom;

impl BroughtBytes {
    pub(super) fn share(&self) -> Share {
        Share::of(&self.0, 0)
    }
}

impl Share {
    fn of(all: &Arc<AtomicUsize>, bytes: usize) -> Self {
        all.fetch_add(bytes, Ordering::Relaxed);
        Self { all: Arc::clone(all), bytes }
    }

    /// Makes room for what comes from this place. Only the shard itself takes room, so that nobody comes in between.
    pub(super) fn add(&mut self, missed: &mut [Missed], from: Place) -> Result<(), NoRoom> {
        let bytes = missed.iter().map(|one| one.offset.len() + size_of::<Missed>()).sum();
        let frames: usize = missed.iter().map(|one| bytes_of_frames(one, from)).sum();
        if self.all.load(Ordering::Relaxed) + bytes + frames > BROUGHT_BYTES_MAX {
            return Err(NoRoom);
        }
        self.all.fetch_add(bytes, Ordering::Relaxed);
        self.bytes += bytes;
        for one in missed {
            let bytes = bytes_of_frames(one, from);
            if bytes > 0 {
                let share = Self::of(&self.all, bytes);
                let frames = std::mem::take(&mut one.frames);
                one.frames = Bytes::from_owner(BroughtFrames { frames, share });
            }
        }
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl AsRef<[u8]> for BroughtFrames {
    fn as_ref(&self) -> &[u8] {
        &self.frames
    }
}

/// The frames that come from a shard of this edge are in that shard's log, or hold their room there.
fn bytes_of_frames(missed: &Missed, from: Place) -> usize {
    match from {
        Place::Shard(_) => 0,
        Place::Edge(_) => missed.frames.len() + size_of::<BroughtFrames>(),
    }
}

impl Shard {
    /// Takes a claimed socket in, if there is room for what it brings. If not, it ends where it was when its time is up.
    pub(super) fn take_in(
        &self,
        wanted: Wanted,
        (place, mut claimed): (Place, Claimed),
    ) -> Result<Box<Found>, NoRoom> {
        let mut share = self.recovery.brought.share();
        share.add(&mut claimed.missed, place)?;
        Ok(Box::new(Found { wanted, place, claimed, share }))
    }

    /// What a client wants to go on with, unless too much of what it missed before waits on its connection. What was missed
    /// takes no room from live events there, and so nothing else would stop who goes on with one socket after the other and
    /// reads nothing.
    pub(in crate::shard) fn wanted_by_reader(
        &mut self,
        connection: ConnectionKey,
        wanted: Option<Wanted>,
    ) -> Option<Wanted> {
        let wanted = wanted?;
        let unread = self.entry(connection).map_or(0, |entry| entry.connection.unread_missed());
        if unread >= UNREAD_BYTES_MAX {
            self.common.metrics.recovered("no_room");
            return None;
        }
        Some(wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EDGE: Place = Place::Edge(1);

    /// Events that count for so many bytes when they come from another edge.
    fn missed(bytes: usize) -> [Missed; 1] {
        let others = "a-1".len() + size_of::<Missed>() + size_of::<BroughtFrames>();
        [Missed {
            offset: "a-1".into(),
            frames: vec![7; bytes - others].into(),
            fingerprint: 0,
            is_logged: false,
        }]
    }

    fn all(brought: &BroughtBytes) -> usize {
        brought.0.load(Ordering::Relaxed)
    }

    #[test]
    fn there_is_room_up_to_the_bound_and_again_when_a_socket_needs_none_any_more() {
        let brought = BroughtBytes::default();
        let [mut first, mut second, mut third] = [(); 3].map(|()| brought.share());
        let [mut one, mut another, mut last] = [(); 3].map(|()| missed(BROUGHT_BYTES_MAX / 2));

        assert_eq!(first.add(&mut one, EDGE), Ok(()));
        assert_eq!(second.add(&mut another, EDGE), Ok(()));
        assert_eq!(second.add(&mut missed(200), EDGE), Err(NoRoom));
        assert_eq!(third.add(&mut [], EDGE), Ok(()));
        assert_eq!(third.add(&mut last, EDGE), Err(NoRoom));
        drop((first, one));
        assert_eq!(third.add(&mut last, EDGE), Ok(()));
        assert_eq!(second.add(&mut missed(200), EDGE), Err(NoRoom));
        drop((second, another));
        assert_eq!(all(&brought), BROUGHT_BYTES_MAX / 2);
        assert!(last[0].frames.iter().all(|byte| *byte == 7), "they are what they were");
    }

    #[test]
    fn frames_that_still_wait_when_their_socket_has_gone_take_up_room() {
        let brought = BroughtBytes::default();
        let mut share = brought.share();
        let mut large = missed(BROUGHT_BYTES_MAX);
        assert_eq!(share.add(&mut large, EDGE), Ok(()));
        // It waits for a client that has taken the first part of it.
        let waiting = large[0].frames.slice(BROUGHT_BYTES_MAX / 2..);

        drop((share, large));

        let mut next = missed(BROUGHT_BYTES_MAX / 2);
        assert_eq!(brought.share().add(&mut next, EDGE), Err(NoRoom));
        drop(waiting);
        assert_eq!(all(&brought), 0);
        assert_eq!(brought.share().add(&mut next, EDGE), Ok(()));
    }

    #[test]
    fn what_goes_on_to_another_shard_takes_up_room_where_it_was_brought() {
        let [brought, there] = [(); 2].map(|()| BroughtBytes::default());
        let mut share = brought.share();
        let mut large = missed(BROUGHT_BYTES_MAX);
        assert_eq!(share.add(&mut large, EDGE), Ok(()));
        let mut moved = large.clone();
        let mut share_there = there.share();

        assert_eq!(share_there.add(&mut moved, Place::Shard(0)), Ok(()));
        drop((share, large));

        assert_eq!(brought.share().add(&mut missed(BROUGHT_BYTES_MAX / 2), EDGE), Err(NoRoom));
        std::thread::spawn(move || drop(moved)).join().unwrap();
        assert_eq!(all(&brought), 0);
        assert!((1..1000).contains(&all(&there)));
    }

    #[test]
    fn what_a_shard_of_this_edge_keeps_anyway_takes_little_room() {
        let brought = BroughtBytes::default();
        let mut share = brought.share();
        let mut large = missed(BROUGHT_BYTES_MAX);

        for _ in 0..1000 {
            assert_eq!(share.add(&mut large, Place::Shard(0)), Ok(()));
        }

        assert!((1000..1_000_000).contains(&all(&brought)));
    }
}
