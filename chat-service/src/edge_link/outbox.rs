//! What waits to be sent over one life of a link, and which events are not done with yet.

mod progress;

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use tokio::sync::{Notify, futures::Notified};

use self::progress::Progress;
use super::{
    course::Course,
    instructions::{Instructions, Note},
};
use crate::{room_key::RoomKey, room_log::Position, socket::LinkKey};

/// Most bytes of instructions that the edge has not confirmed. One more, and the life of the link is given up: the edge
/// announces its sockets anew, and what they missed is read from the logs.
pub(crate) const OUTBOX_BYTES_MAX: usize = 4 * 1024 * 1024;

/// With so many bytes unconfirmed or expected, no further events of this link are begun. The distance to the bound is
/// for what other links send here.
const OUTBOX_BYTES_BUSY: usize = OUTBOX_BYTES_MAX / 2;

/// What comes of one event is not spread over frames if it is no more than this: the edge carries out a frame as one group, so
/// that the answer has reached its client wherever the effects have reached the edge.
const ANSWER_INSTRUCTIONS_MAX: usize = 16;

/// Most instructions, and about how many bytes of them, in one frame. An edge may confirm as seldom as every 64 frames,
/// which must be well before the outbox overflows.
const FRAME_INSTRUCTIONS_MAX: usize = 256;
const FRAME_BYTES_MAX: usize = 32 * 1024;

/// The outbox of one life of a link. Workers and callers put instructions in; the link's own task takes them out. Nobody
/// ever waits to put something in.
#[derive(Debug, Clone)]
pub(crate) struct Outbox {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    link: LinkKey,
    /// The edge has told of all the sockets that it had when this life began.
    all_announced: AtomicBool,
    /// How many pieces of work are not done with. Changed under the lock where that may be what the link waits for.
    tickets: AtomicUsize,
    /// Held for a few lines at a time, never across an await.
    queue: Mutex<Queue>,
    changed: Notify,
    /// Something was confirmed, or the life is over.
    freed: Notify,
}

/// One piece of work, such as an event. When dropped, it is done with, and what came of it is in the outbox.
#[derive(Debug)]
pub(crate) struct Ticket {
    outbox: Outbox,
    seq: u64,
    expected_bytes: usize,
    pub(crate) instructions: Instructions,
    /// One that is done with no sooner: it is dropped behind this one.
    followed_by: Option<Arc<Self>>,
}

/// What one frame is made of.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Batch {
    /// The instructions, as the frame's fields.
    pub(super) fields: Vec<u8>,
    count: usize,
    /// Every EdgeFrame up to this one is done with, as of the last of the instructions.
    pub(super) ack: Option<u64>,
}

/// How the outbox stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) has_output: bool,
    /// Further events of this link may be begun.
    pub(super) has_room: bool,
    /// Why this life cannot go on, if it cannot.
    pub(crate) broken: Option<Breakage>,
    /// Events are being worked on.
    pub(super) has_work: bool,
}

#[derive(Debug, Default)]
struct Queue {
    /// The frames to come. All but the last are full.
    waiting: VecDeque<Batch>,
    /// Of what waits and of what was taken and is not confirmed.
    bytes: usize,
    /// Of answers to events that are being worked on, as far as one can know.
    expected_bytes: usize,
    /// Volatile instructions for which there was no room.
    dropped: u64,
    progress: Progress,
    /// Rooms that were given a page of what they missed, and whether that was all.
    caught_up: Vec<(RoomKey, bool)>,
    /// Sockets whose clients want to go on with others, and whether all is there that these missed.
    verified: Vec<(u64, bool)>,
    course: Course,
    state: QueueState,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum QueueState {
    #[default]
    Open,
    Broken(Breakage),
    Closed,
}

/// Why a life of a link cannot go on, although nobody has ended it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Breakage {
    /// The edge does not keep up.
    Overflow,
    /// What it was to be sent is lost.
    Loss,
}

impl Outbox {
    pub(crate) fn new(link: LinkKey) -> Self {
        let (changed, freed) = (Notify::new(), Notify::new());
        let (all_announced, queue) = (AtomicBool::new(false), Mutex::default());
        let tickets = AtomicUsize::new(0);
        let shared = Shared { link, all_announced, tickets, queue, changed, freed };
        Self { shared: Arc::new(shared) }
    }

    pub(crate) fn link(&self) -> LinkKey {
        self.shared.link
    }

    /// Every socket of the link is in the registry from now on.
    pub(super) fn note_all_announced(&self) {
        self.shared.all_announced.store(true, Ordering::Release);
    }

