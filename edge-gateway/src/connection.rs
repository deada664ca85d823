//! One client's connection: the socket, what waits to be written to it, and the task that drives both.

use std::{
    cell::{Cell, RefCell},
    io::{self, IoSlice},
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use edge_protocol::websocket::{Decoded, Decoder};
use tokio::{net::TcpStream, task, time};

use crate::{
    close_reason::CloseReason,
    shard::{
        ConnectionKey, Flow, SharedShard,
        outbox::{Outbox, SLICES_MAX},
    },
    telemetry::Metrics,
};

/// How long a client may take to read what is left for it and to answer a close.
const CLOSE_DEADLINE: Duration = Duration::from_secs(2);

/// How much is read at once, into one buffer that all connections of a shard take turns with.
const SCRATCH_BYTES: usize = 64 * 1024;

/// What the connections of a shard have in common.
#[derive(Debug)]
pub(crate) struct Common {
    pub(crate) payload_bytes_max: usize,
    pub(crate) outbox_bytes_max: usize,
    pub(crate) metrics: Metrics,
    scratch: RefCell<Vec<u8>>,
}

impl Common {
    pub(crate) fn new(payload_bytes_max: usize, outbox_bytes_max: usize, metrics: Metrics) -> Self {
        let scratch = RefCell::new(vec![0; SCRATCH_BYTES]);
        Self { payload_bytes_max, outbox_bytes_max, metrics, scratch }
    }
}

/// The writing side of a connection. The shard writes straight to the socket; what it does not take waits in the outbox
/// for the connection's task.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    common: Rc<Common>,
    outbox: RefCell<Option<Box<Outbox>>>,
    /// The task that drives this connection, waiting.
    waker: RefCell<Option<Waker>>,
    state: Cell<State>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// The shard has stopped reading, and now wants to go on.
    Resumed,
    /// The shard has given it up: write what waits, then end.
    Closing,
}

/// What became of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sent {
    /// The socket has it, or it waits its turn.
    Accepted,
    /// It was volatile and the client is not keeping up.
    Dropped,
    /// There is no room for it: the client is a slow consumer.
    Overflow,
}

/// What the connection's task has to see to.
enum Wake {
    Readable,
    Resumed,
    Closing,
    Broken,
}

impl Connection {
    pub(crate) fn new(stream: TcpStream, common: Rc<Common>) -> Self {
        Self {
            stream,
            common,
            outbox: RefCell::default(),
            waker: RefCell::default(),
            state: Cell::new(State::Open),
        }
    }

    /// Sends a data frame that is shared with other recipients.
    pub(crate) fn send(&self, frame: &Bytes, volatile: bool) -> Sent {
        self.send_within(self.common.outbox_bytes_max, frame, volatile)
    }

    fn send_within(&self, bytes_max: usize, frame: &Bytes, volatile: bool) -> Sent {
        let mut slot = self.outbox.borrow_mut();
        if let Some(outbox) = &mut *slot {
            if volatile {
                return Sent::Dropped;
            }
            return match outbox.push_data(frame.clone(), bytes_max) {
                Ok(()) => {
                    self.common.metrics.outbox_bytes.increment(as_f64(frame.len()));
                    Sent::Accepted
                }
                Err(_) => Sent::Overflow,
            };
        }

        let written = self.write_now(frame);
        if written == frame.len() {
            return Sent::Accepted;
        }
        if written == 0 && volatile {
            return Sent::Dropped;
        }
        let outbox = slot.insert(Box::default());
        if written > 0 {
            outbox.push_rest(frame.slice(written..));
        } else if outbox.push_data(frame.clone(), bytes_max).is_err() {
            return Sent::Overflow;
        }
        self.common.metrics.outbox_bytes.increment(as_f64(frame.len() - written));
        drop(slot);
        self.wake();
        Sent::Accepted
    }

    /// Sends a small frame ahead of waiting data: a ping, a pong.
    pub(crate) fn send_control(&self, frame: &[u8]) -> Sent {
        let mut slot = self.outbox.borrow_mut();
        let written = if slot.is_none() { self.write_now(frame) } else { 0 };
        if written == frame.len() {
            return Sent::Accepted;
        }
        let outbox = slot.get_or_insert_default();
        let queued = if written > 0 {
            outbox.push_rest(Bytes::copy_from_slice(&frame[written..]));
            self.common.metrics.outbox_bytes.increment(as_f64(frame.len() - written));
            Ok(())
        } else {
            outbox.push_control(frame)
        };
        drop(slot);
        self.wake();
        queued.map_or(Sent::Overflow, |()| Sent::Accepted)
    }

    /// Ends the connection once what waits is written. Data that waits is not kept for a client that does not read.
    pub(crate) fn close(&self, reason: CloseReason) {
        if reason == CloseReason::SlowConsumer
            && let Some(outbox) = &mut *self.outbox.borrow_mut()
        {
            let before = outbox.data_bytes();
            outbox.drop_data();
            self.common.metrics.outbox_bytes.decrement(as_f64(before - outbox.data_bytes()));
        }
        if let Some(code) = reason.code() {
            // Behind the data that waits, as nothing may follow it; it is the last, so it needs no bound.
            let frame = Bytes::copy_from_slice(&edge_protocol::websocket::close_frame(code));
            self.send_within(usize::MAX, &frame, false);
        }
        self.state.set(State::Closing);
        self.wake();
    }

