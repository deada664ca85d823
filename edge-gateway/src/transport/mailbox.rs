//! How a request reaches the shard that has its session: any shard may have accepted it.

use std::{net::TcpStream, rc::Rc, sync::Arc};

use bytes::Bytes;
use service_kit::shutdown::Shutdown;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
};

use super::{
    polling::{self, Answer, Post},
    probe,
};
use crate::{session_id::SessionId, shard::SharedShard};

/// How many requests may wait for one shard. When it is full, those who bring more wait.
const MAIL_MAX: usize = 1024;

/// A request for a session, on its way to the shard that has it.
pub(crate) enum Mail {
    /// A poll.
    Poll { session: SessionId, reply: oneshot::Sender<Answer> },
    /// A post, whose body is still to come.
    Post { session: SessionId, body: oneshot::Receiver<Post>, reply: oneshot::Sender<Answer> },
    /// May a WebSocket take this session over? No answer means that it may.
    Ask { session: SessionId, reply: oneshot::Sender<Option<Answer>> },
    /// A WebSocket that wants to take it over, with what the client has sent already.
    Probe { session: SessionId, stream: TcpStream, early: Bytes },
}

impl Mail {
    fn session(&self) -> SessionId {
        match self {
            Self::Poll { session, .. }
            | Self::Post { session, .. }
            | Self::Ask { session, .. }
            | Self::Probe { session, .. } => *session,
        }
    }
}

/// The ways to all shards of this edge.
#[derive(Debug, Clone)]
pub(crate) struct Mailboxes(Arc<[mpsc::Sender<Mail>]>);

/// One shard's mail.
#[derive(Debug)]
pub(crate) struct Mailbox(mpsc::Receiver<Mail>);

/// There is no such shard, or it has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoShard;

impl Mailboxes {
    pub(crate) fn new(shards: usize) -> (Self, Vec<Mailbox>) {
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..shards)
            .map(|_| mpsc::channel(MAIL_MAX))
            .map(|(to, from)| (to, Mailbox(from)))
            .unzip();
        (Self(senders.into()), receivers)
    }

    /// Brings a request to its shard.
    pub(crate) async fn send(&self, mail: Mail) -> Result<(), NoShard> {
        let shard = self.0.get(mail.session().shard()).ok_or(NoShard)?;
        shard.send(mail).await.map_err(|_| NoShard)
    }
}

/// Serves a shard's mail until the shard is drained, and then until the last requests and upgraded sessions have ended.
pub(crate) async fn serve(shard: SharedShard, Mailbox(mut mail): Mailbox, drained: Shutdown) {
    let mut tasks = JoinSet::new();
    loop {
        tokio::select! {
            received = mail.recv() => match received {
                Some(Mail::Poll { session, reply }) => {
                    tasks.spawn_local(polling::poll(Rc::clone(&shard), session, reply));
                }
                Some(Mail::Post { session, body, reply }) => {
                    tasks.spawn_local(polling::post(Rc::clone(&shard), session, body, reply));
                }
                Some(Mail::Ask { session, reply }) => {
                    // Whoever asked may have hung up.
                    reply.send(probe::refusal(&shard, session)).ok();
                }
                Some(Mail::Probe { session, stream, early }) => {
                    tasks.spawn_local(probe::run(Rc::clone(&shard), session, stream, early));
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
