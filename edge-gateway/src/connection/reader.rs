//! The task of one connection: reads what the client sends, and writes what the shard could not.

use std::{
    io,
    rc::Rc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use edge_protocol::websocket::{Decoded, Decoder};
use futures_util::FutureExt;
use tokio::{task, time};

use super::{Connection, SCRATCH_BYTES, Wake};
use crate::{
    close_reason::CloseReason,
    contained::contained,
    shard::{ConnectionKey, Flow, SharedShard},
};

/// How long a client may take to read what is left for it and to answer a close.
const CLOSE_DEADLINE: Duration = Duration::from_secs(2);

/// Drives a connection to its end, also where that is a panic. `early` is what the client sent right behind its upgrade request;
/// it is handled at once unless `flow` says otherwise.
///
/// Owns no buffer while nothing is being read: input is read into the shard's scratch buffer, and only a frame that
/// arrived in part is kept.
pub(crate) async fn run(
    connection: Rc<Connection>,
    shard: SharedShard,
    key: ConnectionKey,
    early: Bytes,
    flow: Flow,
) {
    let paused = flow == Flow::Pause;
    // Copied: taking `early` over would keep hyper's whole read buffer for the life of the connection.
    let unread = early.to_vec();
    drop(early);
    let mut reader = Reader { decoder: Decoder::default(), unread, paused };
    to_its_end(drive(&connection, &shard, key, &mut reader), &connection, &shard, key).await;
}

/// Ends a connection where driving it has panicked. It must not widen what drives it.
fn to_its_end<'a>(
    driven: impl Future<Output = ()> + 'a,
    connection: &'a Connection,
    shard: &'a SharedShard,
    key: ConnectionKey,
) -> impl Future<Output = ()> + 'a {
    contained(driven).then(move |driven| async move {
        if driven.is_err() {
            shard.borrow_mut().close(key, CloseReason::InternalError);
            finish(connection).await;
        }
    })
}

async fn drive(
    connection: &Connection,
    shard: &SharedShard,
    key: ConnectionKey,
    reader: &mut Reader,
) {
    if !reader.paused && !reader.unread.is_empty() {
        reader.receive_unread(connection, shard, key);
    }
    loop {
        let wake = std::future::poll_fn(|cx| connection.poll_wake(cx, reader.paused)).await;
        match wake {
            Wake::Readable => match reader.read(connection, shard, key) {
                Ok(count) if count < SCRATCH_BYTES => {}
                // There is more. First it is the turn of the others.
                Ok(_) => task::yield_now().await,
                Err(_) => break,
            },
            Wake::Resumed => {
                reader.paused = false;
                reader.receive_unread(connection, shard, key);
            }
            Wake::Drained => shard.borrow_mut().drained(key),
            Wake::Closing => return finish(connection).await,
            Wake::Broken => break,
        }
    }
    shard.borrow_mut().close(key, CloseReason::TransportClosed);
}

/// Closes a connection in good order, if its client lets it.
async fn finish(connection: &Connection) {
    // Boxed: a path taken once must not widen the future of every idle connection.
    let finished = Box::pin(time::timeout(CLOSE_DEADLINE, connection.finish())).await;
    if !matches!(finished, Ok(Ok(()))) {
        tracing::debug!("connection ended before it was closed in good order");
    }
}

/// The reading side of a connection.
struct Reader {
    decoder: Decoder,
    /// Input that has not been handled: part of a frame, or what came after the shard asked for a pause.
    unread: Vec<u8>,
    paused: bool,
}

