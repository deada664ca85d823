//! Who waits for whose answer: clients for business services, and business services for clients.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    time::{Duration, Instant},
};

use bytes::Bytes;
use foldhash::fast::FixedState;
use proto::edge::v1::{AckRequest, Emit};
use smallvec::SmallVec;

use super::{LinkKey, Shard, SocketKey};

/// How many events of one socket may wait for their answers.
pub(crate) const CLIENT_ACKS_MAX: usize = 1024;

/// Deadlines are looked through for those of answered events when there are more than twice as many as events, and so many.
const SWEPT_FROM: usize = 1024;

/// The same for what one socket is to answer.
const DUE_SWEPT_FROM: usize = 8;

/// The events that clients want answered, each until it is, its socket is gone, or its deadline has passed.
#[derive(Debug, Default)]
pub(crate) struct ClientAcks {
    /// By the socket's handle. Most sockets that wait do so for one answer.
    waiting: Waiting,
    count: usize,
    /// In their order, which is that of arrival. May be those of answered events, or of others before them under the same id.
    deadlines: VecDeque<(Instant, AckKey)>,
}

type Waiting = HashMap<u64, SmallVec<[(u64, ClientAck); 1]>, FixedState>;

/// An event, by its socket's handle and the id of its ack.
pub(crate) type AckKey = (u64, u64);

/// A client that waits for an answer.
#[derive(Debug)]
pub(crate) struct ClientAck {
    pub(crate) asked_at: Instant,
    /// When it is given up.
    pub(crate) deadline: Instant,
    /// What a plain JSON client calls its request: JSON text.
    pub(crate) json_id: Option<Box<[u8]>>,
}

/// So many events of a socket wait that one more may not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooManyAcks {
    /// When the first of them is given up, if none is answered before.
    pub(crate) retry_at: Instant,
}

impl ClientAcks {
    /// Has an event wait, in the place of one of the same socket with the same id.
    pub(crate) fn insert(&mut self, (handle, id): AckKey, ack: ClientAck) {
        let deadline = ack.deadline;
        let waiting = self.waiting.entry(handle).or_default();
        match waiting.iter_mut().find(|(waiting, _)| *waiting == id) {
            Some((_, waiting)) => *waiting = ack,
            None => {
                waiting.push((id, ack));
                self.count += 1;
            }
        }
        if self.deadlines.len() > SWEPT_FROM.max(self.count * 2) {
            let mut deadlines = std::mem::take(&mut self.deadlines);
            deadlines.retain(|deadline| self.is_due(*deadline));
            self.deadlines = deadlines;
        }
        self.deadlines.push_back((deadline, (handle, id)));
    }

    /// Whether one more event of a socket may wait.
    pub(crate) fn admit(&self, handle: u64) -> Result<(), TooManyAcks> {
        let Some(waiting) = self.waiting.get(&handle) else { return Ok(()) };
        match waiting.first() {
            Some((_, first)) if waiting.len() >= CLIENT_ACKS_MAX => {
                Err(TooManyAcks { retry_at: first.deadline })
            }
            Some(_) | None => Ok(()),
        }
    }

    pub(crate) fn is_waiting(&self, key: AckKey) -> bool {
        find(&self.waiting, key).is_some()
    }

    /// Whether a deadline is that of an event that waits.
    fn is_due(&self, (deadline, key): (Instant, AckKey)) -> bool {
        find(&self.waiting, key).is_some_and(|ack| ack.deadline == deadline)
    }

    /// Ends the wait for an answer; none if nobody waits for it any more.
    pub(crate) fn take(&mut self, (handle, id): AckKey) -> Option<ClientAck> {
        let waiting = self.waiting.get_mut(&handle)?;
        let place = waiting.iter().position(|(waiting, _)| *waiting == id)?;
        // In order: most answers come in that of the events.
        let (_, ack) = waiting.remove(place);
        if waiting.is_empty() {
            self.waiting.remove(&handle);
        }
        self.count -= 1;
        while self.deadlines.front().is_some_and(|first| !self.is_due(*first)) {
            self.deadlines.pop_front();
        }
        Some(ack)
    }

