//! Who waits for whose answer: clients for business services, and business services for clients.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    time::Instant,
};

use bytes::Bytes;
use foldhash::fast::FixedState;
use smallvec::SmallVec;

use super::{LinkKey, Shard, SocketKey};

/// The events that clients want answered, each until it is or its deadline has passed.
#[derive(Debug, Default)]
pub(crate) struct ClientAcks {
    waiting: HashMap<AckKey, ClientAck, FixedState>,
    /// In the order of their deadlines, which is that of arrival. May name answered ones.
    deadlines: VecDeque<(Instant, AckKey)>,
}

/// An event, by its socket's handle and the id of its ack.
pub(crate) type AckKey = (u64, u64);

/// A client that waits for an answer.
#[derive(Debug)]
pub(crate) struct ClientAck {
    pub(crate) asked_at: Instant,
    /// What a plain JSON client calls its request: JSON text.
    pub(crate) json_id: Option<Box<[u8]>>,
}

impl ClientAcks {
    pub(crate) fn insert(&mut self, key: AckKey, ack: ClientAck, deadline: Instant) {
        self.waiting.insert(key, ack);
        self.deadlines.push_back((deadline, key));
    }

    pub(crate) fn is_waiting(&self, key: AckKey) -> bool {
        self.waiting.contains_key(&key)
    }

    /// Ends the wait for an answer; none if nobody waits for it any more.
    pub(crate) fn take(&mut self, key: AckKey) -> Option<ClientAck> {
        let ack = self.waiting.remove(&key);
        while self.deadlines.front().is_some_and(|(_, key)| !self.waiting.contains_key(key)) {
            self.deadlines.pop_front();
        }
        ack
    }

    /// The next event whose deadline has passed unanswered. It goes on waiting until it is taken.
    pub(crate) fn overdue(&mut self, now: Instant) -> Option<AckKey> {
        while let Some((deadline, key)) = self.deadlines.front().copied() {
            if deadline > now {
                return None;
            }
            self.deadlines.pop_front();
            if self.waiting.contains_key(&key) {
                return Some(key);
            }
        }
        None
    }
}

/// The events that business services want clients to acknowledge.
#[derive(Debug, Default)]
pub(crate) struct ServerAcks {
    waiting: HashMap<u64, ServerAck, FixedState>,
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

    fn is_empty(&self) -> bool {
        match self {
            Self::Few(sockets) => sockets.is_empty(),
            Self::Many(sockets) => sockets.is_empty(),
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
    /// The ack id for the next event that asks. All its recipients get the same.
    pub(crate) fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// Forgets what was asked by a business service that is no more: its successor may give its tags out again.
    pub(crate) fn forget(&mut self, link: LinkKey) {
        self.waiting.retain(|_, ack| ack.link != link);
    }
}

impl Shard {
    /// Starts to wait for answers. With none to wait for, the end is told at once.
    pub(crate) fn ask(&mut self, id: u64, ack: ServerAck) {
        self.server_acks.waiting.insert(id, ack);
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
        let expected = self.server_acks.waiting.get_mut(&id).and_then(|ack| {
            let is_due = ack.sockets.remove(socket);
            ack.answered += u32::from(is_due);
            is_due.then_some((ack.link, ack.tag))
        });
        let Some((link, tag)) = expected else {
            return self.common.metrics.drops.unexpected_ack.increment(1);
        };
        if let Some(link) = self.links.get_mut(link.0) {
            link.client_answered(handle, tag, args, attachments);
        }
        self.finish_server_ack_if_done(id);
    }

    /// Nobody needs to wait for a socket that is gone.
    pub(crate) fn finish_server_acks_of(&mut self, socket: SocketKey) {
        let concerned: SmallVec<[u64; 4]> = self
            .server_acks
            .waiting
            .iter_mut()
            .filter_map(|(id, ack)| {
                (ack.sockets.remove(socket) && ack.sockets.is_empty()).then_some(*id)
            })
            .collect();
        for id in concerned {
            self.finish_server_ack_if_done(id);
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
        let Some(ack) = self.server_acks.waiting.remove(&id) else { return };
        if let Some(link) = self.links.get_mut(ack.link.0) {
            link.ack_finished(ack.tag, ack.asked, ack.answered);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