    /// Lets the task read again after `Flow::Pause`.
    pub(crate) fn resume(&self) {
        if self.state.get() == State::Open {
            self.state.set(State::Resumed);
            self.wake();
        }
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// Writes what the socket takes. An error is left for the task to find, which sees it when it reads or writes next.
    fn write_now(&self, frame: &[u8]) -> usize {
        self.stream.try_write(frame).unwrap_or(0)
    }

    fn poll_wake(&self, cx: &mut Context<'_>, paused: bool) -> Poll<Wake> {
        match self.state.get() {
            State::Closing => return Poll::Ready(Wake::Closing),
            State::Resumed => {
                self.state.set(State::Open);
                return Poll::Ready(Wake::Resumed);
            }
            State::Open => {}
        }
        *self.waker.borrow_mut() = Some(cx.waker().clone());
        if let Poll::Ready(Err(_)) = self.poll_flush(cx) {
            return Poll::Ready(Wake::Broken);
        }
        if paused {
            return Poll::Pending;
        }
        match self.stream.poll_read_ready(cx) {
            Poll::Ready(Ok(())) => Poll::Ready(Wake::Readable),
            Poll::Ready(Err(_)) => Poll::Ready(Wake::Broken),
            Poll::Pending => Poll::Pending,
        }
    }

    /// Writes what waits, until nothing does or the socket takes no more.
    fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut slot = self.outbox.borrow_mut();
        while let Some(outbox) = &mut *slot {
            if outbox.is_empty() {
                *slot = None;
                break;
            }
            if self.stream.poll_write_ready(cx)?.is_pending() {
                return Poll::Pending;
            }
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let filled = outbox.slices(&mut slices);
            match self.stream.try_write_vectored(&slices[..filled]) {
                Ok(written) => {
                    let before = outbox.data_bytes();
                    outbox.advance(written);
                    let gone = before - outbox.data_bytes();
                    self.common.metrics.outbox_bytes.decrement(as_f64(gone));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Writes what waits, says that nothing follows, and lets the client close first: closing with unread input would
    /// reset the connection and could take the close frame with it.
    async fn finish(&self) -> io::Result<()> {
        std::future::poll_fn(|cx| self.poll_flush(cx)).await?;
        socket2::SockRef::from(&self.stream).shutdown(std::net::Shutdown::Write)?;
        let mut discarded = [0; 1024];
        loop {
            self.stream.readable().await?;
            match self.stream.try_read(&mut discarded) {
                Ok(0) => return Ok(()),
                // A client that goes on sending must not keep the shard from its other work.
                Ok(_) => task::coop::consume_budget().await,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(outbox) = self.outbox.get_mut() {
            self.common.metrics.outbox_bytes.decrement(as_f64(outbox.data_bytes()));
        }
    }
}

/// Drives a connection to its end. `early` is what the client sent right behind its upgrade request; it is handled at once
/// unless `flow` says otherwise.
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
    let mut reader = Reader { decoder: Decoder::default(), unread: early.into(), paused };
    if !reader.paused && !reader.unread.is_empty() {
        reader.receive_unread(&connection, &shard, key);
    }
    loop {
        let wake = std::future::poll_fn(|cx| connection.poll_wake(cx, reader.paused)).await;
        match wake {
            Wake::Readable => match reader.read(&connection, &shard, key) {
                Ok(count) if count < SCRATCH_BYTES => {}
                // There is more. First it is the turn of the others.
                Ok(_) => task::yield_now().await,
                Err(_) => break,
            },
            Wake::Resumed => {
                reader.paused = false;
                reader.receive_unread(&connection, &shard, key);
            }
            Wake::Closing => {
                // Boxed: a path taken once must not widen the future of every idle connection.
                let finished = Box::pin(time::timeout(CLOSE_DEADLINE, connection.finish())).await;
                if !matches!(finished, Ok(Ok(()))) {
                    tracing::debug!("connection ended before it was closed in good order");
                }
                return;
            }
            Wake::Broken => break,
        }
    }
    shard.borrow_mut().close(key, CloseReason::TransportClosed);
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
        let count = match connection.stream.try_read(&mut scratch) {
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
        // To the end and once beyond: only then does the decoder give up the memory of a message that came in fragments.
        while let Some(rest) = input.get_mut(consumed..) {
            let flow = match self.decoder.decode(rest, connection.common.payload_bytes_max) {
                Ok(Decoded::Incomplete { .. }) => break,
                Ok(Decoded::Frame { consumed: frame_bytes, message }) => {
                    consumed += frame_bytes;
                    match message {
                        Some(message) => shard.borrow_mut().receive(key, message),
                        None => Flow::Continue,
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

#[expect(clippy::cast_precision_loss, reason = "a gauge of bytes; far below 2^52")]
fn as_f64(bytes: usize) -> f64 {
    bytes as f64
}