    /// Forgets what a socket waits for that is gone.
    pub(crate) fn forget(&mut self, handle: u64) {
        self.count -= self.waiting.remove(&handle).map_or(0, |waiting| waiting.len());
    }

    /// The next event whose deadline has passed unanswered. It goes on waiting until it is taken.
    pub(crate) fn overdue(&mut self, now: Instant) -> Option<AckKey> {
        while let Some(first) = self.deadlines.pop_front_if(|(deadline, _)| *deadline <= now) {
            if self.is_due(first) {
                return Some(first.1);
            }
        }
        None
    }
}

fn find(waiting: &Waiting, (handle, id): AckKey) -> Option<&ClientAck> {
    let (_, ack) = waiting.get(&handle)?.iter().find(|(one, _)| *one == id)?;
    Some(ack)
}

/// The events that business services want clients to acknowledge.
#[derive(Debug, Default)]
pub(crate) struct ServerAcks {
    waiting: Questions,
    /// What each socket is to answer, so that one which leaves need not be looked for everywhere.
    due: HashMap<SocketKey, Due, FixedState>,
    /// How many sockets' answers are due, over all of them.
    awaited: usize,
    last_id: u64,
}

/// A business service that waits for the answers of clients.
#[derive(Debug)]
pub(crate) struct ServerAck {
    link: LinkKey,
    tag: u64,
    sockets: Awaited,
    asked: u32,
    answered: u32,
    deadline: Instant,
}

type Questions = HashMap<u64, ServerAck, FixedState>;

/// What one socket is to answer.
#[derive(Debug, Default)]
struct Due {
    /// May name what it has answered, and what nobody waits for any more.
    ids: SmallVec<[u64; 2]>,
    /// How many of them it has not.
    count: usize,
}

/// Sockets whose answers are due: a few in place, and many by their hashes, since each of them is looked for.
#[derive(Debug)]
enum Awaited {
    Few(SmallVec<[SocketKey; 4]>),
    Many(HashSet<SocketKey, FixedState>),
}

impl Awaited {
    fn new(sockets: SmallVec<[SocketKey; 4]>) -> Self {
        if sockets.spilled() {
            Self::Many(sockets.into_iter().collect())
        } else {
            Self::Few(sockets)
        }
    }

    /// Returns whether its answer was due.
    fn remove(&mut self, socket: SocketKey) -> bool {
        match self {
            Self::Few(sockets) => {
                let place = sockets.iter().position(|waiting| *waiting == socket);
                place.map(|place| sockets.swap_remove(place)).is_some()
            }
            Self::Many(sockets) => sockets.remove(&socket),
        }
    }

    fn contains(&self, socket: SocketKey) -> bool {
        match self {
            Self::Few(sockets) => sockets.contains(&socket),
            Self::Many(sockets) => sockets.contains(&socket),
        }
    }

    fn for_each(&self, visit: impl FnMut(SocketKey)) {
        match self {
            Self::Few(sockets) => sockets.iter().copied().for_each(visit),
            Self::Many(sockets) => sockets.iter().copied().for_each(visit),
        }
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn len(&self) -> usize {
        match self {
            Self::Few(sockets) => sockets.len(),
            Self::Many(sockets) => sockets.len(),
        }
    }
}

impl ServerAck {
    pub(crate) fn new(
        link: LinkKey,
        tag: u64,
        sockets: SmallVec<[SocketKey; 4]>,
        deadline: Instant,
    ) -> Self {
        let asked = u32::try_from(sockets.len()).unwrap_or(u32::MAX);
        Self { link, tag, sockets: Awaited::new(sockets), asked, answered: 0, deadline }
    }
}

impl ServerAcks {
    /// The ack id for the next event that asks, which all its recipients get; none if `max` answers are due already.
    fn next_id(&mut self, max: usize) -> Option<u64> {
        (self.awaited < max).then(|| {
            self.last_id += 1;
            self.last_id
        })
    }

