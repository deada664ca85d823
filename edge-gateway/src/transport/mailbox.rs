//! How a request reaches the shard that has its session: any shard of any edge may have accepted it.

use std::{collections::HashMap, rc::Rc, sync::Arc};

use bytes::Bytes;
use futures_util::FutureExt;
use metrics::Counter;
use service_kit::shutdown::Shutdown;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
};

use super::{
    direct,
    leave::{self, Left},
    polling::{self, Answer, Post},
    probe,
    standing::{self, Standing},
};
use crate::{
    client_handshake::ClientHandshake,
    client_stream::DetachedStream,
    close_reason::CloseReason,
    contained::contained,
    session_id::SessionId,
    shard::{Claim, Claimed, Settled, Settlement, SharedShard},
};

/// How many requests may wait for one shard, or for one other edge. When it is full, those who bring more wait.
const MAIL_MAX: usize = 1024;

/// A request for a session, on its way to the shard that has it.
pub(crate) enum Mail {
    /// A poll.
    Poll { session: SessionId, reply: oneshot::Sender<Answer> },
    /// A post, whose body is still to come.
    Post { session: SessionId, body: oneshot::Receiver<Post>, reply: oneshot::Sender<Answer> },
    /// How does this session stand?
    Ask { session: SessionId, reply: oneshot::Sender<Standing> },
    /// A WebSocket that wants to take it over, with what the client has sent already.
    Probe { session: SessionId, stream: DetachedStream, early: Bytes },
    /// A session that begins on a stream of its own, with the packet that opens it.
    Open { session: SessionId, stream: DetachedStream, packet: Bytes, handshake: ClientHandshake },
    /// Another edge can no longer bring its requests.
    Leave { session: SessionId, left: Left },
    /// A client that was there before wants to go on here.
    Claim { claim: Box<Claim>, reply: oneshot::Sender<Option<Claimed>> },
    /// It does: its socket may end there.
    Settle { settlement: Settlement, reply: oneshot::Sender<Option<Settled>> },
}

impl Mail {
    fn session(&self) -> SessionId {
        match self {
            Self::Poll { session, .. }
            | Self::Post { session, .. }
            | Self::Ask { session, .. }
            | Self::Probe { session, .. }
            | Self::Open { session, .. }
            | Self::Leave { session, .. } => *session,
            Self::Claim { claim, .. } => claim.wanted.id,
            Self::Settle { settlement, .. } => settlement.id,
        }
    }
}

/// The ways to all shards of this edge, and to the other edges.
#[derive(Debug, Clone)]
pub(crate) struct Mailboxes {
    edge: u16,
    shards: Arc<[Sender]>,
    peers: Arc<HashMap<u16, Sender>>,
    /// Counts what is for none of them.
    unknown_edge: Counter,
}

/// Puts mail into one mailbox.
#[derive(Debug, Clone)]
pub(crate) struct Sender(mpsc::Sender<Mail>);

/// The mail for one shard, or for another edge.
#[derive(Debug)]
pub(crate) struct Mailbox(mpsc::Receiver<Mail>);

/// A shard of this edge, or another edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Shard(usize),
    Edge(u16),
}

/// There is no such shard or edge, or it has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoShard;

/// A mailbox, and what fills it.
pub(crate) fn mailbox() -> (Sender, Mailbox) {
    let (sender, receiver) = mpsc::channel(MAIL_MAX);
    (Sender(sender), Mailbox(receiver))
}

impl Mailbox {
    /// The next request; none once nobody is left to bring any.
    pub(crate) async fn next(&mut self) -> Option<Mail> {
        self.0.recv().await
    }
}

impl Mailboxes {
    /// The ways from the edge with this number.
    pub(crate) fn new(
        edge: u16,
        shards: usize,
        peers: HashMap<u16, Sender>,
        unknown_edge: Counter,
    ) -> (Self, Vec<Mailbox>) {
        let (senders, mailboxes): (Vec<_>, Vec<_>) = (0..shards).map(|_| mailbox()).unzip();
        let (shards, peers) = (senders.into(), Arc::new(peers));
        (Self { edge, shards, peers, unknown_edge }, mailboxes)
    }

    /// The ways to the shards of this edge only.
    pub(crate) fn of_this_edge(&self) -> Self {
        Self { peers: Arc::default(), ..self.clone() }
    }

    pub(crate) fn edge(&self) -> u16 {
        self.edge
    }

    pub(crate) fn has_peers(&self) -> bool {
        !self.peers.is_empty()
    }

