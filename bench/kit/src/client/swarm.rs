//! Many connections on one thread: what arrives is told, what is to be sent is sent.

use std::{
    io::{self, Read, Write},
    net::SocketAddr,
    time::{Duration, Instant},
};

use mio::{Events, Interest, Poll, Token, net::TcpStream};
use thiserror::Error;

use super::{
    dialect::{Dialect, Incoming},
    stage::{Opening, Stage, accepted, pong},
    wire::{CLOSE, FrameError, PING, PONG, TEXT, client_frame, first_frame},
};

/// What is read at once, from whatever connection.
const READ_BYTES: usize = 256 * 1024;
const EVENTS: usize = 1024;
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
struct Connection {
    stream: TcpStream,
    stage: Stage,
    opening: Option<Box<Opening>>,
    /// The beginning of what has not arrived whole.
    partial: Vec<u8>,
    unsent: Vec<u8>,
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
            pong: pong(),
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
        let mut stream = TcpStream::connect(address)?;
        let place = self.free.pop().unwrap_or_else(|| {
            self.connections.push(None);
            self.connections.len() - 1
        });
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut stream, Token(place), interest)?;
        let opening = Opening::new(dialect, address, &login.token, &login.room);
        let connection = Connection {
            stream,
            stage: Stage::Connecting,
            opening: Some(Box::new(opening)),
            partial: Vec::new(),
            unsent: Vec::new(),
        };
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
        Ok(connection.ok_or(ClientError::Gone)?.send(frame)?)
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
            let Token(place) = event.token();
            let Some(slot) = self.connections.get_mut(place) else { continue };
            let Some(connection) = slot else { continue };
            if event.is_writable() {
                connection.writable(dialect, &mut |news, now| tell(place, news, now))?;
            }
            if !event.is_readable() && !event.is_error() {
                continue;
            }
            let mut reader = Reader { dialect, buffer: &mut self.buffer, pong: &self.pong };
            if reader.read(connection, &mut |news, now| tell(place, news, now))? == End::Gone {
                *slot = None;
                self.free.push(place);
                tell(place, News::Gone, Instant::now());
            }
        }
        Ok(())
    }
}