    fn insert(&mut self, id: u64, ack: ServerAck) {
        self.awaited += ack.sockets.len();
        ack.sockets.for_each(|socket| {
            let due = self.due.entry(socket).or_default();
            due.ids.push(id);
            due.count += 1;
        });
        self.waiting.insert(id, ack);
    }

    fn remove(&mut self, id: u64) -> Option<ServerAck> {
        let ack = self.waiting.remove(&id)?;
        self.awaited -= ack.sockets.len();
        ack.sockets.for_each(|socket| not_due(&mut self.due, &self.waiting, socket));
        Some(ack)
    }

    /// Takes a socket's answer; none if it was not asked, or has answered before.
    fn answered(&mut self, id: u64, socket: SocketKey) -> Option<(LinkKey, u64)> {
        let ack = self.waiting.get_mut(&id).filter(|ack| ack.sockets.contains(socket))?;
        ack.sockets.remove(socket);
        ack.answered += 1;
        let question = (ack.link, ack.tag);
        self.awaited -= 1;
        not_due(&mut self.due, &self.waiting, socket);
        Some(question)
    }

    /// Expects no answer of a socket any more; returns the questions that nobody is left to answer.
    fn leave(&mut self, socket: SocketKey) -> SmallVec<[u64; 4]> {
        let mut finished = SmallVec::new();
        let Some(due) = self.due.remove(&socket) else { return finished };
        for id in due.ids {
            if let Some(ack) = self.waiting.get_mut(&id)
                && ack.sockets.remove(socket)
            {
                self.awaited -= 1;
                if ack.sockets.is_empty() {
                    finished.push(id);
                }
            }
        }
        finished
    }

    /// Forgets what was asked by a business service that is no more: its successor may give its tags out again.
    pub(crate) fn forget(&mut self, link: LinkKey) {
        let of_link = self.waiting.iter().filter(|(_, ack)| ack.link == link);
        let ids: Vec<_> = of_link.map(|(id, _)| *id).collect();
        for id in ids {
            self.remove(id);
        }
    }
}

/// One answer of a socket is due no more. What else it was asked is looked through now and then for what is due.
fn not_due(
    due: &mut HashMap<SocketKey, Due, FixedState>,
    questions: &Questions,
    socket: SocketKey,
) {
    let Some(of_socket) = due.get_mut(&socket) else { return };
    of_socket.count -= 1;
    if of_socket.count == 0 {
        due.remove(&socket);
    } else if of_socket.ids.len() > DUE_SWEPT_FROM.max(of_socket.count * 2) {
        let is_due = |id: &mut u64| {
            questions.get(id).is_some_and(|question| question.sockets.contains(socket))
        };
        of_socket.ids.retain(is_due);
    }
}

impl Shard {
    /// Whether one more event of a socket may wait for its answer; if not, when to come again.
    pub(super) fn admit_ack(
        &mut self,
        handle: u64,
        ack_id: Option<u64>,
        now: Instant,
    ) -> Result<(), Duration> {
        if ack_id.is_none() {
            return Ok(());
        }
        let admitted = self.client_acks.admit(handle);
        admitted.map_err(|TooManyAcks { retry_at }| {
            self.common.metrics.drops.rate_limited.increment(1);
            self.common.metrics.limit_hits.acks.increment(1);
            retry_at.saturating_duration_since(now)
        })
    }

    /// What the recipients of an event are to answer it by. None if its business service wants no answer, or if so many are due
    /// already that nobody is asked for one more.
    pub(super) fn ack_id_of(&mut self, emit: &Emit) -> Option<u64> {
        emit.ask.as_ref()?;
        let id = self.server_acks.next_id(self.limits.awaited_answers_max);
        if id.is_none() {
            self.common.metrics.limit_hits.awaited_answers.increment(1);
        }
        id
    }

    /// Tells a business service that nobody was asked whom it wanted to answer.
    pub(super) fn asked_nobody(&mut self, link: LinkKey, ask: &AckRequest, recipients: u32) {
        if let Some(link) = self.links.get_mut(link.0) {
            link.ack_finished(ask.tag, recipients, 0);
        }
    }

