//! One client's connection: the socket, and what waits to be written to it.

mod gathered;
mod payload_bounds;
mod reader;
mod writer;

use std::{
    cell::{Cell, OnceCell, RefCell},
    rc::Rc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;

use self::gathered::Gathering;
pub(crate) use self::{gathered::FRAMES_BYTES_MAX, payload_bounds::PayloadBounds, reader::run};
use crate::{
    client_stream::ClientStream,
    close_reason::CloseReason,
    shard::outbox::Outbox,
    telemetry::{Metrics, as_f64},
    transport::{payload::PayloadForm, polling::Polling},
};

/// How much is read at once, into one buffer that all connections of a shard take turns with.
const SCRATCH_BYTES: usize = 64 * 1024;

/// From this part of the outbox's bound on, events that can be had again are left out.
const COLLAPSE_PART: usize = 4;

/// With no more than this part of the bound waiting, a client that is behind gets what it missed.
const DRAINED_PART: usize = 16;

/// What the connections of a shard have in common.
#[derive(Debug)]
pub(crate) struct Common {
    pub(crate) payload_bounds: PayloadBounds,
    pub(crate) outbox_bytes_max: usize,
    pub(crate) metrics: Metrics,
    pub(crate) gathering: Gathering,
    scratch: RefCell<Vec<u8>>,
}

impl Common {
    pub(crate) fn new(payload: PayloadBounds, outbox_bytes_max: usize, metrics: Metrics) -> Self {
        let scratch = RefCell::new(vec![0; SCRATCH_BYTES]);
        let gathering = Gathering::default();
        Self { payload_bounds: payload, outbox_bytes_max, metrics, gathering, scratch }
    }

    pub(crate) fn collapse_bytes(&self) -> usize {
        self.outbox_bytes_max / COLLAPSE_PART
    }
}

/// The writing side of a connection. The shard writes straight to the socket; what it does not take waits in the outbox
/// for the connection's task. While a session is on long-polling there is no socket, and all waits for the next poll.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: OnceCell<ClientStream>,
    polling: Option<Box<Polling>>,
    common: Rc<Common>,
    outbox: RefCell<Option<Box<Outbox>>>,
    /// What is in the outbox waits for the end of the link's frame, and not for the client.
    is_gathering: Cell<bool>,
    /// The task that drives this connection, waiting.
    waker: RefCell<Option<Waker>>,
    state: Cell<State>,
    pace: Cell<Pace>,
    /// Its client has been let into a namespace.
    has_entered: Cell<bool>,
}

/// What becomes of a frame for a client that does not keep up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// It is dropped.
    Volatile,
    /// It is left out once so much waits: its room's log has it.
    Refillable,
    /// It waits.
    Required,
}

/// How a client stands towards the rooms' logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// Nothing was left out.
    Even,
    /// Something was, and most of what waits must be read before.
    Behind,
    /// All of it must: the next event is large.
    FarBehind,
    /// The business service has been asked for it.
    CatchingUp,
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
    /// It can be had again, and the client is far behind.
    Collapsed,
    /// There is no room for it: the client is a slow consumer.
    Overflow,
}

/// What the connection's task has to see to.
enum Wake {
    Readable,
    Resumed,
    /// The client has read enough to be given what it missed.
    Drained,
    Closing,
    Broken,
}

impl Connection {
    /// A connection on a WebSocket.
    pub(crate) fn websocket(stream: ClientStream, common: Rc<Common>) -> Self {
        Self::new(OnceCell::from(stream), None, common)
    }

    /// A connection without a socket, until it is upgraded.
    pub(crate) fn polling(common: Rc<Common>, form: PayloadForm) -> Self {
        Self::new(OnceCell::new(), Some(Box::new(Polling::new(form))), common)
    }

    fn new(
        stream: OnceCell<ClientStream>,
        polling: Option<Box<Polling>>,
        common: Rc<Common>,
    ) -> Self {
        Self {
            stream,
            polling,
            common,
            outbox: RefCell::default(),
            is_gathering: Cell::new(false),
            waker: RefCell::default(),
            state: Cell::new(State::Open),
            pace: Cell::new(Pace::Even),
            has_entered: Cell::new(false),
        }
    }

    /// Sends a data frame that is shared with other recipients.
    pub(crate) fn send(self: &Rc<Self>, frame: &Bytes, class: Class) -> Sent {
        if let Some(polling) = self.polling_state() {
            polling.is_compressible.set(true);
        }
        self.send_uncompressed(frame, class)
    }

    /// Sends one that is not worth compressing.
    pub(crate) fn send_uncompressed(self: &Rc<Self>, frame: &Bytes, class: Class) -> Sent {
        if self.gather(frame) {
            return Sent::Accepted;
        }
        self.send_within(self.common.outbox_bytes_max, frame, class)
    }

    /// Sends what a client missed while it was away, which has a bound of its own: the frames are shared with the log. While it
    /// waits there is as much room for what comes after it as if it did not.
    pub(crate) fn send_missed(&self, frame: &Bytes) {
        if let Some(polling) = self.polling_state() {
            polling.is_compressible.set(true);
        }
        self.write_gathered();
        self.send_within(usize::MAX, frame, Class::Required);
        if let Some(outbox) = &mut *self.outbox.borrow_mut() {
            outbox.free_room();
        }
    }

