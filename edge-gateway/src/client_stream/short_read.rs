//! Reads from a socket without asking it again whether that was all.

use std::io::{self, Read};

use socket2::SockRef;
use tokio::{io::Interest, net::TcpStream};

/// Reads what is there. When that is less than there is room for, the socket has no more: it is not asked again until
/// something has come, which saves a system call that would only say so.
pub(super) fn read(stream: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    let mut short = None;
    let read = stream.try_io(Interest::READABLE, || {
        let count = (&*SockRef::from(stream)).read(buffer)?;
        if count == 0 || count == buffer.len() {
            return Ok(count);
        }
        short = Some(count);
        // Makes tokio wait for the next event of the poll, as a second read would.
        Err(io::ErrorKind::WouldBlock.into())
    });
    short.map_or(read, Ok)
}

#[cfg(test)]
mod tests {
    use std::{io::Write, time::Duration};

    use tokio::{net::TcpListener, time::timeout};

    use super::*;

    async fn connected() -> (TcpStream, std::net::TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (listener.accept().await.unwrap().0, client)
    }

    async fn readable(stream: &TcpStream) {
        timeout(Duration::from_secs(10), stream.readable()).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_short_read_leaves_nothing_to_ask_for_and_misses_nothing() {
        let (stream, mut client) = connected().await;
        let mut buffer = [0; 8];

        for round in 0..1000_u16 {
            client.write_all(&round.to_be_bytes()).unwrap();
            readable(&stream).await;
            assert_eq!(read(&stream, &mut buffer).unwrap(), 2);
            assert_eq!(buffer[..2], round.to_be_bytes());
            let ready = timeout(Duration::ZERO, stream.readable()).await;
            assert!(ready.is_err(), "asked again in round {round}");
        }
    }

    #[tokio::test]
    async fn a_full_read_may_be_followed_by_another_at_once() {
        let (stream, mut client) = connected().await;
        let mut buffer = [0; 8];
        client.write_all(b"0123456789").unwrap();

        readable(&stream).await;
        assert_eq!(read(&stream, &mut buffer).unwrap(), 8);
        readable(&stream).await;
        assert_eq!(read(&stream, &mut buffer).unwrap(), 2);
        assert_eq!(read(&stream, &mut buffer).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[tokio::test]
    async fn the_end_is_seen_behind_a_short_read() {
        let (stream, mut client) = connected().await;
        let mut buffer = [0; 8];
        client.write_all(b"bye").unwrap();
        drop(client);

        readable(&stream).await;
        assert_eq!(read(&stream, &mut buffer).unwrap(), 3);
        readable(&stream).await;
        assert_eq!(read(&stream, &mut buffer).unwrap(), 0);
    }
}