    /// Starts to wait for answers. With none to wait for, the end is told at once.
    pub(crate) fn ask(&mut self, id: u64, ack: ServerAck) {
        self.server_acks.insert(id, ack);
        self.finish_server_ack_if_done(id);
    }

    /// Passes on a client's answer. An answer that nobody waits for is counted and otherwise ignored.
    pub(crate) fn client_answered(
        &mut self,
        socket: SocketKey,
        id: u64,
        args: &str,
        attachments: &[Bytes],
    ) {
        let Some(handle) = self.sockets.get(socket.index()).map(|socket| socket.handle) else {
            return;
        };
        let Some((link, tag)) = self.server_acks.answered(id, socket) else {
            return self.common.metrics.drops.unexpected_ack.increment(1);
        };
        if let Some(link) = self.links.get_mut(link.0) {
            link.client_answered(handle, tag, args, attachments);
        }
        self.finish_server_ack_if_done(id);
    }

    /// Nobody needs to wait for a socket that is gone.
    pub(crate) fn finish_server_acks_of(&mut self, socket: SocketKey) {
        for id in self.server_acks.leave(socket) {
            self.finish_server_ack(id);
        }
    }

    pub(crate) fn expire_server_acks(&mut self, now: Instant) {
        let overdue: SmallVec<[u64; 4]> = self
            .server_acks
            .waiting
            .iter()
            .filter(|(_, ack)| ack.deadline <= now)
            .map(|(id, _)| *id)
            .collect();
        for id in overdue {
            self.finish_server_ack(id);
        }
    }

    fn finish_server_ack_if_done(&mut self, id: u64) {
        if self.server_acks.waiting.get(&id).is_some_and(|ack| ack.sockets.is_empty()) {
            self.finish_server_ack(id);
        }
    }