    /// Where something may be that is not on `shard`, the most likely place first.
    pub(crate) fn elsewhere(&self, shard: Option<u8>, id: SessionId) -> Vec<Place> {
        let shards = (0..self.shards.len()).filter(|one| shard.map(usize::from) != Some(*one));
        let edges = self.peers.keys().copied();
        let mut places: Vec<Place> =
            shards.map(Place::Shard).chain(edges.map(Place::Edge)).collect();
        let named =
            if id.edge() == self.edge { Place::Shard(id.shard()) } else { Place::Edge(id.edge()) };
        places.sort_by_key(|place| *place != named);
        places
    }

    /// Brings something to a place, whatever session it names.
    pub(crate) async fn send_to(&self, place: Place, mail: Mail) -> Result<(), NoShard> {
        let Sender(to) = match place {
            Place::Shard(shard) => self.shards.get(shard).ok_or(NoShard)?,
            Place::Edge(edge) => self.peers.get(&edge).ok_or(NoShard)?,
        };
        to.send(mail).await.map_err(|_| NoShard)
    }

    /// Brings a request to its shard, or on its way to its edge.
    pub(crate) async fn send(&self, mail: Mail) -> Result<(), NoShard> {
        let Sender(to) = self.way(mail.session())?;
        to.send(mail).await.map_err(|_| NoShard)
    }

    /// As [`send`](Self::send), for who cannot wait. What finds its mailbox full is lost.
    pub(crate) fn send_now(&self, mail: Mail) {
        if let Ok(Sender(to)) = self.way(mail.session())
            && to.try_send(mail).is_err()
        {
            tracing::warn!("a shard with a full mailbox was not told of an answer that is lost");
        }
    }

    fn way(&self, session: SessionId) -> Result<&Sender, NoShard> {
        if session.edge() == self.edge {
            return self.shards.get(session.shard()).ok_or(NoShard);
        }
        self.peers.get(&session.edge()).ok_or_else(|| {
            self.unknown_edge.increment(1);
            NoShard
        })
    }
}

/// Serves a shard's mail until the shard is drained, and then until the last requests and upgraded sessions have ended.
pub(crate) async fn serve(shard: SharedShard, Mailbox(mut mail): Mailbox, drained: Shutdown) {
    let mut tasks = JoinSet::new();
    loop {
        tokio::select! {
            received = mail.recv() => match received {
                Some(Mail::Poll { session, reply }) => {
                    let poll = polling::poll(Rc::clone(&shard), session, reply);
                    tasks.spawn_local(for_session(poll, Rc::clone(&shard), session));
                }
                Some(Mail::Post { session, body, reply }) => {
                    let post = polling::post(Rc::clone(&shard), session, body, reply);
                    tasks.spawn_local(for_session(post, Rc::clone(&shard), session));
                }
                Some(Mail::Ask { session, reply }) => {
                    // Whoever asked may have hung up.
                    reply.send(standing::standing(&shard, session)).ok();
                }
                Some(Mail::Probe { session, stream, early }) => {
                    tasks.spawn_local(probe::run(Rc::clone(&shard), session, stream, early));
                }
                Some(Mail::Open { session, stream, packet, handshake }) => {
                    let shard = Rc::clone(&shard);
                    tasks.spawn_local(direct::run(shard, session, stream, packet, handshake));
                }
                Some(Mail::Leave { session, left }) => leave::leave(&shard, session, left),
                Some(Mail::Claim { claim, reply }) => {
                    // Whoever asked may have stopped waiting.
                    reply.send(shard.borrow_mut().claimed(&claim)).ok();
                }
                Some(Mail::Settle { settlement, reply }) => {
                    shard.borrow_mut().settle(settlement, reply);
                }
                None => break,
            },
            _ = tasks.join_next(), if !tasks.is_empty() => {}
            () = drained.requested() => break,
        }
    }
    drop(mail);
    while tasks.join_next().await.is_some() {}
}

/// Answers a request of a session, which ends where that panics.
fn for_session(
    request: impl Future<Output = ()>,
    shard: SharedShard,
    session: SessionId,
) -> impl Future<Output = ()> {
    contained(request).map(move |answered| {
        if answered.is_err() {
            shard.borrow_mut().abandon(session, CloseReason::InternalError);
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        connection::Connection,
        transport::{
            payload::PayloadForm,
            polling::tests::{add_session, shard_with},
        },
    };

    #[tokio::test]
    async fn a_request_that_panics_ends_its_session_and_no_other() {
        let (shard, session) = shard_with(|common| Connection::polling(common, PayloadForm::V4));
        let common = Rc::clone(&shard.borrow().common);
        let other = add_session(&shard, Connection::polling(common, PayloadForm::V4));
        let held = Rc::clone(&shard);
        let panics = async move {
            let _changing = held.borrow_mut();
            panic!("on purpose");
        };

        for_session(panics, Rc::clone(&shard), session).await;

        assert!(shard.borrow().session(session).is_none());
        assert!(shard.borrow().session(other).is_some());
    }
}
