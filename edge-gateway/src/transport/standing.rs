//! How a session stands, for whoever has something for it that it may not take.

use tokio::sync::oneshot;

use super::{
    mailbox::{Mail, Mailboxes, NoShard},
    polling::Answer,
    probe,
};
use crate::{session_id::SessionId, shard::SharedShard};

/// What is to be known of a session before something is brought to it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Why a WebSocket must not take it over; none if it may.
    pub(crate) refusal: Option<Answer>,
    /// It was opened with Engine.IO 3, and goes on with that.
    pub(crate) is_older: bool,
    /// Its client has been let into a namespace.
    pub(crate) has_entered: bool,
}

impl Standing {
    /// There is no such session, or it cannot be asked.
    pub(crate) fn unknown() -> Self {
        Self { refusal: Some(Answer::UnknownSession), is_older: false, has_entered: false }
    }
}

/// How a session of this shard stands.
pub(super) fn standing(shard: &SharedShard, session: SessionId) -> Standing {
    let refusal = probe::refusal(shard, session);
    let shard = shard.borrow();
    let Some((connection, key)) = shard.session(session) else { return Standing::unknown() };
    Standing { refusal, is_older: shard.is_older(key), has_entered: connection.has_entered() }
}

/// Asks the shard or the edge that has the session.
pub(crate) async fn ask(mailboxes: &Mailboxes, session: SessionId) -> Standing {
    let (reply, answered) = oneshot::channel();
    match mailboxes.send(Mail::Ask { session, reply }).await {
        Ok(()) => answered.await.unwrap_or_else(|_| Standing::unknown()),
        Err(NoShard) => Standing::unknown(),
    }
}
