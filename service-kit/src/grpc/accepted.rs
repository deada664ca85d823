//! A connection that was accepted, and who is on its other side.

use std::{
    io::{self, IoSlice},
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use rustls::ServerConnection;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{self, Sleep},
};
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use super::open_connections::Permit;
use crate::audit::AuditEvent;

/// How long a caller may take, once it has shaken hands, to say the first of what it has to say.
pub const OPENING_TIMEOUT: Duration = Duration::from_secs(5);

/// As many bytes as HTTP/2 begins with. No request of HTTP/1 is shorter.
const OPENING_BYTES: usize = 24;

/// The other side of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Where it is.
    pub address: SocketAddr,
    /// The DNS names in its certificate, in lower case. None without TLS.
    pub names: Arc<[String]>,
}

impl Caller {
    /// Who sent a request, where that is known.
    pub fn of<T>(request: &tonic::Request<T>) -> Option<Self> {
        request.extensions().get().cloned()
    }

    /// Says in an event of the audit log who called, where that is known.
    #[must_use]
    pub fn note(caller: Option<&Self>, event: AuditEvent) -> AuditEvent {
        let Some(Self { address, names }) = caller else { return event };
        let event = event.from_address(Some(address.ip().to_canonical()));
        match names.first() {
            Some(name) => event.by_caller(name),
            None => event,
        }
    }
}

/// A connection that was accepted.
#[derive(Debug)]
pub struct Accepted {
    stream: Channel,
    caller: Caller,
    /// None once the caller has said enough to be read by whoever serves it, who has deadlines of its own.
    opening: Option<Opening>,
    permit: Permit,
}

/// The beginning of what a caller says.
#[derive(Debug)]
struct Opening {
    missing_bytes: usize,
    deadline: Pin<Box<Sleep>>,
}

#[derive(Debug)]
pub(super) enum Channel {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Accepted {
    pub(super) fn new(stream: Channel, caller: Caller, permit: Permit) -> Self {
        let deadline = Box::pin(time::sleep(OPENING_TIMEOUT));
        let opening = Some(Opening { missing_bytes: OPENING_BYTES, deadline });
        Self { stream, caller, opening, permit }
    }

    /// Who is on the other side.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// The connection of TCP, and what is spoken on it if that is TLS. It counts no longer as a connection of the listener.
    pub fn into_parts(self) -> (TcpStream, Option<ServerConnection>) {
        match self.stream {
            Channel::Plain(stream) => (stream, None),
            Channel::Tls(stream) => {
                let (stream, session) = stream.into_inner();
                (stream, Some(session))
            }
        }
    }
}

impl Connected for Accepted {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        self.caller.clone()
    }
}

impl AsyncRead for Accepted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = match &mut self.stream {
            Channel::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Channel::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        };
        if let Some(opening) = &mut self.opening {
            let count = buffer.filled().len().saturating_sub(before);
            opening.missing_bytes = opening.missing_bytes.saturating_sub(count);
            if opening.missing_bytes == 0 {
                self.opening = None;
            } else if opening.deadline.as_mut().poll(cx).is_ready() {
                self.permit.count_silence();
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
        }
        read
    }
}

impl AsyncWrite for Accepted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Channel::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Channel::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Channel::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Channel::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Channel::Plain(stream) => stream.is_write_vectored(),
            Channel::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Channel::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Channel::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Channel::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Channel::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::Decision;

    #[test]
    fn the_audit_log_is_told_a_callers_address_and_the_first_of_its_names() {
        let event = || AuditEvent::new("test", "kick", Decision::Allowed);
        let caller = |names: &[&str]| Caller {
            address: ([127, 0, 0, 2], 7).into(),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
        };
        let at_address = event().from_address(Some([127, 0, 0, 2].into()));

        assert_eq!(Caller::note(None, event()), event());
        assert_eq!(Caller::note(Some(&caller(&[])), event()), at_address);
        let named = Caller::note(Some(&caller(&["a.example", "b.example"])), event());
        assert_eq!(named, at_address.by_caller("a.example"));
    }
}
