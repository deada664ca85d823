//! A stream of bytes from a client, or from another edge that carries a client's: TCP, or TLS over it.

mod direct_write;
mod short_read;
mod tls;

use std::{
    io::{self, IoSlice},
    net::{self, Shutdown},
    pin::Pin,
    task::{Context, Poll, ready},
};

use rustls::Connection;
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use self::tls::TlsStream;
pub(crate) use self::tls::{HandshakeError, handshake};

/// A client's stream, on the runtime of one thread. It is used as one of TCP: tried, and waited for when it would block.
#[derive(Debug)]
pub(crate) enum ClientStream {
    Plain(TcpStream),
    /// Boxed: connections without TLS must not be larger for it.
    Tls(Box<TlsStream>),
}

/// A client's stream on its way from one thread to another.
#[derive(Debug)]
pub(crate) enum DetachedStream {
    Plain(net::TcpStream),
    Tls(net::TcpStream, Box<Connection>),
}

impl From<TcpStream> for ClientStream {
    fn from(stream: TcpStream) -> Self {
        Self::Plain(stream)
    }
}

impl From<net::TcpStream> for DetachedStream {
    fn from(stream: net::TcpStream) -> Self {
        Self::Plain(stream)
    }
}

impl DetachedStream {
    /// Binds the stream to the runtime that this is called on.
    pub(crate) fn attach(self) -> io::Result<ClientStream> {
        Ok(match self {
            Self::Plain(tcp) => ClientStream::Plain(TcpStream::from_std(tcp)?),
            Self::Tls(tcp, session) => {
                ClientStream::Tls(Box::new(TlsStream::new(TcpStream::from_std(tcp)?, *session)))
            }
        })
    }
}

impl ClientStream {
    /// Takes the stream from its runtime.
    pub(crate) fn detach(self) -> io::Result<DetachedStream> {
        Ok(match self {
            Self::Plain(tcp) => DetachedStream::Plain(tcp.into_std()?),
            Self::Tls(stream) => {
                let (tcp, session) = stream.into_parts();
                DetachedStream::Tls(tcp.into_std()?, Box::new(session))
            }
        })
    }

    /// A connection whose handshake is done.
    pub(crate) fn over_tls(tcp: TcpStream, session: impl Into<Connection>) -> Self {
        let mut session = session.into();
        session.set_buffer_limit(Some(tls::UNSENT_BYTES_MAX));
        Self::Tls(Box::new(TlsStream::new(tcp, session)))
    }

    fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(stream) => stream.tcp(),
        }
    }

    /// Reads what is there; 0 bytes are the end of what the client sends, however it ended.
    pub(crate) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => short_read::read(tcp, buffer),
            Self::Tls(stream) => stream.try_read(buffer),
        }
    }

    /// As [`try_read`](Self::try_read), to the end of a buffer that has room.
    pub(crate) fn try_read_buf(&self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.try_read_buf(buffer),
            Self::Tls(stream) => {
                let filled = buffer.len();
                buffer.resize(buffer.capacity(), 0);
                let read = stream.try_read(buffer.get_mut(filled..).unwrap_or_default());
                buffer.truncate(filled + *read.as_ref().unwrap_or(&0));
                read
            }
        }
    }

    /// Writes what is taken, of which a part may still [wait](Self::has_unsent) below.
    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => direct_write::write(tcp, bytes),
            Self::Tls(stream) => stream.try_write(&[IoSlice::new(bytes)]),
        }
    }

    /// As [`try_write`](Self::try_write), from several buffers.
    pub(crate) fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.try_write_vectored(slices),
            Self::Tls(stream) => stream.try_write(slices),
        }
    }

    /// Whether something that was taken has not been given to the system. Only TLS holds anything back, and never more than
    /// [`tls::UNSENT_BYTES_MAX`] and the records around it.
    pub(crate) fn has_unsent(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(stream) => stream.has_unsent(),
        }
    }

    /// Ready once a read would bring something, an end or an error. Only one task may wait for it.
    pub(crate) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(tcp) => tcp.poll_read_ready(cx),
            Self::Tls(stream) if stream.has_unread() => Poll::Ready(Ok(())),
            Self::Tls(stream) => stream.tcp().poll_read_ready(cx),
        }
    }

    /// Ready once the system would take something. Only one task may wait for it.
    pub(crate) fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.tcp().poll_write_ready(cx)
    }

    /// Gives to the system what was taken and not given to it.
    pub(crate) fn poll_flush_unsent(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self::Tls(stream) = self else { return Poll::Ready(Ok(())) };
        loop {
            match stream.try_flush() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
            ready!(stream.tcp().poll_write_ready(cx))?;
        }
    }

    /// As [`poll_read_ready`](Self::poll_read_ready), for any number of tasks.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        match self {
            Self::Tls(stream) if stream.has_unread() => Ok(()),
            Self::Plain(_) | Self::Tls(_) => self.tcp().readable().await,
        }
    }

    /// As [`poll_write_ready`](Self::poll_write_ready), for any number of tasks.
    pub(crate) async fn writable(&self) -> io::Result<()> {
        self.tcp().writable().await
    }

    /// Writes all, so that nothing waits.
    pub(crate) async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.try_write(bytes) {
                Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.writable().await?,
                Err(error) => return Err(error),
            }
        }
        self.flushed().await
    }

    /// Says that nothing follows, once all that was taken is sent. The client may go on.
    pub(crate) async fn end(&self) -> io::Result<()> {
        if let Self::Tls(stream) = self {
            stream.close_notify();
            self.flushed().await?;
        }
        SockRef::from(self.tcp()).shutdown(Shutdown::Write)
    }

    /// Waits until nothing that was taken waits below.
    pub(crate) async fn flushed(&self) -> io::Result<()> {
        let Self::Tls(stream) = self else { return Ok(()) };
        loop {
            match stream.try_flush() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.writable().await?,
                done => return done,
            }
        }
    }

    /// Writes for hyper, which has one task for each connection.
    fn poll_write_slices(
        &self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            match self.try_write_vectored(slices) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
            ready!(self.poll_write_ready(cx))?;
        }
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Self::Plain(tcp) = &mut *self {
            return Pin::new(tcp).poll_read(cx, buffer);
        }
        loop {
            ready!(self.poll_read_ready(cx))?;
            match self.try_read(buffer.initialize_unfilled()) {
                Ok(count) => {
                    buffer.advance(count);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Plain(tcp) => Pin::new(tcp).poll_write(cx, bytes),
            Self::Tls(_) => self.poll_write_slices(cx, &[IoSlice::new(bytes)]),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Plain(tcp) => Pin::new(tcp).poll_write_vectored(cx, slices),
            Self::Tls(_) => self.poll_write_slices(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush_unsent(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(tcp) => return Pin::new(tcp).poll_shutdown(cx),
            Self::Tls(stream) => stream.close_notify(),
        }
        ready!(self.poll_flush_unsent(cx))?;
        Poll::Ready(SockRef::from(self.tcp()).shutdown(Shutdown::Write))
    }
}

#[cfg(test)]
mod tests;