    /// Whether a socket of the link that is not in the registry is none.
    pub(super) fn is_all_announced(&self) -> bool {
        self.shared.all_announced.load(Ordering::Acquire)
    }

    /// Whether this life of the link is over. Nothing that its sockets asked for may have an effect any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.queue().state != QueueState::Open
    }

    /// Adds instructions that no event of this link has caused. Without effect when the life is over.
    pub(crate) fn push(&self, instructions: &Instructions) {
        if !instructions.is_empty() {
            self.change(|queue| queue.push(instructions));
        }
    }

    /// Notes that a frame has come, which must be the next one, with so many events.
    pub(super) fn begin_frame(&self, event_count: usize) {
        self.change(|queue| {
            queue.progress.undone.push_back(event_count);
            queue.note_progress();
        });
    }

    /// Issues the ticket for one of the events that `begin_frame` has counted.
    pub(super) fn ticket(&self, seq: u64, instructions: Instructions) -> Ticket {
        self.shared.tickets.fetch_add(1, Ordering::Relaxed);
        Ticket { outbox: self.clone(), seq, expected_bytes: 0, instructions, followed_by: None }
    }

    /// Issues a ticket for work that stems from no event.
    pub(crate) fn extra_ticket(&self) -> Ticket {
        self.ticket(Progress::NO_FRAME, Instructions::default())
    }

    /// Tells the link that the sockets of a room were given a page of what they missed, and whether that was all.
    pub(crate) fn note_caught_up(&self, room: RoomKey, complete: bool) {
        self.change(|queue| queue.caught_up.push((room, complete)));
    }

    pub(super) fn take_caught_up(&self) -> Vec<(RoomKey, bool)> {
        std::mem::take(&mut self.queue().caught_up)
    }

    /// Tells the link whether all is there that a socket missed which is to become this one.
    pub(super) fn note_verified(&self, handle: u64, complete: bool) {
        self.change(|queue| queue.verified.push((handle, complete)));
    }

    pub(super) fn take_verified(&self) -> Vec<(u64, bool)> {
        std::mem::take(&mut self.queue().verified)
    }

    /// Tells this life from others, for clients that come back later. Never 0.
    pub(super) fn memory(&self) -> u32 {
        let [.., a, b, c, d] = self.link().0.to_be_bytes();
        u32::from_be_bytes([a, b, c, d]).max(1)
    }

    /// Remembers from now on where a socket stands in its rooms.
    pub(super) fn follow(&self, handle: u64) {
        self.queue().course.follow(handle);
    }

    pub(super) fn unfollow(&self, handle: u64) {
        self.queue().course.forget(handle);
    }

    /// A socket that is followed is in a room, without having been told to join.
    pub(super) fn enter(&self, handle: u64, room: RoomKey, position: Option<Position>) {
        self.queue().course.enter(handle, room, position);
    }

    /// A socket that is followed is not in a room, without having been told to leave.
    pub(super) fn leave(&self, handle: u64, room: &RoomKey) {
        self.queue().course.leave(handle, room);
    }

    /// Where a socket stood in its rooms when it had been given the first so many emits with a position.
    pub(super) fn standing_of(
        &self,
        handle: u64,
        delivered: u64,
    ) -> Option<Vec<(RoomKey, Position)>> {
        self.queue().course.standing(handle, delivered)
    }

    pub(super) fn take_batch(&self) -> Option<Batch> {
        self.queue().waiting.pop_front()
    }

    /// Frees what the edge has confirmed.
    pub(super) fn confirm(&self, bytes: usize) {
        self.queue().bytes -= bytes;
        self.shared.freed.notify_waiters();
    }

    /// Waits until the edge has confirmed all but half of what the outbox holds, or the life is over.
    pub(crate) async fn has_room_again(&self) {
        loop {
            let freed = self.shared.freed.notified();
            if self.is_closed() || self.queue().bytes < OUTBOX_BYTES_BUSY {
                return;
            }
            freed.await;
        }
    }

    /// How many volatile instructions were dropped since the last time.
    pub(super) fn take_dropped(&self) -> u64 {
        std::mem::take(&mut self.queue().dropped)
    }

    /// Ends this life. What waits is gone.
    pub(super) fn close(&self) {
        let mut queue = self.queue();
        queue.state = QueueState::Closed;
        queue.waiting.clear();
        self.shared.freed.notify_waiters();
    }

    /// Ends this life from the side of a worker, because the edge cannot be sent all that it should.
    pub(crate) fn break_off(&self) {
        self.change(|queue| queue.break_off(Breakage::Loss));
        self.shared.freed.notify_waiters();
    }

    pub(crate) fn standing(&self) -> Standing {
        let queue = self.queue();
        let broken = match queue.state {
            QueueState::Broken(breakage) => Some(breakage),
            QueueState::Open | QueueState::Closed => None,
        };
        Standing {
            has_output: !queue.waiting.is_empty(),
            has_room: queue.bytes + queue.expected_bytes < OUTBOX_BYTES_BUSY,
            broken,
            has_work: self.shared.tickets.load(Ordering::Relaxed) > 0,
        }
    }

    /// Waits until something has changed since the last wait.
    pub(crate) fn changed(&self) -> Notified<'_> {
        self.shared.changed.notified()
    }

    fn change(&self, change: impl FnOnce(&mut Queue)) {
        change(&mut self.queue());
        self.shared.changed.notify_one();
    }

    /// A panic under the lock would be a fault of the queue's own arithmetic; the link goes on with what stands there.
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticket {
    /// Issues another ticket for the same event, which is done with when both are dropped.
    pub(super) fn another(&self) -> Self {
        self.outbox.queue().progress.add(self.seq);
        self.outbox.ticket(self.seq, Instructions::new(self.instructions.traceparent().to_owned()))
    }

    /// As [`another`](Self::another), and what comes of `ticket` stands behind what comes of this one.
    pub(super) fn before(ticket: &Arc<Self>) -> Self {
        let mut first = ticket.another();
        first.followed_by = Some(Arc::clone(ticket));
        first
    }

    /// Keeps room in the outbox for the answer, as long as the ticket lives.
    pub(super) fn expect(&mut self, bytes: usize) {
        self.outbox.queue().expected_bytes += bytes;
        self.expected_bytes += bytes;
    }

    pub(crate) fn outbox(&self) -> &Outbox {
        &self.outbox
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.outbox.change(|queue| {
            self.outbox.shared.tickets.fetch_sub(1, Ordering::Relaxed);
            queue.expected_bytes -= self.expected_bytes;
            queue.push(&self.instructions);
            queue.progress.finish(self.seq);
            queue.note_progress();
        });
    }
}

