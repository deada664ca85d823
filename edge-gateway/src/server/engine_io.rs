//! The HTTP side of Engine.IO: opening a session over long-polling, polls, posts, and preflights.

use std::net::IpAddr;

use axum::body::Body;
use bytes::Bytes;
use edge_protocol::engine_io::v3::payload::Body as PayloadBody;
use flate2::Compression;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use tokio::{sync::oneshot, task};

use super::{Server, content_coding::ContentCoding};
use crate::{
    connection::Connection,
    older_handshake::OlderHandshake,
    request::EngineIoError,
    session_id::SessionId,
    shard::Wire,
    transport::{
        mailbox::{Mail, NoShard},
        payload::PayloadForm,
        polling::{Answer, Post},
    },
};

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=UTF-8");
const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");
const HTML: HeaderValue = HeaderValue::from_static("text/html");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// Smallest answer to a poll that is compressed, as with the reference server.
const COMPRESSED_BYTES_MIN: usize = 1024;

/// Largest one that is compressed on the shard's own thread, which takes a fraction of a millisecond.
const COMPRESSED_INLINE_BYTES_MAX: usize = 32 * 1024;

/// A client's connection has to be cut: another request of the same session was in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the session ended while this request was under way")]
pub(crate) struct CutOff;

impl Server {
    /// Opens a session that begins on long-polling, on this shard.
    pub(super) fn open_polling(
        &self,
        request: &Request<Incoming>,
        peer: IpAddr,
        older: Option<OlderHandshake>,
    ) -> Response<Body> {
        let session = SessionId::random(self.edge_number, self.shard_number);
        let form = if older.is_some() { PayloadForm::V3 } else { PayloadForm::V4 };
        let connection = Connection::polling(self.common.clone(), form).into();
        let handshake = self.policy.keep(request.uri(), request.headers(), peer);
        {
            let mut shard = self.shard.borrow_mut();
            let wire = Wire::socket_io(older);
            let key = shard.adopt(&connection, wire, Some(session), handshake);
            shard.enter_main_namespace(key);
        }
        let frame = self.open.frame(session, &["websocket"]);
        polling_answer(Answer::Payload(form.body(&[frame.into()])))
    }

    /// Holds a poll until there is something to say.
    pub(super) async fn poll(
        &self,
        session: SessionId,
        coding: Option<ContentCoding>,
    ) -> Result<Response<Body>, CutOff> {
        let (reply, answered) = oneshot::channel();
        let sent = self.mailboxes.send(Mail::Poll { session, reply }).await;
        let mut answer = received(sent, answered).await?;
        if let Answer::Payload(PayloadBody::Text(payload)) = &mut answer
            && payload.len() >= COMPRESSED_BYTES_MIN
        {
            return Ok(large_payload(std::mem::take(payload).into(), coding).await);
        }
        Ok(polling_answer(answer))
    }

