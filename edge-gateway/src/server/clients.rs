//! Where the clients of a shard come from: a listener, or whoever hands them over.

use std::{
    io,
    net::{self, IpAddr},
};

#[cfg(target_os = "linux")]
use socket2::{SockFilter, SockRef};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::{self, Duration, Instant},
};

use super::ACCEPT_PAUSE;
use crate::BACKLOG;

/// How long clients may take that had begun to connect when nobody is let in any more: one or two ways there and back.
const LAST_HANDSHAKES: Duration = Duration::from_millis(100);

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

    /// Lets nobody new in, hands over those who had begun to connect, and ends. The kernel resets whom it finds on the way to a
    /// listener that closes, in the middle of a handshake as well.
    pub(crate) async fn take_last(self, mut take: impl FnMut(TcpStream, IpAddr)) {
        let Self::Listener(listener) = self else { return };
        match refuse_new(&listener) {
            Ok(()) => {
                let deadline = Instant::now() + LAST_HANDSHAKES;
                while let Ok(accepted) = time::timeout_at(deadline, listener.accept()).await {
                    match accepted {
                        Ok((stream, peer)) => take(stream, peer.ip()),
                        Err(_) => time::sleep(ACCEPT_PAUSE).await,
                    }
                }
            }
            Err(error) => {
                tracing::debug!(%error, "clients in the middle of a handshake may be reset");
            }
        }
        take_queued(listener, take);
    }
}

/// Takes those who wait to be accepted. Asked of the kernel itself, since the runtime may not know yet that there is any.
fn take_queued(listener: TcpListener, mut take: impl FnMut(TcpStream, IpAddr)) {
    let Ok(listener) = listener.into_std() else { return };
    for _ in 0..BACKLOG {
        let (stream, peer) = match listener.accept() {
            Ok(accepted) => accepted,
            // One that has hung up meanwhile.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
            Err(_) => break,
        };
        let stream = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
        if let Ok(stream) = stream {
            take(stream, peer.ip());
        }
    }
}

/// Has the kernel overlook requests to connect. They are repeated within a second, when the listener is gone: a client is refused
/// that was not served yet, and by then most likely brought elsewhere.
#[cfg(target_os = "linux")]
fn refuse_new(listener: &TcpListener) -> io::Result<()> {
    // Instructions of classic BPF (linux/bpf_common.h).
    const LOAD_BYTE: u16 = 0x30;
    const AND: u16 = 0x54;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const PASS_BYTES: u16 = 0x06;
    // Where in a segment its flags are, and two of them (RFC 9293, section 3.1).
    const FLAGS_AT: u32 = 13;
    const SYN: u32 = 0x02;
    const ACK: u32 = 0x10;
    // It sees a segment from the TCP header on. Those that were accepted keep it, and get no request to connect.
    let filter = [
        SockFilter::new(LOAD_BYTE, 0, 0, FLAGS_AT),
        SockFilter::new(AND, 0, 0, SYN | ACK),
        SockFilter::new(JUMP_IF_EQUAL, 0, 1, SYN),
        SockFilter::new(PASS_BYTES, 0, 0, 0),
        SockFilter::new(PASS_BYTES, 0, 0, u32::MAX),
    ];
    SockRef::from(listener).attach_filter(&filter)
}

#[cfg(not(target_os = "linux"))]
fn refuse_new(_: &TcpListener) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn who_has_connected_is_taken_and_who_comes_later_is_refused_and_not_reset() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let early = TcpStream::connect(address).await.unwrap();
        refuse_new(&listener).unwrap();
        let (taken, all) = mpsc::channel();

        let late = TcpStream::connect(address);
        let end = Clients::Listener(listener).take_last(|stream, _| taken.send(stream).unwrap());
        let (late, ()) = tokio::join!(late, end);

        drop(taken);
        let peers: Vec<_> = all.iter().map(|stream| stream.peer_addr().unwrap()).collect();
        assert_eq!(peers, [early.local_addr().unwrap()]);
        assert_eq!(late.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    }
}
