//! One client: its connections, how far it has come, and what it hears.

use std::{
    io::{self, Read, Write},
    net::SocketAddr,
    time::Instant,
};

use mio::net::TcpStream;

use super::{
    dialect::{Dialect, Incoming},
    polling::{Polling, answer, packets},
    stage::{Opening, Stage, accepted},
    swarm::{ClientError, News},
    wire::{CLOSE, PING, PONG, TEXT, client_frame, first_frame},
};

/// A TCP connection, and what has not come or gone whole.
#[derive(Debug)]
pub(crate) struct Pipe {
    pub(crate) stream: TcpStream,
    is_connected: bool,
    /// The beginning of what has not arrived whole.
    partial: Vec<u8>,
    unsent: Vec<u8>,
}

impl Pipe {
    pub(crate) fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        Ok(Self { stream, is_connected: false, partial: Vec::new(), unsent: Vec::new() })
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        if !self.is_connected || !self.unsent.is_empty() {
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

    /// Sends what waits. Returns whether it is connected only now.
    fn writable(&mut self) -> io::Result<bool> {
        let mut is_new = false;
        if !self.is_connected {
            if let Some(error) = self.stream.take_error()? {
                return Err(error);
            }
            if self.stream.peer_addr().is_err() {
                return Ok(false);
            }
            self.stream.set_nodelay(true)?;
            self.is_connected = true;
            is_new = true;
        }
        if !self.unsent.is_empty() {
            let unsent = std::mem::take(&mut self.unsent);
            self.send(&unsent)?;
        }
        Ok(is_new)
    }
}

/// Which of a client's connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// The WebSocket, or the one for polls.
    Main,
    /// The one for posts.
    Posts,
}

#[derive(Debug)]
pub(crate) struct LongPolling {
    pub(crate) posts: Pipe,
    pub(crate) state: Polling,
}

#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) pipe: Pipe,
    pub(crate) stage: Stage,
    pub(crate) opening: Option<Box<Opening>>,
    pub(crate) polling: Option<Box<LongPolling>>,
}

impl Connection {
    /// Sends a whole frame or packet.
    pub(crate) fn say(&mut self, frame: &[u8]) -> io::Result<()> {
        let Some(polling) = &mut self.polling else { return self.pipe.send(frame) };
        match polling.state.say(frame) {
            Some(request) => polling.posts.send(&request),
            None => Ok(()),
        }
    }