impl Queue {
    fn push(&mut self, instructions: &Instructions) {
        if self.state != QueueState::Open {
            return;
        }
        let is_answer = instructions.is_answer(ANSWER_INSTRUCTIONS_MAX);
        for (index, (field, note)) in instructions.fields().enumerate() {
            // What is volatile goes first when there is little room.
            if self.bytes >= OUTBOX_BYTES_BUSY && matches!(note, Note::Volatile) {
                self.dropped += 1;
                continue;
            }
            self.bytes += field.len();
            self.course.note(note);
            let continues = is_answer && index > 0;
            self.last_with_room(field.len(), continues).push(field);
        }
        if self.bytes > OUTBOX_BYTES_MAX {
            self.break_off(Breakage::Overflow);
        }
    }

    /// The batch for one more instruction of so many bytes, which may have to stand in that of the one before.
    fn last_with_room(&mut self, bytes: usize, continues: bool) -> &mut Batch {
        let has_room = |last: &Batch| continues || last.has_room(bytes);
        if !self.waiting.back().is_some_and(has_room) {
            self.waiting.push_back(Batch::default());
        }
        self.waiting.back_mut().expect("there is one now")
    }

    fn break_off(&mut self, breakage: Breakage) {
        if self.state == QueueState::Open {
            self.state = QueueState::Broken(breakage);
            self.waiting.clear();
        }
    }

    /// Lets the acknowledgement of what has become done stand behind the instructions that came of it.
    fn note_progress(&mut self) {
        let Some(done) = self.progress.advance() else { return };
        if self.state != QueueState::Open {
            return;
        }
        if self.waiting.is_empty() {
            self.waiting.push_back(Batch::default());
        }
        if let Some(last) = self.waiting.back_mut() {
            last.ack = Some(done);
        }
    }
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// What it counts for in the outbox.
    pub(super) fn bytes(&self) -> usize {
        self.fields.len()
    }

    fn has_room(&self, bytes: usize) -> bool {
        self.count == 0
            || (self.count < FRAME_INSTRUCTIONS_MAX && self.bytes() + bytes <= FRAME_BYTES_MAX)
    }

