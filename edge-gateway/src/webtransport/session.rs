//! A session of WebTransport over HTTP/3, as far as Engine.IO needs it: one request, one stream.
//!
//! Of HTTP/3 it has what browsers ask for: SETTINGS, one extended CONNECT (RFC 9220), and the capsule that closes. A client's
//! control stream and header compression are not read: a server that sends no more than this has no use for them, and what
//! they may hold is bounded by the windows of QUIC.

use std::io;

use edge_protocol::engine_io::webtransport::{Kind, Opening, receive_opening, split_header};
use http::{HeaderMap, StatusCode, Uri};
use quinn::{Connection, ReadError, RecvStream, SendStream, VarInt};
use tokio::time;
use web_transport_proto::{
    Capsule, ConnectError, ConnectRequest, ConnectResponse, Frame, Setting, Settings, SettingsError,
};

use super::CLOSE_DEADLINE;

/// HTTP/3's code for an end without an error.
pub(super) const H3_NO_ERROR: VarInt = VarInt::from_u32(0x100);

/// What says that a server takes WebTransport, in drafts 13 and 14 and in 15 of its specification; the library has those of
/// drafts 2 and 7. Browsers look for one or the other.
const WT_MAX_SESSIONS: Setting = Setting(web_transport_proto::VarInt::from_u32(0x14e9_cd29));
const WT_ENABLED: Setting = Setting(web_transport_proto::VarInt::from_u32(0x2c7c_f000));
const SESSIONS_MAX: u32 = 1;

/// Longest text of a client's first packet: it is no more than a session's id.
const OPENING_BYTES_MAX: u64 = 128;

