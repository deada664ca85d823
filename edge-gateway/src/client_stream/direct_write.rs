//! Writes to a socket without asking the runtime first whether it takes anything.

use std::io;

use socket2::SockRef;
use tokio::net::TcpStream;

/// Writes what the socket takes. Nearly always it takes all: then nothing is read of what the runtime keeps of it, which with
/// many connections is not in the processor's caches.
pub(super) fn write(stream: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    match SockRef::from(stream).send(bytes) {
        // Once more, by way of the runtime, which only so learns that it has to watch out for room.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => stream.try_write(bytes),
        written => written,
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Read, time::Duration};

    use tokio::{net::TcpListener, time::timeout};

    use super::*;

    #[tokio::test]
    async fn when_the_socket_is_full_the_runtime_waits_for_room() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let stream = listener.accept().await.unwrap().0;
        let bytes = [b'x'; 64 * 1024];

        let mut sent = 0;
        let full = loop {
            match write(&stream, &bytes) {
                Ok(count) => sent += count,
                Err(error) => break error,
            }
        };
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
        assert!(timeout(Duration::ZERO, stream.writable()).await.is_err(), "it is full");

        let mut received = vec![0; sent];
        tokio::task::spawn_blocking(move || client.read_exact(&mut received).map(|()| client))
            .await
            .unwrap()
            .unwrap();
        timeout(Duration::from_secs(10), stream.writable()).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_client_that_is_gone_is_an_error_and_no_signal() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let stream = listener.accept().await.unwrap().0;
        drop(client);

        let error = loop {
            if let Err(error) = write(&stream, b"x") {
                break error;
            }
            tokio::task::yield_now().await;
        };

        assert!(matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset));
    }
}
