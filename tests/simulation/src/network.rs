//! Streams of the simulated network, as the services and clients want them.

use std::{
    io, net,
    pin::Pin,
    task::{Context, Poll},
};

use http::Uri;
use socket2::{Domain, Socket, Type};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream as SystemStream,
};
use tonic::transport::server::Connected;
use turmoil::net::TcpStream;

use crate::trace::Trace;

/// One end of a connection between two hosts. What is read from it goes into the trace.
#[derive(Debug)]
pub(crate) struct Wire(TcpStream);

impl Wire {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self(stream)
    }

    /// Connects to a host by its name.
    pub(crate) async fn connect(host: &str, port: u16) -> io::Result<Self> {
        TcpStream::connect((host, port)).await.map(Self)
    }

    /// Connects to where a URL points.
    pub(crate) async fn dial(url: Uri) -> io::Result<Self> {
        let host = url.host().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
        Self::connect(&host, url.port_u16().unwrap_or(80)).await
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.0).poll_read(cx, buffer);
        if read.is_ready() {
            Trace::note(buffer.filled().get(before..).unwrap_or_default());
        }
        read
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

impl Connected for Wire {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

/// Two sockets of the system, each of which reads what is written to the other: an edge writes straight to its clients'
/// sockets, and is given one of these for each client.
pub(crate) fn socket_pair() -> io::Result<(SystemStream, net::TcpStream)> {
    let (near, far) = Socket::pair(Domain::UNIX, Type::STREAM, None)?;
    near.set_nonblocking(true)?;
    far.set_nonblocking(true)?;
    Ok((SystemStream::from_std(near.into())?, far.into()))
}

/// Carries what a client and its edge write to each other, until one of them is gone.
pub(crate) async fn carry(mut client: Wire, mut edge: SystemStream) {
    // Whatever the error is, both ends are closed now.
    tokio::io::copy_bidirectional(&mut client, &mut edge).await.ok();
}