/// Why a client opens no session.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    #[error("connection ended")]
    Connection(#[from] quinn::ConnectionError),
    #[error("settings cannot be sent")]
    Settings(#[from] SettingsError),
    #[error("request cannot be read or answered")]
    Request(#[from] ConnectError),
    #[error("request is not for this server")]
    Refused,
    #[error("first stream is none of the session")]
    Stream,
    #[error("stream ended")]
    Read(#[from] quinn::ReadExactError),
    #[error("first packet opens no session")]
    Opening,
    #[error("there is no such session")]
    UnknownSession,
    #[error("the session speaks another revision")]
    OtherRevision,
    #[error("no pair of sockets can be had")]
    Pair(#[from] io::Error),
}

/// A client that asks for a session.
pub(super) struct Requested {
    connection: Connection,
    /// HTTP/3's own stream to the client. It must not end before the connection does.
    control: SendStream,
    connect: (SendStream, RecvStream),
    request: ConnectRequest,
}

/// A session, and its stream.
pub(super) struct Session {
    connection: Connection,
    _control: SendStream,
    connect: (SendStream, RecvStream),
    pub(super) send: SendStream,
    pub(super) recv: RecvStream,
}

impl Requested {
    /// Waits for the request.
    pub(super) async fn accept(connection: Connection) -> Result<Self, OpenError> {
        let mut settings = Settings::default();
        settings.enable_webtransport(SESSIONS_MAX);
        settings.insert(WT_MAX_SESSIONS, SESSIONS_MAX.into());
        settings.insert(WT_ENABLED, 1_u32.into());
        let mut control = connection.open_uni().await?;
        settings.write(&mut control).await?;
        let (send, mut recv) = connection.accept_bi().await?;
        let request = ConnectRequest::read(&mut recv).await?;
        Ok(Self { connection, control, connect: (send, recv), request })
    }

    pub(super) fn path(&self) -> &str {
        self.request.url.path()
    }

    /// The host and port that the client has asked for.
    pub(super) fn authority(&self) -> &str {
        self.request.url.authority()
    }

    pub(super) fn uri(&self) -> Uri {
        self.request.url.as_str().parse().unwrap_or_default()
    }

    pub(super) fn headers(&self) -> &HeaderMap {
        &self.request.headers
    }

    /// Answers that there is no session to be had.
    pub(super) async fn refuse(mut self, status: StatusCode) {
        let answer = async {
            ConnectResponse::new(status).write(&mut self.connect.0).await.ok()?;
            self.connect.0.finish().ok()?;
            self.connect.0.stopped().await.ok()
        };
        time::timeout(CLOSE_DEADLINE, answer).await.ok();
        self.connection.close(H3_NO_ERROR, b"");
    }

    /// Grants the session, and waits for the stream.
    pub(super) async fn accept_stream(mut self) -> Result<Session, OpenError> {
        ConnectResponse::OK.write(&mut self.connect.0).await?;
        let (send, mut recv) = self.connection.accept_bi().await?;
        let mut number = async || web_transport_proto::VarInt::read(&mut recv).await;
        let frame = number().await.map_err(|_| OpenError::Stream)?;
        let session = number().await.map_err(|_| OpenError::Stream)?;
        let is_ours = session.into_inner() == VarInt::from(self.connect.0.id()).into_inner();
        if Frame(frame) != Frame::WEBTRANSPORT || !is_ours {
            return Err(OpenError::Stream);
        }
        let (connection, control, connect) = (self.connection, self.control, self.connect);
        Ok(Session { connection, _control: control, connect, send, recv })
    }
}

impl Session {
    /// Reads the first packet, and nothing beyond it.
    pub(super) async fn opening(&mut self) -> Result<Opening, OpenError> {
        let mut start = Vec::new();
        let header = loop {
            let mut byte = [0];
            self.recv.read_exact(&mut byte).await?;
            start.extend(byte);
            if let Some((header, _)) = split_header(&start) {
                break header;
            }
        };
        if header.kind != Kind::Text || header.payload_bytes > OPENING_BYTES_MAX {
            return Err(OpenError::Opening);
        }
        let len = usize::try_from(header.payload_bytes).map_err(|_| OpenError::Opening)?;
        let mut text = vec![0; len];
        self.recv.read_exact(&mut text).await?;
        let text = str::from_utf8(&text).map_err(|_| OpenError::Opening)?;
        receive_opening(text).map_err(|_| OpenError::Opening)
    }

    /// The two directions of the stream, and what waits for the client to end the session.
    pub(super) fn split(&mut self) -> (&mut SendStream, FromClient<'_>) {
        (&mut self.send, FromClient { stream: &mut self.recv, connect: &mut self.connect.1 })
    }

    /// Closes the session once the client has all that was sent to it.
    pub(super) async fn close(mut self) {
        let closing = async {
            self.send.finish().ok()?;
            self.send.stopped().await.ok()?;
            let (connect, _) = &mut self.connect;
            connect.write_all(&close_capsule()).await.ok()?;
            connect.finish().ok()?;
            // For the client to do: a browser takes the end of a connection for an error, unless it has seen the session's.
            self.connection.closed().await;
            Some(())
        };
        time::timeout(CLOSE_DEADLINE, closing).await.ok();
        self.connection.close(H3_NO_ERROR, b"");
    }
}

/// What comes from a client.
pub(super) struct FromClient<'a> {
    stream: &'a mut RecvStream,
    connect: &'a mut RecvStream,
}

/// How a client's part ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// It has closed the stream, the session or the connection.
    Closed,
    /// Nothing is heard from it any more.
    Lost,
}

impl FromClient<'_> {
    /// The next bytes of the stream. Nothing is lost when the wait is given up.
    pub(super) async fn next(&mut self, bytes_max: usize) -> Result<bytes::Bytes, End> {
        tokio::select! {
            chunk = self.stream.read_chunk(bytes_max, true) => match chunk {
                Ok(Some(chunk)) => Ok(chunk.bytes),
                Ok(None) => Err(End::Closed),
                Err(error) => Err(end(&error)),
            },
            end = session_ended(self.connect) => Err(end),
        }
    }
}

/// Waits for the end of the request, which is that of the session. What capsules say on the way is of no use here.
async fn session_ended(connect: &mut RecvStream) -> End {
    loop {
        match connect.read_chunk(1024, true).await {
            Ok(Some(_)) => tokio::task::coop::consume_budget().await,
            Ok(None) => return End::Closed,
            Err(error) => return end(&error),
        }
    }
}

fn end(error: &ReadError) -> End {
    match error {
        ReadError::Reset(_)
        | ReadError::ConnectionLost(quinn::ConnectionError::ApplicationClosed(_)) => End::Closed,
        ReadError::ConnectionLost(_)
        | ReadError::ClosedStream
        | ReadError::IllegalOrderedRead
        | ReadError::ZeroRttRejected => End::Lost,
    }
}

/// Closes a session without an error, as a whole frame of HTTP/3 (RFC 9297 §3.2).
fn close_capsule() -> Vec<u8> {
    let mut capsule = Vec::new();
    Capsule::CloseWebTransportSession { code: 0, reason: String::new() }.encode(&mut capsule);
    let mut frame = Vec::new();
    Frame::DATA.encode(&mut frame);
    web_transport_proto::VarInt::from_u32(u32::try_from(capsule.len()).unwrap_or_default())
        .encode(&mut frame);
    frame.append(&mut capsule);
    frame
}