    fn finish_server_ack(&mut self, id: u64) {
        let Some(ack) = self.server_acks.remove(id) else { return };
        if let Some(link) = self.links.get_mut(ack.link.0) {
            link.ack_finished(ack.tag, ack.asked, ack.answered);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ack(now: Instant, timeout: Duration) -> ClientAck {
        ClientAck { asked_at: now, deadline: now + timeout, json_id: None }
    }

    #[test]
    fn so_many_events_of_a_socket_wait_and_no_more() {
        let (now, timeout) = (Instant::now(), Duration::from_secs(10));
        let mut acks = ClientAcks::default();
        for id in 0..1024 {
            assert_eq!(acks.admit(7), Ok(()), "{id}");
            acks.insert((7, id), ack(now, timeout));
        }

        assert_eq!(acks.admit(7), Err(TooManyAcks { retry_at: now + timeout }));
        assert_eq!(acks.admit(8), Ok(()), "another socket");
        assert!(acks.take((7, 0)).is_some());
        assert_eq!(acks.admit(7), Ok(()));
    }

    #[test]
    fn nothing_is_kept_of_sockets_that_are_gone() {
        let (now, timeout) = (Instant::now(), Duration::from_secs(10));
        let mut acks = ClientAcks::default();
        acks.insert((0, 0), ack(now, timeout));
        for handle in 1..100_000 {
            for id in 0..3 {
                acks.insert((handle, id), ack(now, timeout));
            }
            acks.forget(handle);
        }

        assert_eq!((acks.waiting.len(), acks.count), (1, 1));
        assert!(acks.deadlines.len() <= SWEPT_FROM + 1, "{}", acks.deadlines.len());
        assert!(acks.is_waiting((0, 0)));
        assert_eq!(acks.overdue(now + timeout), Some((0, 0)));
    }

    #[test]
    fn an_id_that_comes_again_waits_anew_and_leaves_nothing_behind() {
        let (began, timeout) = (Instant::now(), Duration::from_secs(10));
        let mut acks = ClientAcks::default();
        acks.insert((0, 0), ack(began, timeout));
        let mut last = began;
        for number in 1..=100_000 {
            last = began + Duration::from_micros(number);
            acks.insert((7, 42), ack(last, timeout));
            if number % 3 == 0 {
                assert!(acks.take((7, 42)).is_some());
            }
            assert!(acks.deadlines.len() <= SWEPT_FROM + 1, "{}", acks.deadlines.len());
        }

        assert_eq!(acks.overdue(began + timeout), Some((0, 0)));
        assert!(acks.take((0, 0)).is_some());
        assert!(acks.is_waiting((7, 42)));
        assert_eq!(acks.overdue(last + timeout - Duration::from_micros(1)), None);
        assert_eq!(acks.overdue(last + timeout), Some((7, 42)));
    }

    #[test]
    fn so_many_answers_of_clients_are_due_and_no_more() {
        let deadline = Instant::now();
        let asking = |link, sockets: std::ops::Range<u32>| {
            ServerAck::new(LinkKey(link), 1, sockets.map(SocketKey).collect(), deadline)
        };
        let mut acks = ServerAcks::default();

        acks.insert(acks.last_id, asking(0, 0..7));
        let id = acks.next_id(8).unwrap();
        acks.insert(id, asking(1, 0..1));
        assert_eq!(acks.next_id(8), None);
        acks.remove(id).unwrap();
        let id = acks.next_id(8).unwrap();
        acks.insert(id, asking(1, 0..5));
        assert_eq!(acks.next_id(8), None, "one question may go beyond");
        acks.forget(LinkKey(0));

        assert_eq!(acks.awaited, 5);
        assert!(acks.next_id(8).is_some());
        assert_eq!(acks.due.len(), 5, "those of the other link are forgotten");
    }

    #[test]
    fn who_leaves_ends_what_it_alone_was_to_answer() {
        let asking = |sockets: &[u32]| {
            let sockets = sockets.iter().copied().map(SocketKey).collect();
            ServerAck::new(LinkKey(0), 1, sockets, Instant::now())
        };
        let mut acks = ServerAcks::default();
        for (id, sockets) in [(1, &[7][..]), (2, &[7, 8]), (3, &[8]), (4, &[7]), (5, &[7])] {
            acks.insert(id, asking(sockets));
        }
        assert_eq!(acks.answered(4, SocketKey(7)), Some((LinkKey(0), 1)));
        assert_eq!(acks.answered(4, SocketKey(7)), None, "once");
        acks.remove(5);

        assert_eq!(acks.leave(SocketKey(7)).to_vec(), [1]);

        assert_eq!((acks.awaited, acks.due.len()), (2, 1));
        assert!(acks.leave(SocketKey(7)).is_empty());
        assert_eq!(acks.leave(SocketKey(8)).to_vec(), [2, 3]);
        assert_eq!((acks.awaited, acks.due.len()), (0, 0));
    }

    #[test]
    fn what_a_socket_has_answered_is_not_kept() {
        let (mut acks, socket) = (ServerAcks::default(), SocketKey(7));
        let asking =
            || ServerAck::new(LinkKey(0), 1, [socket].into_iter().collect(), Instant::now());
        acks.insert(0, asking());

        for id in 1..10_000 {
            acks.insert(id, asking());
            assert!(acks.answered(id, socket).is_some());
            acks.remove(id);
            assert!(acks.due[&socket].ids.len() <= DUE_SWEPT_FROM + 1);
        }

        assert_eq!((acks.awaited, acks.due[&socket].count), (1, 1));
        assert_eq!(acks.leave(socket).to_vec(), [0]);
    }

    #[test]
    fn each_answer_is_due_once_however_many_there_are() {
        for count in [0, 1, 4, 5, 1000] {
            let mut awaited = Awaited::new((0..count).map(SocketKey).collect());

            assert!(!awaited.remove(SocketKey(count)), "it was not asked");
            for socket in (0..count).map(SocketKey) {
                assert!(!awaited.is_empty());
                assert!(awaited.remove(socket) && !awaited.remove(socket));
            }
            assert!(awaited.is_empty());
        }
    }
}
