//! A connection between two edges that carries a client's WebSocket.

use std::{io, pin::pin, time::Duration};

use axum::body::Body;
use bytes::Bytes;
use http::{Request, StatusCode, header};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use service_kit::mutual_tls::HTTP_1;
use tokio::{task, time};

use super::{TUNNEL_PATH, TUNNEL_PROTOCOL, connection::PeerConnection};
use crate::{client_stream::ClientStream, session_id::SessionId};

/// How long one side may go on after the other has ended.
pub(super) const CLOSE_DEADLINE: Duration = Duration::from_secs(3);

/// How much is carried at once. A tunnel that is idle has no buffer.
const CHUNK_BYTES: usize = 16 * 1024;

/// Opens a tunnel to a session; returns what came right behind the answer, too.
pub(super) async fn open(
    connection: &PeerConnection,
    session: SessionId,
) -> io::Result<(ClientStream, Bytes)> {
    let stream = TokioIo::new(connection.dial(HTTP_1).await?);
    let (mut sender, http) = http1::handshake(stream).await.map_err(io::Error::other)?;
    let request = Request::get(format!("{TUNNEL_PATH}{session}"))
        .header(header::HOST, connection.host())
        .header(header::CONNECTION, "upgrade")
        .header(header::UPGRADE, TUNNEL_PROTOCOL)
        .body(Body::empty())
        .map_err(io::Error::other)?;
    let upgraded = async {
        let response = sender.send_request(request).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Ok(None);
        }
        hyper::upgrade::on(response).await.map(Some)
    };
    let http = async {
        // Its end is the upgrade, or an error that the other branch finds as well.
        http.with_upgrades().await.ok();
        std::future::pending().await
    };
    let upgraded = tokio::select! {
        upgraded = upgraded => upgraded.map_err(io::Error::other)?,
        never = http => match never {},
    };
    let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
    let parts = upgraded.ok_or_else(refused)?.downcast::<TokioIo<ClientStream>>();
    let parts = parts.map_err(|_| refused())?;
    Ok((parts.io.into_inner(), parts.read_buf))
}

/// Copies between two connections until both directions have ended: an end is passed on, and what still comes from the other
/// side has some time. Each side is given with what has been read of it already.
pub(super) async fn carry(
    (client, from_client): (&ClientStream, Vec<u8>),
    (peer, from_peer): (&ClientStream, Vec<u8>),
    stall: Duration,
) -> io::Result<()> {
    let mut up = pin!(copy(client, from_client, peer, stall));
    let mut down = pin!(copy(peer, from_peer, client, stall));
    tokio::select! {
        ended = &mut up => {
            ended?;
            time::timeout(CLOSE_DEADLINE, down).await?
        }
        ended = &mut down => {
            ended?;
            time::timeout(CLOSE_DEADLINE, up).await?
        }
    }
}

async fn copy(
    from: &ClientStream,
    early: Vec<u8>,
    to: &ClientStream,
    stall: Duration,
) -> io::Result<()> {
    write(to, &early, stall).await?;
    drop(early);
    loop {
        from.readable().await?;
        let mut chunk = Vec::with_capacity(CHUNK_BYTES);
        match from.try_read_buf(&mut chunk) {
            Ok(0) => {
                return time::timeout(stall, to.end()).await?;
            }
            Ok(_) => write(to, &chunk, stall).await?,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        // A side that goes on sending must not keep others from their turn.
        task::coop::consume_budget().await;
    }
}

/// Writes all. Nothing more is read of the other side meanwhile, so that side is slowed as well.
async fn write(to: &ClientStream, mut bytes: &[u8], stall: Duration) -> io::Result<()> {
    while !bytes.is_empty() {
        match to.try_write(bytes) {
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                time::timeout(stall, to.writable()).await??;
            }
            Err(error) => return Err(error),
        }
    }
    time::timeout(stall, to.flushed()).await?
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
    };

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    /// Two ends of a connection.
    async fn connection() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let connected = TcpStream::connect(listener.local_addr().unwrap());
        let (one, accepted) = tokio::join!(connected, listener.accept());
        (one.unwrap(), accepted.unwrap().0)
    }

    #[tokio::test]
    async fn bytes_go_both_ways_and_an_end_is_passed_on() {
        let ((mut client, near), (far, mut owner)) = (connection().await, connection().await);
        let (near, far) = (near.into(), far.into());
        let talk = async {
            let mut heard = [0; 8];
            owner.read_exact(&mut heard).await.unwrap();
            assert_eq!(&heard, b"early up");
            client.write_all(b" and the rest").await.unwrap();
            client.shutdown().await.unwrap();
            let mut rest = String::new();
            owner.read_to_string(&mut rest).await.unwrap();
            assert_eq!(rest, " and the rest");
            // The other direction goes on.
            owner.write_all(b" and an answer").await.unwrap();
            owner.shutdown().await.unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.unwrap();
            assert_eq!(answer, "early down and an answer");
        };

        let (carried, ()) = tokio::join!(
            carry((&near, b"early up".to_vec()), (&far, b"early down".to_vec()), LONG),
            talk
        );

        carried.unwrap();
    }

    #[tokio::test]
    async fn a_side_that_takes_nothing_stops_the_other_and_is_given_up() {
        let ((client, near), (far, owner)) = (connection().await, connection().await);
        let (near, far) = (near.into(), far.into());
        let chunk = [0; CHUNK_BYTES];
        let fill = async {
            // Waits for ever once all buffers between are full: what the kernel holds, and one chunk.
            loop {
                owner.writable().await.unwrap();
                owner.try_write(&chunk).ok();
            }
        };

        let stall = Duration::from_millis(100);
        let carried = tokio::select! {
            carried = carry((&near, Vec::new()), (&far, Vec::new()), stall) => carried,
            never = fill => never,
        };

        assert_eq!(carried.unwrap_err().kind(), io::ErrorKind::TimedOut);
        drop(client);
    }

    #[tokio::test]
    async fn a_side_that_stays_after_the_other_has_ended_has_some_time_and_no_more() {
        let ((client, near), (far, owner)) = (connection().await, connection().await);
        let (near, far) = (near.into(), far.into());
        time::pause();

        drop(owner);
        let carried = carry((&near, Vec::new()), (&far, Vec::new()), LONG).await;

        assert_eq!(carried.unwrap_err().kind(), io::ErrorKind::TimedOut);
        drop(client);
    }
}
