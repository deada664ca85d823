//! Where the clients of a shard come from: a listener, or whoever hands them over.

use std::{
    io,
    net::{self, IpAddr},
};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

use crate::BACKLOG;

/// A shard's new clients.
#[derive(Debug)]
pub(crate) enum Clients {
    Listener(TcpListener),
    /// Streams that came over another network, with the address of each client.
    Handed(mpsc::Receiver<(net::TcpStream, IpAddr)>),
}

impl Clients {
    pub(crate) async fn accept(&mut self) -> io::Result<(TcpStream, IpAddr)> {
        match self {
            Self::Listener(listener) => {
                let (stream, peer) = listener.accept().await?;
                Ok((stream, peer.ip()))
            }
            Self::Handed(streams) => match streams.recv().await {
                Some((stream, peer)) => Ok((TcpStream::from_std(stream)?, peer)),
                None => std::future::pending().await,
            },
        }
    }

    /// Those who still wait to be accepted: the kernel resets what it finds there when the listener closes. Asked of the
    /// kernel itself, since the runtime may not know yet that there is any.
    pub(crate) fn waiting(self) -> Vec<(TcpStream, IpAddr)> {
        let Self::Listener(listener) = self else { return Vec::new() };
        let Ok(listener) = listener.into_std() else { return Vec::new() };
        let mut waiting = Vec::new();
        for _ in 0..BACKLOG {
            let (stream, peer) = match listener.accept() {
                Ok(accepted) => accepted,
                // One that has hung up meanwhile.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
                Err(_) => break,
            };
            let stream = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
            waiting.extend(stream.map(|stream| (stream, peer.ip())));
        }
        waiting
    }
}
