//! What becomes of a session when another edge, which brought its requests, has to stop doing so.

use crate::{close_reason::CloseReason, session_id::SessionId, shard::SharedShard};

/// What ends at the other edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Left {
    /// It is being stopped, and holds a poll.
    Poll,
    /// It is being stopped, and carries the session's WebSocket.
    WebSocket,
    /// The answer to a poll found nobody to read it.
    LostAnswer,
}

/// Ends the poll but not the session; or the session, where it has nowhere to go on.
pub(crate) fn leave(shard: &SharedShard, session: SessionId, left: Left) {
    let found = shard.borrow().session(session);
    let Some((connection, key)) = found else { return };
    match (left, connection.polling_state()) {
        (Left::Poll, Some(polling)) => polling.let_go(),
        (Left::LostAnswer, Some(_)) => {
            shard.borrow_mut().abandon(session, CloseReason::TransportClosed);
        }
        (Left::WebSocket, None) => shard.borrow_mut().close(key, CloseReason::ShuttingDown),
        // It has moved to the other transport meanwhile.
        (Left::Poll | Left::LostAnswer, None) | (Left::WebSocket, Some(_)) => {}
    }
}