impl Reader {
    /// Reads once and handles what came; returns how many bytes that was.
    fn read(
        &mut self,
        connection: &Connection,
        shard: &SharedShard,
        key: ConnectionKey,
    ) -> io::Result<usize> {
        let mut scratch = connection.common.scratch.borrow_mut();
        let stream = connection.stream.get().ok_or(io::ErrorKind::NotConnected)?;
        let count = match stream.try_read(&mut scratch) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(0),
            Err(error) => return Err(error),
        };
        let Some(input) = scratch.get_mut(..count) else { return Ok(0) };
        if self.unread.is_empty() {
            let consumed = self.receive(input, connection, shard, key);
            self.unread.extend_from_slice(input.get(consumed..).unwrap_or_default());
        } else {
            self.unread.extend_from_slice(input);
            drop(scratch);
            self.receive_unread(connection, shard, key);
        }
        Ok(count)
    }

    fn receive_unread(&mut self, connection: &Connection, shard: &SharedShard, key: ConnectionKey) {
        let mut unread = std::mem::take(&mut self.unread);
        let consumed = self.receive(&mut unread, connection, shard, key);
        if consumed < unread.len() {
            unread.drain(..consumed);
            self.unread = unread;
        }
    }

    /// Hands over the messages in `input`; returns how many bytes of it are done with.
    fn receive(
        &mut self,
        input: &mut [u8],
        connection: &Connection,
        shard: &SharedShard,
        key: ConnectionKey,
    ) -> usize {
        let mut consumed = 0;
        // One time does for all that has come at once: to read the clock costs as much as to count an event.
        let now = Instant::now();
        // To the end and once beyond: only then does the decoder give up the memory of a message that came in fragments.
        while let Some(rest) = input.get_mut(consumed..) {
            let flow = match self.decoder.decode(rest, connection.payload_bytes_max()) {
                Ok(Decoded::Incomplete { .. }) => break,
                Ok(Decoded::Frame { consumed: frame_bytes, message }) => {
                    consumed += frame_bytes;
                    let mut shard = shard.borrow_mut();
                    // Also a frame that is only a part of a message, and the header of one that holds nothing.
                    match (shard.charge(key, frame_bytes, now), message) {
                        (Flow::Closed, _) => Flow::Closed,
                        (charged, Some(message)) => charged.and(shard.receive(key, message, now)),
                        (charged, None) => charged,
                    }
                }
                Err(error) => {
                    shard.borrow_mut().close(key, error.into());
                    Flow::Closed
                }
            };
            match flow {
                Flow::Continue => {}
                Flow::Pause => {
                    self.paused = true;
                    break;
                }
                Flow::Closed => return input.len(),
            }
        }
        consumed
    }
}

impl Connection {
    /// Writes what waits, says that nothing follows, and lets the client close first: closing with unread input would
    /// reset the connection and could take the close frame with it.
    async fn finish(&self) -> io::Result<()> {
        let Some(stream) = self.stream.get() else { return Ok(()) };
        std::future::poll_fn(|cx| self.poll_flush(stream, cx)).await?;
        stream.end().await?;
        let mut discarded = [0; 1024];
        loop {
            stream.readable().await?;
            match stream.try_read(&mut discarded) {
                Ok(0) => return Ok(()),
                // A client that goes on sending must not keep the shard from its other work.
                Ok(_) => task::coop::consume_budget().await,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::AsyncReadExt,
        net::{TcpListener, TcpStream},
    };

    use super::*;
    use crate::transport::{
        payload::PayloadForm,
        polling::tests::{add_session, shard_with},
    };

    #[tokio::test]
    async fn a_panic_ends_the_connection_that_it_happened_for_and_no_other() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let (shard, session) = shard_with(|common| Connection::websocket(stream.into(), common));
        let (connection, key) = shard.borrow().session(session).unwrap();
        let common = Rc::clone(&connection.common);
        let other = add_session(&shard, Connection::polling(common, PayloadForm::V4));
        let panics = async {
            task::yield_now().await;
            let _changing = shard.borrow_mut();
            panic!("on purpose");
        };

        let reads = async {
            let mut frame = [0; 4];
            client.read_exact(&mut frame).await.unwrap();
            drop(client);
            frame
        };
        let ended = to_its_end(panics, &connection, &shard, key);
        let (read, ()) = tokio::join!(reads, ended);

        assert_eq!(read, [0x88, 2, 0x03, 0xf3], "1011");
        assert!(shard.borrow().session(other).is_some());
        assert!(shard.borrow_mut().entry(key).is_none());
    }
}
