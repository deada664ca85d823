//! TLS over one connection of TCP: records are read and written only as far as the system lets them.

use std::{
    io::{self, BufRead, IoSlice, Read, Write},
    sync::{Mutex, MutexGuard, PoisonError},
};

use rustls::{Connection, HandshakeKind};
use tokio::net::TcpStream;

use super::ClientStream;

/// How much may have been taken from the edge, and made a record, that the system has not taken.
pub(super) const UNSENT_BYTES_MAX: usize = 32 * 1024;

/// A connection with TLS, after the handshake.
#[derive(Debug)]
pub(crate) struct TlsStream {
    tcp: TcpStream,
    /// Never held over a wait. Locked, and not borrowed, since a tunnel to another edge is a task of all threads.
    session: Mutex<Connection>,
}

/// Why there is no TLS with a client. Nothing of what it sent is in it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandshakeError {
    /// It has hung up, or the connection broke.
    #[error("connection ended")]
    HungUp,
    /// What it sent is no handshake, or nothing that both sides speak.
    #[error(transparent)]
    Failed(#[from] rustls::Error),
}

/// Shakes hands. Returns the stream, and whether all of the handshake was needed.
pub(crate) async fn handshake(
    tcp: TcpStream,
    session: impl Into<Connection>,
) -> Result<(ClientStream, HandshakeKind), HandshakeError> {
    let mut session = session.into();
    session.set_buffer_limit(Some(UNSENT_BYTES_MAX));
    loop {
        match flush(&tcp, &mut session) {
            Ok(()) if !session.is_handshaking() => break,
            Ok(()) => tcp.readable().await.map_err(hung_up)?,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                tcp.writable().await.map_err(hung_up)?;
                continue;
            }
            Err(error) => return Err(hung_up(error)),
        }
        match session.read_tls(&mut Tcp(&tcp)) {
            Ok(0) => return Err(HandshakeError::HungUp),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(hung_up(error)),
        }
        if let Err(error) = session.process_new_packets() {
            // The alert says why. If it cannot be written now, the client finds its connection closed.
            flush(&tcp, &mut session).ok();
            return Err(error.into());
        }
    }
    let kind = session.handshake_kind().unwrap_or(HandshakeKind::Full);
    Ok((ClientStream::Tls(Box::new(TlsStream::new(tcp, session))), kind))
}

fn hung_up(_: io::Error) -> HandshakeError {
    HandshakeError::HungUp
}

impl TlsStream {
    pub(super) fn new(tcp: TcpStream, session: Connection) -> Self {
        Self { tcp, session: Mutex::new(session) }
    }

    pub(super) fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    pub(super) fn into_parts(self) -> (TcpStream, Connection) {
        (self.tcp, self.session.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    fn session(&self) -> MutexGuard<'_, Connection> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether something was deciphered that has not been read, or an end is known, about which the system tells no more.
    pub(super) fn has_unread(&self) -> bool {
        let mut session = self.session();
        match session.reader().fill_buf() {
            Ok(_) => true,
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        }
    }

    pub(super) fn has_unsent(&self) -> bool {
        self.session().wants_write()
    }

    /// Reads until the buffer is full or the system has no more.
    pub(super) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut session = self.session();
        let mut filled = 0;
        loop {
            let Some(free) = buffer.get_mut(filled..).filter(|free| !free.is_empty()) else {
                return Ok(filled);
            };
            match session.reader().read(free) {
                // The client has ended what it sends, or has cut it off: what was said before has been read, and every
                // message in it says itself where it ends.
                Ok(0) => return Ok(filled),
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(filled),
                Ok(count) => {
                    filled += count;
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            match session.read_tls(&mut Tcp(&self.tcp)) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && filled > 0 => {
                    return Ok(filled);
                }
                Err(error) => return Err(error),
            }
            if let Err(error) = session.process_new_packets() {
                flush(&self.tcp, &mut session).ok();
                return Err(io::Error::new(io::ErrorKind::InvalidData, error));
            }
            if session.wants_write() {
                // An answer of TLS's own, such as to a change of keys. What does not go now goes before the next record.
                flush(&self.tcp, &mut session).ok();
            }
        }
    }

    /// Writes until all is taken or the system takes no more.
    pub(super) fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut session = self.session();
        // As with TCP, nothing is taken while something waits: whoever asks learns that the client is behind.
        flush(&self.tcp, &mut session)?;
        let mut taken = session.writer().write_vectored(slices)?;
        let [one] = slices else {
            would_block_later(flush(&self.tcp, &mut session))?;
            return Ok(taken);
        };
        loop {
            match flush(&self.tcp, &mut session) {
                Ok(()) if taken < one.len() => {}
                flushed => {
                    would_block_later(flushed)?;
                    return Ok(taken);
                }
            }
            match session.writer().write(one.get(taken..).unwrap_or_default())? {
                0 => return Ok(taken),
                more => taken += more,
            }
        }
    }

    /// Writes what waits; `WouldBlock` if some of it still does.
    pub(super) fn try_flush(&self) -> io::Result<()> {
        flush(&self.tcp, &mut self.session())
    }

    /// Says, behind all that was taken, that nothing follows. Saying it again says nothing.
    pub(super) fn close_notify(&self) {
        self.session().send_close_notify();
    }
}

fn flush(tcp: &TcpStream, session: &mut Connection) -> io::Result<()> {
    while session.wants_write() {
        session.write_tls(&mut Tcp(tcp))?;
    }
    Ok(())
}

/// What is taken is not lost because the system takes it later.
fn would_block_later(flushed: io::Result<()>) -> io::Result<()> {
    match flushed {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
        flushed => flushed,
    }
}

/// A connection of TCP as rustls reads and writes it.
struct Tcp<'a>(&'a TcpStream);

impl Read for Tcp<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buffer)
    }
}

impl Write for Tcp<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
