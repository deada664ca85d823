//! A WebSocket that takes over a session from long-polling: asked for with `2probe`, done with `5`.

use std::{convert::Infallible, io, rc::Rc, time::Duration};

use bytes::Bytes;
use edge_protocol::{
    engine_io::{self, PROBE_ANSWER_TEXT_FRAME, Probe},
    websocket::{Decoded, Decoder, EMPTY_CLOSE_FRAME, Message},
};
use tokio::time;

use super::polling::{Answer, Polling};
use crate::{
    client_stream::{ClientStream, DetachedStream},
    connection,
    session_id::SessionId,
    shard::{Flow, SharedShard},
};

/// How long a client may take from the upgrade's beginning to its end.
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a client whose WebSocket is refused may take to close it.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Largest frame of a probe: it sends two short packets.
const PROBE_BYTES_MAX: usize = 64;

/// Why a WebSocket must not take this session over; none if it may.
pub(crate) fn refusal(shard: &SharedShard, session: SessionId) -> Option<Answer> {
    let Some((connection, _)) = shard.borrow().session(session) else {
        return Some(Answer::UnknownSession);
    };
    if connection.is_closing() {
        return Some(Answer::UnknownSession);
    }
    match connection.polling_state() {
        Some(polling) if !polling.has_successor.get() => None,
        Some(_) | None => Some(Answer::OtherTransport),
    }
}

/// Runs the upgrade, and then the session on its WebSocket. A client that does not go through with it is only cut here: its
/// session lives on, on long-polling.
pub(crate) async fn run(
    shard: SharedShard,
    session: SessionId,
    stream: DetachedStream,
    early: Bytes,
) {
    let Ok(stream) = stream.attach() else { return };
    if refusal(&shard, session).is_some() {
        return close(stream).await;
    }
    let Some((connection, key)) = shard.borrow().session(session) else { return };
    let Some(polling) = connection.polling_state() else { return };
    polling.has_successor.set(true);
    let upgrade = upgrade(polling, &stream, early);
    let upgraded = Box::pin(time::timeout(UPGRADE_TIMEOUT, upgrade)).await;
    polling.is_probed.set(false);
    polling.has_successor.set(false);
    let Ok(Ok(rest)) = upgraded else { return close(stream).await };
    if connection.is_closing() {
        return close(stream).await;
    }
    if let Err(stream) = connection.upgrade(stream) {
        return close(stream).await;
    }
    connection::run(connection, Rc::clone(&shard), key, rest, Flow::Continue).await;
}

/// Answers the probe and waits for the upgrade; returns what came after it, which must not overtake a post.
async fn upgrade(polling: &Polling, stream: &ClientStream, early: Bytes) -> io::Result<Bytes> {
    let mut input: Vec<u8> = early.into();
    let mut decoder = Decoder::default();
    loop {
        let (consumed, step) = match decoder.decode(&mut input, PROBE_BYTES_MAX) {
            Ok(Decoded::Frame { consumed, message: Some(Message::Text(text)) }) => {
                (consumed, engine_io::receive_probe(text).ok())
            }
            Ok(Decoded::Incomplete { .. }) => {
                read(stream, &mut input).await?;
                continue;
            }
            Ok(Decoded::Frame { .. }) | Err(_) => return Err(io::ErrorKind::InvalidData.into()),
        };
        input.drain(..consumed);
        match step {
            Some(Probe::Ask) => {
                stream.write_all(&PROBE_ANSWER_TEXT_FRAME).await?;
                polling.is_probed.set(true);
                polling.poll.notify_one();
            }
            Some(Probe::Upgrade) => {
                polling.posted().await;
                return Ok(input.into());
            }
            None => return Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

/// Closes a WebSocket that does not get the session, and lets the client close first, so that it reads the close frame.
async fn close(stream: ClientStream) {
    let closing = async {
        stream.write_all(&EMPTY_CLOSE_FRAME).await?;
        stream.end().await?;
        let mut discarded = Vec::new();
        loop {
            read(&stream, &mut discarded).await?;
            discarded.clear();
        }
    };
    let closed: Result<io::Result<Infallible>, _> = time::timeout(CLOSE_TIMEOUT, closing).await;
    if let Ok(Err(error)) = closed
        && error.kind() != io::ErrorKind::UnexpectedEof
    {
        tracing::debug!(%error, "websocket without a session ended before it was closed");
    }
}

async fn read(stream: &ClientStream, input: &mut Vec<u8>) -> io::Result<()> {
    let mut buffer = [0; 256];
    loop {
        stream.readable().await?;
        match stream.try_read(&mut buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                input.extend_from_slice(buffer.get(..count).unwrap_or_default());
                return Ok(());
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}