    pub(crate) fn writable(
        &mut self,
        way: Way,
        dialect: Dialect,
        tell: &mut impl FnMut(News<'_>, Instant),
    ) -> Result<(), ClientError> {
        if !self.pipe(way)?.writable()? || way == Way::Posts {
            return Ok(());
        }
        let Some(opening) = self.opening.take() else { return Ok(()) };
        let said = self.stage.connected(dialect, &opening);
        match &self.polling {
            Some(polling) => self.pipe.send(&polling.state.poll())?,
            None => self.pipe.send(said)?,
        }
        if self.stage == Stage::Joined {
            tell(News::Joined, Instant::now());
        } else {
            self.opening = Some(opening);
        }
        Ok(())
    }

    fn pipe(&mut self, way: Way) -> Result<&mut Pipe, ClientError> {
        match (way, &mut self.polling) {
            (Way::Main, _) => Ok(&mut self.pipe),
            (Way::Posts, Some(polling)) => Ok(&mut polling.posts),
            (Way::Posts, None) => Err(ClientError::Gone),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    Open,
    Gone,
}

/// What reading needs beside the connection.
pub(crate) struct Reader<'a> {
    pub(crate) dialect: Dialect,
    pub(crate) buffer: &'a mut [u8],
    pub(crate) pong: &'a [u8],
}

impl Reader<'_> {
    pub(crate) fn read(
        &mut self,
        connection: &mut Connection,
        way: Way,
        tell: &mut impl FnMut(News<'_>, Instant),
    ) -> Result<End, ClientError> {
        loop {
            let pipe = connection.pipe(way)?;
            let count = match pipe.stream.read(self.buffer) {
                Ok(0) => return Ok(End::Gone),
                Ok(count) => count,
                Err(error) => return ended(error),
            };
            let now = Instant::now();
            let mut partial = std::mem::take(&mut pipe.partial);
            let used = if partial.is_empty() {
                // Nearly always whole frames arrive, and need not be copied.
                let bytes = std::mem::take(&mut self.buffer);
                let used = self.take(connection, way, &bytes[..count], &mut |news| tell(news, now));
                self.buffer = bytes;
                let used = used?;
                partial.extend_from_slice(&self.buffer[used.unwrap_or(count)..count]);
                used
            } else {
                partial.extend_from_slice(&self.buffer[..count]);
                let used = self.take(connection, way, &partial, &mut |news| tell(news, now))?;
                partial.drain(..used.unwrap_or(0));
                used
            };
            if used.is_none() {
                return Ok(End::Gone);
            }
            if !partial.is_empty() {
                connection.pipe(way)?.partial = partial;
            }
            // Less than asked for was all there is, and more comes with an event of its own.
            if count < self.buffer.len() {
                return Ok(End::Open);
            }
        }
    }

    /// Handles what has arrived whole. Returns how many bytes that is, or nothing where the server closes the connection.
    fn take(
        &self,
        connection: &mut Connection,
        way: Way,
        bytes: &[u8],
        tell: &mut impl FnMut(News<'_>),
    ) -> Result<Option<usize>, ClientError> {
        if connection.polling.is_some() {
            self.answers(connection, way, bytes, tell)
        } else {
            self.frames(connection, bytes, tell)
        }
    }

    fn answers(
        &self,
        connection: &mut Connection,
        way: Way,
        bytes: &[u8],
        tell: &mut impl FnMut(News<'_>),
    ) -> Result<Option<usize>, ClientError> {
        let mut used = 0;
        loop {
            let rest = &bytes[used..];
            let Some((body, len)) = answer(rest).map_err(|_| trouble(rest))? else { break };
            used += len;
            if way == Way::Main {
                for packet in packets(body) {
                    if packet.starts_with(b"0")
                        && let Some(polling) = &mut connection.polling
                    {
                        polling.state.opened(packet).map_err(|_| trouble(packet))?;
                    }
                    self.text(connection, packet, tell)?;
                }
            }
            let Some(polling) = &mut connection.polling else { break };
            if way == Way::Main {
                connection.pipe.send(&polling.state.poll())?;
            } else if let Some(request) = polling.state.posted() {
                polling.posts.send(&request)?;
            }
        }
        Ok(Some(used))
    }

    fn frames(
        &self,
        connection: &mut Connection,
        bytes: &[u8],
        tell: &mut impl FnMut(News<'_>),
    ) -> Result<Option<usize>, ClientError> {
        let mut used = 0;
        loop {
            let rest = &bytes[used..];
            if connection.stage == Stage::Upgrading {
                let Some(len) = accepted(rest).map_err(|()| trouble(rest))? else { break };
                used += len;
                if let Some(opening) = connection.opening.take() {
                    let said = connection.stage.upgraded(self.dialect, &opening);
                    connection.say(said)?;
                    connection.opening = Some(opening);
                }
                continue;
            }
            let Some(frame) = first_frame(rest)? else { break };
            used += frame.len;
            match frame.opcode {
                TEXT => self.text(connection, frame.payload, tell)?,
                PONG => tell(News::Pong),
                PING => connection.say(&client_frame(PONG, frame.payload))?,
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
        tell: &mut impl FnMut(News<'_>),
    ) -> Result<(), ClientError> {
        let incoming = self.dialect.read(text);
        match (&incoming, connection.opening.take()) {
            (Incoming::Trouble(text), _) => return Err(trouble(text)),
            (Incoming::Ping, opening) => {
                connection.opening = opening;
                connection.say(self.pong)?;
            }
            (_, Some(opening)) => {
                // What a room says to a client that is not told yet that it is in is passed over.
                let said = connection.stage.told(&incoming, &opening).unwrap_or_default();
                if !said.is_empty() {
                    connection.say(said)?;
                }
                if connection.stage == Stage::Joined {
                    tell(News::Joined);
                } else {
                    connection.opening = Some(opening);
                }
            }
            (Incoming::Event { name, data }, None) => tell(News::Event { name, data }),
            (Incoming::Answer { id, data }, None) => tell(News::Answer { id: *id, data }),
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
