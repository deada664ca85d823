//! Carries one session between its client and its shard, which has it as a WebSocket like any other.
//!
//! A pair of sockets leads to the shard. It costs two descriptors and a copy for each client on WebTransport, and everybody
//! else nothing: limits, heartbeats, the outbox and every way to close are what they are.

use std::{io, net, pin::pin, time::Duration};

use edge_protocol::engine_io::webtransport::{FromWebSocket, ToWebSocket};
use quinn::SendStream;
use socket2::{Domain, SockRef, Socket, Type};
use tokio::{net::TcpStream, task, time};

use super::{
    CLOSE_DEADLINE,
    session::{End, FromClient, Session},
};

/// How much is carried at once. A session that is idle has no buffer.
const CHUNK_BYTES: usize = 16 * 1024;

/// How much the system holds for each direction of a pair.
const SOCKET_BUFFER_BYTES: usize = 64 * 1024;

/// A client's session, and the near end of the way to its shard.
pub(super) struct Bridge {
    pub(super) session: Session,
    pub(super) shard: TcpStream,
}

/// Two sockets, each of which reads what is written to the other. They are handled as what a shard expects, and have all
/// that it uses of it: reading, writing, and an end to the one without the other.
pub(super) fn pair() -> io::Result<(TcpStream, net::TcpStream)> {
    let (near, far) = Socket::pair(Domain::UNIX, Type::STREAM, None)?;
    for socket in [&near, &far] {
        socket.set_nonblocking(true)?;
        socket.set_send_buffer_size(SOCKET_BUFFER_BYTES)?;
    }
    Ok((TcpStream::from_std(near.into())?, far.into()))
}

impl Bridge {
    /// Carries until one side ends, and then what the other still has to say.
    pub(super) async fn run(mut self, stall: Duration) {
        let (send, from_client) = self.session.split();
        {
            let mut to_shard = pin!(to_shard(from_client, &self.shard));
            let mut to_client = pin!(to_client(&self.shard, send, stall));
            let ended = tokio::select! {
                ended = &mut to_client => ended,
                sent = &mut to_shard => {
                    if let Err(error) = sent {
                        tracing::debug!(%error, "shard takes no more of a webtransport session");
                    }
                    time::timeout(CLOSE_DEADLINE, to_client).await.unwrap_or(Ok(()))
                }
            };
            if let Err(error) = ended {
                tracing::debug!(%error, "webtransport client was cut");
            }
        }
        // Before the client hears of it: the shard has nothing more to say to it.
        drop(self.shard);
        self.session.close().await;
    }
}

async fn to_shard(mut from_client: FromClient<'_>, shard: &TcpStream) -> io::Result<()> {
    let mut frames = ToWebSocket::default();
    let end = loop {
        let chunk = match from_client.next(CHUNK_BYTES).await {
            Ok(chunk) => chunk,
            Err(end) => break end,
        };
        let mut translated = Vec::with_capacity(chunk.len());
        frames.translate(&chunk, &mut translated);
        write(shard, &translated).await?;
        // A client that goes on sending must not keep others from their turn.
        task::coop::consume_budget().await;
    };
    if end == End::Closed {
        let mut close = Vec::new();
        frames.close(&mut close);
        write(shard, &close).await?;
    }
    SockRef::from(shard).shutdown(net::Shutdown::Write)
}

async fn to_client(shard: &TcpStream, client: &mut SendStream, stall: Duration) -> io::Result<()> {
    let mut frames = FromWebSocket::default();
    while !frames.is_closed() {
        shard.readable().await?;
        let mut chunk = Vec::with_capacity(CHUNK_BYTES);
        match shard.try_read_buf(&mut chunk) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        }
        let mut translated = Vec::with_capacity(chunk.len());
        frames.translate(&chunk, &mut translated).map_err(io::Error::other)?;
        // A client that takes nothing for so long would have missed its heartbeat.
        time::timeout(stall, client.write_chunk(translated.into())).await??;
        task::coop::consume_budget().await;
    }
    Ok(())
}

async fn write(shard: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match shard.try_write(bytes) {
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => shard.writable().await?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