impl Connection {
    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        if !self.unsent.is_empty() {
            self.unsent.extend_from_slice(bytes);
            return Ok(());
        }
        match self.stream.write(bytes) {
            Ok(written) => self.unsent.extend_from_slice(&bytes[written..]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.unsent.extend_from_slice(bytes);
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn writable(
        &mut self,
        dialect: Dialect,
        tell: &mut impl FnMut(News<'_>, Instant),
    ) -> Result<(), ClientError> {
        if self.stage == Stage::Connecting {
            if let Some(error) = self.stream.take_error()? {
                return Err(error.into());
            }
            if self.stream.peer_addr().is_err() {
                return Ok(());
            }
            self.stream.set_nodelay(true)?;
            if let Some(opening) = self.opening.take() {
                let said = self.stage.connected(dialect, &opening);
                self.unsent.extend_from_slice(said);
                if self.stage == Stage::Joined {
                    tell(News::Joined, Instant::now());
                } else {
                    self.opening = Some(opening);
                }
            }
        }
        if !self.unsent.is_empty() {
            let unsent = std::mem::take(&mut self.unsent);
            self.send(&unsent)?;
        }
        Ok(())
    }
}

#[derive(Debug, PartialEq, Eq)]
enum End {
    Open,
    Gone,
}

/// What reading needs beside the connection.
struct Reader<'a> {
    dialect: Dialect,
    buffer: &'a mut [u8],
    pong: &'a [u8],
}

impl Reader<'_> {
    fn read(
        &mut self,
        connection: &mut Connection,
        tell: &mut impl FnMut(News<'_>, Instant),
    ) -> Result<End, ClientError> {
        loop {
            let count = match connection.stream.read(self.buffer) {
                Ok(0) => return Ok(End::Gone),
                Ok(count) => count,
                Err(error) => return ended(error),
            };
            let now = Instant::now();
            let used = if connection.partial.is_empty() {
                // Nearly always whole frames arrive, and need not be copied.
                let bytes = std::mem::take(&mut self.buffer);
                let used = self.frames(connection, &bytes[..count], now, tell);
                self.buffer = bytes;
                let used = used?;
                let rest = &self.buffer[used.unwrap_or(count)..count];
                connection.partial.extend_from_slice(rest);
                used
            } else {
                let mut partial = std::mem::take(&mut connection.partial);
                partial.extend_from_slice(&self.buffer[..count]);
                let used = self.frames(connection, &partial, now, tell)?;
                partial.drain(..used.unwrap_or(0));
                if !partial.is_empty() {
                    connection.partial = partial;
                }
                used
            };
            if used.is_none() {
                return Ok(End::Gone);
            }
            // Less than asked for was all there is, and more comes with an event of its own.
            if count < self.buffer.len() {
                return Ok(End::Open);
            }
        }
    }

    /// Handles all whole frames. Returns how many bytes they are, or nothing where the server closes the connection.
    fn frames(
        &self,
        connection: &mut Connection,
        bytes: &[u8],
        now: Instant,
        tell: &mut impl FnMut(News<'_>, Instant),
    ) -> Result<Option<usize>, ClientError> {
        let mut used = 0;
        loop {
            let rest = &bytes[used..];
            if connection.stage == Stage::Upgrading {
                let Some(len) = accepted(rest).map_err(|()| trouble(rest))? else { break };
                used += len;
                if let Some(opening) = connection.opening.take() {
                    let said = connection.stage.upgraded(self.dialect, &opening);
                    connection.send(said)?;
                    connection.opening = Some(opening);
                }
                continue;
            }
            let Some(frame) = first_frame(rest)? else { break };
            used += frame.len;
            match frame.opcode {
                TEXT => self.text(connection, frame.payload, now, tell)?,
                PONG => tell(News::Pong, now),
                PING => connection.send(&client_frame(PONG, frame.payload))?,
                CLOSE => return Ok(None),
                _ => {}
            }
        }
        Ok(Some(used))
    }

    fn text(
        &self,
        connection: &mut Connection,
        text: &[u8],
        now: Instant,
        tell: &mut impl FnMut(News<'_>, Instant),
    ) -> Result<(), ClientError> {
        let incoming = self.dialect.read(text);
        match (&incoming, connection.opening.take()) {
            (Incoming::Trouble(text), _) => return Err(trouble(text)),
            (Incoming::Ping, opening) => {
                connection.opening = opening;
                connection.send(self.pong)?;
            }
            (_, Some(opening)) => {
                // What a room says to a client that is not told yet that it is in is passed over.
                let said = connection.stage.told(&incoming, &opening).unwrap_or_default();
                connection.send(said)?;
                if connection.stage == Stage::Joined {
                    tell(News::Joined, now);
                } else {
                    connection.opening = Some(opening);
                }
            }
            (Incoming::Event { name, data }, None) => tell(News::Event { name, data }, now),
            (Incoming::Answer { id, data }, None) => tell(News::Answer { id: *id, data }, now),
            (Incoming::Open | Incoming::Entered, None) => return Err(trouble(text)),
        }
        Ok(())
    }
}

fn trouble(text: &[u8]) -> ClientError {
    ClientError::Trouble(String::from_utf8_lossy(&text[..text.len().min(200)]).into_owned())
}

fn ended(error: io::Error) -> Result<End, ClientError> {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, Interrupted, WouldBlock};
    if [WouldBlock, Interrupted].contains(&error.kind()) {
        Ok(End::Open)
    } else if [ConnectionReset, BrokenPipe].contains(&error.kind()) {
        Ok(End::Gone)
    } else {
        Err(error.into())
    }
}
