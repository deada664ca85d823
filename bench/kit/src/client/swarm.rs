//! Many connections on one thread: what arrives is told, what is to be sent is sent.

use std::{
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use mio::{Events, Interest, Poll, Token};
use thiserror::Error;

use super::{
    connection::{Connection, End, LongPolling, Pipe, Reader, Way},
    dialect::Dialect,
    polling::Polling,
    stage::{Opening, Stage},
    wire::FrameError,
};

/// What is read at once, from whatever connection.
const READ_BYTES: usize = 256 * 1024;
const EVENTS: usize = 1024;
/// Set in the token of a client's connection for posts.
const POSTS: usize = 1 << (usize::BITS - 2);
/// How many clients come in at a time. More would measure the accept queue.
const DIALS: usize = 64;

/// Where clients connect to, and what they speak.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) dialect: Dialect,
}

/// Who a client is, and where it goes.
#[derive(Debug)]
pub(crate) struct Login {
    pub(crate) token: String,
    pub(crate) room: String,
}

/// What became known of a client.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum News<'a> {
    /// It is in its room.
    Joined,
    Event {
        name: &'a [u8],
        data: &'a [u8],
    },
    Answer {
        id: u64,
        data: &'a [u8],
    },
    /// It has the answer to a ping of WebSocket.
    Pong,
    /// Its connection has ended, and its place is free.
    Gone,
}

#[derive(Debug, Error)]
pub(crate) enum ClientError {
    #[error("a connection failed")]
    Io(#[from] io::Error),
    #[error("a server sent what is no frame")]
    Frame(#[from] FrameError),
    #[error("a server said: {0}")]
    Trouble(String),
    #[error("{0} has not happened in time: {1}")]
    Late(&'static str, String),
    #[error("a connection ended that should have stayed")]
    Gone,
}

#[derive(Debug)]
pub(crate) struct Swarm {
    target: Target,
    poll: Poll,
    events: Events,
    buffer: Box<[u8]>,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    pong: Vec<u8>,
}

impl Swarm {
    pub(crate) fn new(target: Target) -> io::Result<Self> {
        Ok(Self {
            target,
            poll: Poll::new()?,
            events: Events::with_capacity(EVENTS),
            buffer: vec![0; READ_BYTES].into_boxed_slice(),
            connections: Vec::new(),
            free: Vec::new(),
            pong: target.dialect.pong(),
        })
    }

    pub(crate) const fn dialect(&self) -> Dialect {
        self.target.dialect
    }

    /// How many connections there are, on whatever stage.
    pub(crate) const fn len(&self) -> usize {
        self.connections.len() - self.free.len()
    }

    /// Begins to connect a client. Returns its place, under which news of it comes.
    pub(crate) fn dial(&mut self, login: &Login) -> Result<usize, ClientError> {
        let Target { address, dialect } = self.target;
        let place = self.free.pop().unwrap_or_else(|| {
            self.connections.push(None);
            self.connections.len() - 1
        });
        let pipe = connect(&self.poll, address, Token(place))?;
        let polling = if dialect == Dialect::Polling {
            let posts = connect(&self.poll, address, Token(place | POSTS))?;
            Some(Box::new(LongPolling { posts, state: Polling::new(address) }))
        } else {
            None
        };
        let opening = Opening::new(dialect, address, &login.token, &login.room);
        let opening = Some(Box::new(opening));
        let connection = Connection { pipe, stage: Stage::Connecting, opening, polling };
        if let Some(slot) = self.connections.get_mut(place) {
            *slot = Some(connection);
        }
        Ok(place)
    }

    /// Connects clients and waits until all are in their rooms, a bounded number at a time. What else arrives meanwhile is passed
    /// over.
    pub(crate) fn join_all(
        &mut self,
        logins: impl IntoIterator<Item = Login>,
        timeout: Duration,
    ) -> Result<(), ClientError> {
        let deadline = Instant::now() + timeout;
        let mut logins = logins.into_iter();
        let mut under_way = 0;
        loop {
            for login in logins.by_ref().take(DIALS - under_way) {
                self.dial(&login)?;
                under_way += 1;
            }
            if under_way == 0 {
                return Ok(());
            }
            let mut is_lost = false;
            self.turn(Duration::from_millis(100), |_, news, _| match news {
                News::Joined => under_way -= 1,
                News::Gone => is_lost = true,
                News::Event { .. } | News::Answer { .. } | News::Pong => {}
            })?;
            if is_lost {
                return Err(ClientError::Gone);
            }
            if Instant::now() > deadline {
                let count = self.len();
                return Err(ClientError::Late("joining", format!("{under_way} of {count} wait")));
            }
        }
    }

    /// Lets what is under way arrive. It is passed over, but nobody may be lost.
    pub(crate) fn settle(&mut self, time: Duration) -> Result<(), ClientError> {
        let end = Instant::now() + time;
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            let mut is_lost = false;
            self.turn(left, |_, news, _| is_lost |= news == News::Gone)?;
            if is_lost {
                return Err(ClientError::Gone);
            }
        }
        Ok(())
    }

    /// Sends a whole frame.
    pub(crate) fn send(&mut self, place: usize, frame: &[u8]) -> Result<(), ClientError> {
        let connection = self.connections.get_mut(place).and_then(Option::as_mut);
        Ok(connection.ok_or(ClientError::Gone)?.say(frame)?)
    }

    /// Ends a connection without saying so in any protocol above TCP.
    pub(crate) fn close(&mut self, place: usize) {
        if self.connections.get_mut(place).is_some_and(|slot| slot.take().is_some()) {
            self.free.push(place);
        }
    }

    /// Waits for something to arrive, no longer than `timeout`, and tells what did.
    pub(crate) fn turn(
        &mut self,
        timeout: Duration,
        mut tell: impl FnMut(usize, News<'_>, Instant),
    ) -> Result<(), ClientError> {
        match self.poll.poll(&mut self.events, Some(timeout)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            polled => polled?,
        }
        let dialect = self.target.dialect;
        for event in &self.events {
            let Token(token) = event.token();
            let (place, way) =
                if token & POSTS == 0 { (token, Way::Main) } else { (token & !POSTS, Way::Posts) };
            let Some(slot) = self.connections.get_mut(place) else { continue };
            let Some(connection) = slot else { continue };
            if event.is_writable() {
                connection.writable(way, dialect, &mut |news, now| tell(place, news, now))?;
            }
            if !event.is_readable() && !event.is_error() {
                continue;
            }
            let mut reader = Reader { dialect, buffer: &mut self.buffer, pong: &self.pong };
            if reader.read(connection, way, &mut |news, now| tell(place, news, now))? == End::Gone {
                // Servers end connections on which nothing has been asked for long, which is not the end of the session.
                if let (Way::Posts, Some(polling)) = (way, &mut connection.polling)
                    && !polling.state.is_posting()
                {
                    polling.posts = connect(&self.poll, self.target.address, event.token())?;
                    continue;
                }
                *slot = None;
                self.free.push(place);
                tell(place, News::Gone, Instant::now());
            }
        }
        Ok(())
    }
}

/// Begins to connect; what comes of it is told under the token.
fn connect(poll: &Poll, address: SocketAddr, token: Token) -> io::Result<Pipe> {
    let mut pipe = Pipe::connect(address)?;
    let interest = Interest::READABLE | Interest::WRITABLE;
    poll.registry().register(&mut pipe.stream, token, interest)?;
    Ok(pipe)
}