    /// Takes a post.
    pub(super) async fn post(
        &self,
        session: SessionId,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, CutOff> {
        let (reply, answered) = oneshot::channel();
        let (to_session, body) = oneshot::channel();
        let sent = self.mailboxes.send(Mail::Post { session, body, reply }).await;
        let answered = received(sent, answered);
        let mut answered = std::pin::pin!(answered);
        let posted = tokio::select! {
            // There is no such session, or this post is out of place: its body is of no interest.
            answer = &mut answered => return Ok(polling_answer(answer?)),
            posted = self.read(request) => posted,
        };
        let is_too_large = matches!(posted, Ok(Post::TooLarge));
        match posted {
            // The session may have ended meanwhile; then the answer says so.
            Ok(post) => drop(to_session.send(post)),
            Err(CutOff) => return Err(CutOff),
        }
        let mut response = polling_answer(answered.await?);
        if is_too_large {
            // The rest of the body is still on its way.
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        Ok(response)
    }

    /// Whether there is a session that a WebSocket might take over; if not, the answer that says why.
    pub(super) async fn may_probe(&self, session: SessionId) -> Result<(), EngineIoError> {
        let (reply, answered) = oneshot::channel();
        let sent = self.mailboxes.send(Mail::Ask { session, reply }).await;
        let refusal = match sent {
            Ok(()) => answered.await.unwrap_or(Some(Answer::UnknownSession)),
            Err(NoShard) => Some(Answer::UnknownSession),
        };
        match refusal {
            // One that may not is closed once it is there, as by the reference server.
            None | Some(Answer::OtherTransport) => Ok(()),
            Some(_) => Err(EngineIoError::SessionIdUnknown),
        }
    }

    async fn read(&self, request: Request<Incoming>) -> Result<Post, CutOff> {
        let is_binary = request.headers().get(header::CONTENT_TYPE) == Some(&OCTETS);
        if is_binary && !self.allows_eio3 {
            return Ok(Post::NotText);
        }
        let bytes_max = self.common.payload_bytes_max;
        match Limited::new(request.into_body(), bytes_max).collect().await {
            Ok(body) if is_binary => Ok(Post::Binary(body.to_bytes())),
            Ok(body) => Ok(Post::Text(body.to_bytes())),
            Err(error) if error.is::<LengthLimitError>() => Ok(Post::TooLarge),
            Err(_) => Err(CutOff),
        }
    }

    pub(super) fn preflight(&self, request: &Request<Incoming>) -> Response<Body> {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        self.cors.mark_preflight(request.headers(), response.headers_mut());
        response
    }
}

async fn received(
    sent: Result<(), NoShard>,
    answered: oneshot::Receiver<Answer>,
) -> Result<Answer, CutOff> {
    match sent {
        Ok(()) => answered.await.map_err(|_| CutOff),
        Err(NoShard) => Ok(Answer::UnknownSession),
    }
}

/// Answers a poll with enough to be worth compressing.
async fn large_payload(payload: Bytes, coding: Option<ContentCoding>) -> Response<Body> {
    let encoded = match coding {
        Some(coding) => compress(coding, payload.clone()).await.map(|encoded| (coding, encoded)),
        None => None,
    };
    let mut response = match encoded {
        Some((coding, encoded)) => {
            let mut response = answer(StatusCode::OK, TEXT, encoded.into());
            response.headers_mut().insert(header::CONTENT_ENCODING, coding.name());
            response
        }
        None => answer(StatusCode::OK, TEXT, payload),
    };
    let headers = response.headers_mut();
    headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    headers.insert(header::CACHE_CONTROL, NO_STORE);
    response
}

/// Returns nothing where there is nothing to be gained.
async fn compress(coding: ContentCoding, payload: Bytes) -> Option<Vec<u8>> {
    let payload_len = payload.len();
    let encode = move || coding.encode(Compression::fast(), &payload);
    let encoded = if payload_len <= COMPRESSED_INLINE_BYTES_MAX {
        encode()
    } else {
        task::spawn_blocking(encode).await.ok()?
    };
    encoded.ok().filter(|encoded| encoded.len() < payload_len)
}

fn polling_answer(outcome: Answer) -> Response<Body> {
    match outcome {
        Answer::Payload(payload) => {
            let (content_type, payload) = match payload {
                PayloadBody::Text(payload) => (TEXT, payload),
                PayloadBody::Binary(payload) => (OCTETS, payload),
            };
            let mut response = answer(StatusCode::OK, content_type, payload.into());
            response.headers_mut().insert(header::CACHE_CONTROL, NO_STORE);
            response
        }
        Answer::Taken => {
            let mut response = answer(StatusCode::OK, HTML, Bytes::from_static(b"ok"));
            response.headers_mut().insert(header::CACHE_CONTROL, NO_STORE);
            response
        }
        Answer::OutOfPlace => empty(StatusCode::BAD_REQUEST),
        Answer::TooLarge => empty(StatusCode::PAYLOAD_TOO_LARGE),
        Answer::UnknownSession => error(EngineIoError::SessionIdUnknown),
        Answer::OtherTransport => error(EngineIoError::BadRequest),
    }
}

/// The answer of the reference server to a request that is refused.
pub(super) fn error(error: EngineIoError) -> Response<Body> {
    answer(StatusCode::BAD_REQUEST, JSON, Bytes::from_static(error.body().as_bytes()))
}

fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

fn answer(status: StatusCode, content_type: HeaderValue, body: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response
}