    fn push(&mut self, field: &[u8]) {
        self.fields.extend_from_slice(field);
        self.count += 1;
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;
    use prost::Message;
    use proto::edge::v1::{self as wire, instruction::Kind};

    use super::*;
    use crate::{
        edge_link::{Audience, Emit},
        room_key::Realm,
        socket::SocketKey,
    };

    impl Outbox {
        /// Everything that waits, as it would go out.
        pub(crate) fn take_instructions(&self) -> Vec<wire::Instruction> {
            let batches = std::iter::from_fn(|| self.take_batch());
            batches.flat_map(|batch| batch.instructions()).collect()
        }

        /// As [`take_instructions`](Self::take_instructions), and confirms them at once.
        pub(crate) fn take_confirmed(&self) -> Vec<wire::Instruction> {
            let batches: Vec<_> = std::iter::from_fn(|| self.take_batch()).collect();
            self.confirm(batches.iter().map(Batch::bytes).sum());
            batches.iter().flat_map(Batch::instructions).collect()
        }
    }

    impl Batch {
        fn instructions(&self) -> Vec<wire::Instruction> {
            wire::BackendFrame::decode(&*self.fields).unwrap().instructions
        }
    }

    const LINK: LinkKey = LinkKey(1);

    fn instruction(args: Bytes, ack_id: u64) -> Instructions {
        let mut instructions = Instructions::default();
        instructions.acknowledge(SocketKey { link: LINK, handle: 1 }, ack_id, args);
        instructions
    }

    fn ack_ids(batch: &Batch) -> Vec<u64> {
        let id = |instruction: &wire::Instruction| match &instruction.kind {
            Some(Kind::Acknowledge(acknowledge)) => acknowledge.ack_id,
            kind => panic!("{kind:?}"),
        };
        batch.instructions().iter().map(id).collect()
    }

    fn small(ack_id: u64) -> Instructions {
        instruction(Bytes::from_static(b"[]"), ack_id)
    }

    #[test]
    fn takes_everything_that_waits_into_one_batch() {
        let outbox = Outbox::new(LINK);
        outbox.push(&small(1));
        outbox.push(&small(2));

        assert_eq!(ack_ids(&outbox.take_batch().unwrap()), [1, 2]);
        assert_eq!(outbox.take_batch(), None);
    }

    #[test]
    fn a_frame_is_acknowledged_when_all_its_events_are_done_with_and_those_of_the_frames_before() {
        let outbox = Outbox::new(LINK);
        outbox.begin_frame(2);
        outbox.begin_frame(1);
        let first = outbox.ticket(1, Instructions::default());
        let second = outbox.ticket(1, small(7));
        let second_part = second.another();
        let third = outbox.ticket(2, Instructions::default());

        drop(third);
        drop(first);
        drop(second);
        assert_eq!(outbox.take_batch().unwrap().ack, None);
        drop(second_part);

        let batch = outbox.take_batch().unwrap();
        assert_eq!((batch.count, batch.ack), (0, Some(2)));
        assert!(!outbox.standing().has_work);
    }

    #[test]
    fn a_frame_without_events_is_done_with_at_once() {
        let outbox = Outbox::new(LINK);
        outbox.begin_frame(0);

        assert_eq!(outbox.take_batch().unwrap().ack, Some(1));
    }

    #[test]
    fn an_acknowledgement_never_overtakes_the_instructions_of_its_frame() {
        let outbox = Outbox::new(LINK);
        for seq in 1..=2 {
            outbox.begin_frame(1);
            let mut ticket = outbox.ticket(seq, Instructions::default());
            for id in 0..=FRAME_INSTRUCTIONS_MAX as u64 {
                ticket.instructions.acknowledge(
                    SocketKey { link: LINK, handle: 1 },
                    id,
                    Bytes::new(),
                );
            }
        }

        let batches: Vec<Batch> = std::iter::from_fn(|| outbox.take_batch()).collect();

        let shape: Vec<_> = batches.iter().map(|b| (b.count, b.ack)).collect();
        assert_eq!(shape, [(256, None), (256, Some(1)), (2, Some(2))]);
    }

    #[test]
    fn a_batch_ends_at_its_bytes_but_holds_at_least_one_instruction() {
        let outbox = Outbox::new(LINK);
        for id in 0..3 {
            outbox.push(&instruction(Bytes::from(vec![b' '; FRAME_BYTES_MAX]), id));
        }

        assert_eq!(ack_ids(&outbox.take_batch().unwrap()), [0]);
        assert_eq!(ack_ids(&outbox.take_batch().unwrap()), [1]);
    }

    #[test]
    fn what_comes_of_an_event_stays_together_with_its_answer() {
        let outbox = Outbox::new(LINK);
        let (socket, room) =
            (SocketKey { link: LINK, handle: 1 }, RoomKey::parse("/chat", "lobby").unwrap());
        outbox.push(&small(1));
        outbox.push(&small(2));
        let mut joined = Instructions::default();
        joined.leave(socket, &room);
        joined.acknowledge(socket, 3, Bytes::from(vec![b' '; FRAME_BYTES_MAX]));
        outbox.push(&joined);
        outbox.push(&small(4));

        let sizes: Vec<_> = std::iter::from_fn(|| outbox.take_batch()).map(|b| b.count).collect();

        assert_eq!(sizes, [4, 1]);
    }

    #[test]
    fn what_is_volatile_goes_first_when_there_is_little_room() {
        let outbox = Outbox::new(LINK);
        let typing = || {
            let mut instructions = Instructions::default();
            let emit = Emit {
                event: "typing",
                args: Bytes::new(),
                volatile: true,
                position: None,
                except_users: &[],
            };
            let realm = Realm::of_default("/chat");
            instructions.emit(Audience::Everyone { realm, except: None }, &emit);
            instructions
        };
        outbox.push(&typing());
        outbox.push(&instruction(Bytes::from(vec![b' '; OUTBOX_BYTES_BUSY]), 1));
        outbox.push(&typing());
        outbox.push(&small(2));

        assert_eq!(outbox.take_dropped(), 1);
        let waiting: usize = std::iter::from_fn(|| outbox.take_batch()).map(|b| b.count).sum();
        assert_eq!(waiting, 3);
        assert!(!outbox.is_closed());
    }

    #[test]
    fn overflows_at_its_bound_counting_what_is_not_confirmed() {
        let outbox = Outbox::new(LINK);
        let eighth = || instruction(Bytes::from(vec![b' '; OUTBOX_BYTES_MAX / 8 - 64]), 0);
        for _ in 0..8 {
            outbox.push(&eighth());
        }
        let taken = outbox.take_batch().unwrap();
        assert!(!outbox.is_closed());

        outbox.confirm(taken.bytes());
        outbox.push(&eighth());
        assert!(!outbox.is_closed());
        outbox.push(&eighth());

        assert!(outbox.is_closed());
        assert_eq!(outbox.standing().broken, Some(Breakage::Overflow));
        assert_eq!(outbox.take_batch(), None);
    }

    #[test]
    fn has_no_room_for_further_events_from_half_the_bound_on() {
        let outbox = Outbox::new(LINK);
        outbox.begin_frame(1);
        let mut ticket = outbox.ticket(1, Instructions::default());
        assert!(outbox.standing().has_room);

        ticket.expect(OUTBOX_BYTES_BUSY);
        assert!(!outbox.standing().has_room);

        drop(ticket);
        assert!(outbox.standing().has_room);
    }

    #[test]
    fn nothing_enters_a_closed_outbox() {
        let outbox = Outbox::new(LINK);
        outbox.begin_frame(1);
        let ticket = outbox.ticket(1, small(1));
        outbox.push(&small(2));

        outbox.close();
        outbox.push(&small(3));
        drop(ticket);

        assert_eq!(outbox.take_batch(), None);
    }

    proptest! {
        /// Whatever the order in which events are done with: the acknowledgement equals the number of frames all of whose
        /// events, and those of all frames before, are.
        #[test]
        fn acknowledges_exactly_the_completed_prefix(
            sizes in prop::collection::vec(0_usize..4, 1..8),
            order in prop::collection::vec(any::<prop::sample::Index>(), 32),
        ) {
            let outbox = Outbox::new(LINK);
            let mut tickets = Vec::new();
            for (index, size) in sizes.iter().enumerate() {
                outbox.begin_frame(*size);
                for _ in 0..*size {
                    tickets.push((index, outbox.ticket(index as u64 + 1, Instructions::default())));
                }
            }
            let mut undone = sizes.clone();
            let mut acknowledged = 0;
            for choice in order {
                acknowledged = outbox.take_batch().and_then(|batch| batch.ack).unwrap_or(acknowledged);
                let expected = undone.iter().take_while(|count| **count == 0).count();
                prop_assert_eq!(acknowledged, expected as u64);
                if tickets.is_empty() {
                    break;
                }
                let (index, ticket) = tickets.swap_remove(choice.index(tickets.len()));
                drop(ticket);
                undone[index] -= 1;
            }
        }
    }
}
