//! The HTTP side of Engine.IO: opening a session over long-polling, polls, posts, and preflights.

use axum::body::Body;
use bytes::Bytes;
use edge_protocol::engine_io::v3::payload::Body as PayloadBody;
use http::{HeaderValue, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use tokio::sync::oneshot;

use super::{
    Server,
    content_coding::ContentCoding,
    large_payload::{LARGE_BYTES_MIN, Taken, large_payload},
    paced_body::{ReadBodyError, read_body},
};
use crate::{
    connection::{Connection, PayloadBounds},
    older_handshake::OlderHandshake,
    quota::Admitted,
    request::EngineIoError,
    session_binding::Opened,
    session_id::SessionId,
    shard::Wire,
    transport::{
        mailbox::{Mail, NoShard},
        payload::PayloadForm,
        polling::{Answer, Post},
        standing,
    },
};

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=UTF-8");
const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// A client's connection has to be cut: another request of the same session was in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the session ended while this request was under way")]
pub(crate) struct CutOff;

impl Server {
    /// Opens a session that begins on long-polling, on this shard.
    pub(super) fn open_polling(
        &self,
        request: &Request<Incoming>,
        client: Admitted,
        older: Option<OlderHandshake>,
    ) -> Response<Body> {
        let session = SessionId::random(self.edge_number, self.shard_number);
        let Opened { session, may_use_webtransport, set_cookie } =
            self.binding.open(session, request.headers());
        let form = if older.is_some() { PayloadForm::V3 } else { PayloadForm::V4 };
        let connection = Connection::polling(self.common.clone(), form).into();
        let handshake = self.policy.keep(request.uri(), request.headers(), client);
        let upgrades = self.open.upgrades(older.is_none() && may_use_webtransport);
        {
            let mut shard = self.shard.borrow_mut();
            let wire = Wire::socket_io(older);
            let key = shard.adopt(&connection, wire, Some(session), handshake);
            shard.enter_main_namespace(key);
        }
        let frame = self.open.frame(session, upgrades);
        let (content_type, payload) = typed(form.body(&[frame.into()]));
        let mut response = payload_answer(content_type, payload);
        if let Some(cookie) = set_cookie {
            response.headers_mut().insert(header::SET_COOKIE, cookie);
        }
        response
    }

    /// Holds a poll until there is something to say.
    pub(super) async fn poll(
        &self,
        session: SessionId,
        coding: Option<ContentCoding>,
    ) -> Result<Response<Body>, CutOff> {
        let (reply, answered) = oneshot::channel();
        let sent = self.mailboxes.send(Mail::Poll { session, reply }).await;
        let answer = received(sent, answered).await?;
        let Answer::Payload { body, uncompressed } = answer else {
            return Ok(polling_answer(answer));
        };
        let (content_type, payload) = typed(body);
        if payload.len() < LARGE_BYTES_MIN || uncompressed {
            return Ok(payload_answer(content_type, payload));
        }
        let taken = Taken::new(session, &self.mailboxes);
        Ok(large_payload(content_type, payload, coding, taken).await)
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
            posted = self.read(session, request) => posted,
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

    /// Whether there is a session that a WebSocket might take over which speaks that revision; if not, the answer that says
    /// why.
    pub(super) async fn may_probe(
        &self,
        session: SessionId,
        is_older: bool,
    ) -> Result<(), EngineIoError> {
        let standing = standing::ask(&self.mailboxes, session).await;
        match standing.refusal {
            // One that may not is closed once it is there, as by the reference server.
            None | Some(Answer::OtherTransport) if standing.is_older == is_older => Ok(()),
            None | Some(Answer::OtherTransport) => Err(EngineIoError::BadRequest),
            Some(_) => Err(EngineIoError::SessionIdUnknown),
        }
    }

    async fn read(&self, session: SessionId, request: Request<Incoming>) -> Result<Post, CutOff> {
        let is_binary = request.headers().get(header::CONTENT_TYPE) == Some(&OCTETS);
        if is_binary && !self.allows_eio3 {
            return Ok(Post::NotText);
        }
        let PayloadBounds { before_entry, after_entry } = self.common.payload_bounds;
        // Only what is large is worth the question.
        let larger = async || {
            let has_entered = standing::ask(&self.mailboxes, session).await.has_entered;
            if has_entered { after_entry } else { before_entry }
        };
        match read_body(request.into_body(), before_entry, larger).await {
            Ok(body) if is_binary => Ok(Post::Binary(body)),
            Ok(body) => Ok(Post::Text(body)),
            Err(ReadBodyError::TooLarge) => {
                self.common.metrics.limit_hits.body_bytes.increment(1);
                Ok(Post::TooLarge)
            }
            Err(ReadBodyError::TooSlow) => {
                self.common.metrics.limit_hits.body_rate.increment(1);
                Err(CutOff)
            }
            Err(ReadBodyError::Broken) => Err(CutOff),
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

fn polling_answer(outcome: Answer) -> Response<Body> {
    match outcome {
        Answer::Payload { body, .. } => {
            let (content_type, payload) = typed(body);
            payload_answer(content_type, payload)
        }
        Answer::Taken => payload_answer(HTML, Bytes::from_static(b"ok")),
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

fn typed(payload: PayloadBody) -> (HeaderValue, Bytes) {
    match payload {
        PayloadBody::Text(payload) => (TEXT, payload.into()),
        PayloadBody::Binary(payload) => (OCTETS, payload.into()),
    }
}

/// An answer that nobody is to keep.
pub(super) fn payload_answer(content_type: HeaderValue, payload: Bytes) -> Response<Body> {
    let mut response = answer(StatusCode::OK, content_type, payload);
    let no_store = HeaderValue::from_static("no-store");
    response.headers_mut().insert(header::CACHE_CONTROL, no_store);
    response
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