    fn send_within(&self, bytes_max: usize, frame: &Bytes, class: Class) -> Sent {
        let mut slot = self.outbox.borrow_mut();
        if let Some(outbox) = &mut *slot {
            let waiting = outbox.counted_bytes();
            let is_full = waiting >= self.common.collapse_bytes()
                || waiting.saturating_add(frame.len()) > bytes_max;
            match class {
                Class::Volatile => return Sent::Dropped,
                Class::Refillable if outbox.data_bytes() > 0 && is_full => return Sent::Collapsed,
                Class::Refillable | Class::Required => {}
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
        if written == 0 && class == Class::Volatile && !self.is_polled() {
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

    /// Whether data waits to be written, so that a ping would overtake it.
    pub(crate) fn is_behind(&self) -> bool {
        self.waiting_bytes() > 0
    }

    fn waiting_bytes(&self) -> usize {
        self.write_gathered();
        self.outbox.borrow().as_ref().map_or(0, |outbox| outbox.data_bytes())
    }

    /// How many bytes wait of what the client missed, and of what waited before.
    pub(crate) fn unread_missed(&self) -> usize {
        self.write_gathered();
        self.outbox.borrow().as_ref().map_or(0, |outbox| outbox.free_bytes())
    }

    /// How much data the client has taken since some waits.
    pub(crate) fn taken_bytes(&self) -> u64 {
        self.write_gathered();
        self.outbox.borrow().as_ref().map_or(0, |outbox| outbox.taken_bytes())
    }

    pub(crate) fn pace(&self) -> Pace {
        self.pace.get()
    }

    pub(crate) fn set_pace(&self, pace: Pace) {
        self.pace.set(pace);
    }

    /// Whether the client, which is behind, has read enough to be given what it missed.
    pub(crate) fn is_drained(&self) -> bool {
        match self.pace.get() {
            Pace::Even | Pace::CatchingUp => false,
            Pace::Behind => self.waiting_bytes() <= self.common.outbox_bytes_max / DRAINED_PART,
            Pace::FarBehind => self.waiting_bytes() == 0,
        }
    }

    /// How many bytes of what can be had again are taken now.
    pub(crate) fn refillable_bytes(&self) -> usize {
        self.common.collapse_bytes().saturating_sub(self.waiting_bytes())
    }

    /// Sends a small frame ahead of waiting data: a ping, a pong.
    pub(crate) fn send_control(&self, frame: &[u8]) -> Sent {
        self.write_gathered();
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

    /// Ends the connection once what waits is written. Data that waits is not kept for a client that does not read, nor for
    /// one that broke the rules and may never poll.
    pub(crate) fn close(&self, reason: CloseReason) {
        self.write_gathered();
        let may_never_poll = self.polling_state().is_some()
            && matches!(
                reason,
                CloseReason::RateLimited
                    | CloseReason::MalformedPacket
                    | CloseReason::PayloadTooLarge
                    | CloseReason::ProtocolViolation
            );
        if (reason == CloseReason::SlowConsumer || may_never_poll)
            && let Some(outbox) = &mut *self.outbox.borrow_mut()
        {
            let before = outbox.data_bytes();
            outbox.drop_data();
            self.common.metrics.outbox_bytes.decrement(as_f64(before - outbox.data_bytes()));
        }
        if let Some(polling) = &self.polling {
            polling.close(reason);
        }
        if let (Some(_), Some(code)) = (self.stream.get(), reason.code()) {
            // Behind the data that waits, as nothing may follow it; it is the last, so it needs no bound.
            let frame = Bytes::copy_from_slice(&edge_protocol::websocket::close_frame(code));
            self.send_within(usize::MAX, &frame, Class::Required);
        }
        self.state.set(State::Closing);
        self.wake();
    }

    /// Lets the task read again after `Flow::Pause`.
    pub(crate) fn resume(&self) {
        if self.state.get() == State::Open {
            self.state.set(State::Resumed);
            if let Some(polling) = &self.polling {
                polling.post.notify_one();
            }
            self.wake();
        }
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
        if let Some(polling) = &self.polling {
            polling.poll.notify_one();
        }
    }

    /// Moves the session to a WebSocket; what waits is written there, by the task that [`run`] makes.
    pub(crate) fn upgrade(&self, stream: ClientStream) -> Result<(), ClientStream> {
        self.stream.set(stream)?;
        // A poll that still waits has nothing more to wait for.
        if let Some(polling) = &self.polling {
            polling.poll.notify_one();
        }
        Ok(())
    }

    /// The state of long-polling, while the session is on it.
    pub(crate) fn polling_state(&self) -> Option<&Polling> {
        if self.stream.get().is_some() { None } else { self.polling.as_deref() }
    }

    /// Whether a poll waits, so that what is sent now is on its way at once.
    fn is_polled(&self) -> bool {
        self.polling_state().is_some_and(|polling| polling.is_polled.get())
    }

    /// Takes what waits for the next poll: whole frames.
    pub(crate) fn take_waiting(&self) -> Vec<Bytes> {
        let Some(mut outbox) = self.outbox.borrow_mut().take() else { return Vec::new() };
        self.common.metrics.outbox_bytes.decrement(as_f64(outbox.data_bytes()));
        outbox.take_all()
    }

    /// Whether the shard wants to go on reading after a pause; asking answers it.
    pub(crate) fn take_resumed(&self) -> bool {
        let resumed = self.state.get() == State::Resumed;
        if resumed {
            self.state.set(State::Open);
        }
        resumed
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.state.get() == State::Closing
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
        let Some(stream) = self.stream.get() else { return Poll::Ready(Wake::Broken) };
        if let Poll::Ready(Err(_)) = self.poll_flush(stream, cx) {
            return Poll::Ready(Wake::Broken);
        }
        if self.is_drained() {
            return Poll::Ready(Wake::Drained);
        }
        if paused {
            return Poll::Pending;
        }
        match stream.poll_read_ready(cx) {
            Poll::Ready(Ok(())) => Poll::Ready(Wake::Readable),
            Poll::Ready(Err(_)) => Poll::Ready(Wake::Broken),
            Poll::Pending => Poll::Pending,
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
