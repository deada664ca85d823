//! Takes the requests that other edges bring for sessions of this one. Never passes one on.

use http::{HeaderValue, Request, Response, StatusCode, header};
use proto::peer::v1::{
    AskUpgradeRequest, AskUpgradeResponse, ClaimRequest, ClaimResponse, LeaveRequest,
    LeaveResponse, PollRequest, PollingAnswer, PostPart, SettleRequest, SettleResponse,
    edge_peer_server::EdgePeer, post_part::Part,
};
use tokio::{sync::oneshot, time};
use tonic::{Status, Streaming, body::Body};

use super::{TUNNEL_PATH, TUNNEL_PROTOCOL, answers, call_body::CALL_BODY_TIMEOUT, claims};
use crate::{
    session_id::SessionId,
    shard::elsewhere::find,
    transport::{
        mailbox::{Mail, Mailboxes, NoShard, Place},
        polling::Answer,
        standing,
    },
};

/// This edge, as its peers see it.
#[derive(Debug, Clone)]
pub(super) struct PeerService {
    pub(super) edge: u16,
    /// Those of this edge: a request that a peer brought goes no further.
    pub(super) mailboxes: Mailboxes,
    pub(super) payload_bytes_max: usize,
}

impl PeerService {
    fn session(&self, bytes: &[u8]) -> Result<SessionId, Status> {
        let session = SessionId::from_bytes(bytes)
            .ok_or_else(|| Status::invalid_argument("not a session id"))?;
        if session.edge() == self.edge {
            Ok(session)
        } else {
            Err(Status::failed_precondition("this is another edge"))
        }
    }

    /// Answers a request that asks for a tunnel; returns the session that it leads to, unless it is refused. Whether that
    /// session is to be had is found when the client says what it wants.
    pub(super) fn open_tunnel<B>(
        &self,
        request: &Request<B>,
    ) -> (Response<Body>, Option<SessionId>) {
        let asks = request.headers().get(header::UPGRADE);
        let asks = asks.is_some_and(|asks| asks == TUNNEL_PROTOCOL);
        let session = request.uri().path().strip_prefix(TUNNEL_PATH).and_then(SessionId::parse);
        let session = session.filter(|session| asks && session.edge() == self.edge);
        let mut response = Response::new(Body::default());
        if session.is_some() {
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            let headers = response.headers_mut();
            headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(header::UPGRADE, HeaderValue::from_static(TUNNEL_PROTOCOL));
        } else {
            *response.status_mut() = StatusCode::BAD_REQUEST;
        }
        (response, session)
    }
}

#[tonic::async_trait]
impl EdgePeer for PeerService {
    async fn poll(
        &self,
        request: tonic::Request<PollRequest>,
    ) -> Result<tonic::Response<PollingAnswer>, Status> {
        let session = self.session(&request.into_inner().session)?;
        let (reply, answered) = oneshot::channel();
        // When the call is cancelled, the session finds the receiver gone.
        let sent = self.mailboxes.send(Mail::Poll { session, reply }).await;
        answer(sent, answered).await
    }

    async fn post(
        &self,
        request: tonic::Request<Streaming<PostPart>>,
    ) -> Result<tonic::Response<PollingAnswer>, Status> {
        let mut parts = request.into_inner();
        let first = time::timeout(CALL_BODY_TIMEOUT, parts.message()).await;
        let first = first.map_err(|_| Status::deadline_exceeded("the post did not begin"))?;
        let first = first?.and_then(|first| first.part);
        let Some(Part::Session(session)) = first else {
            return Err(Status::invalid_argument("a post begins with its session"));
        };
        let session = self.session(&session)?;
        let (reply, answered) = oneshot::channel();
        let (to_session, body) = oneshot::channel();
        let sent = self.mailboxes.send(Mail::Post { session, body, reply }).await;
        let mut answered = Box::pin(answer(sent, answered));
        let part = tokio::select! {
            // There is no such session, or the post is out of place: its body is of no interest.
            answer = &mut answered => return answer,
            part = parts.message() => part?.and_then(|part| part.part),
        };
        let post = part.map(|part| answers::post_from_wire(part, self.payload_bytes_max));
        match post {
            // The session may have ended meanwhile; then the answer says so.
            Some(Ok(post)) => drop(to_session.send(post)),
            // The client has hung up.
            None => drop(to_session),
            Some(Err(error)) => return Err(Status::invalid_argument(error.to_string())),
        }
        answered.await
    }

    async fn ask_upgrade(
        &self,
        request: tonic::Request<AskUpgradeRequest>,
    ) -> Result<tonic::Response<AskUpgradeResponse>, Status> {
        let session = self.session(&request.into_inner().session)?;
        let standing = standing::ask(&self.mailboxes, session).await;
        Ok(tonic::Response::new(answers::standing_to_wire(standing)))
    }

    async fn claim(
        &self,
        request: tonic::Request<ClaimRequest>,
    ) -> Result<tonic::Response<ClaimResponse>, Status> {
        let claim = claims::claim_from_wire(request.into_inner())
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let found = find(&self.mailboxes, None, &claim).await;
        Ok(tonic::Response::new(claims::claimed_to_wire(found.map(|(_, claimed)| claimed))))
    }

    async fn settle(
        &self,
        request: tonic::Request<SettleRequest>,
    ) -> Result<tonic::Response<SettleResponse>, Status> {
        let settlement = claims::settlement_from_wire(request.get_ref())
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let (reply, answered) = oneshot::channel();
        let place = Place::Shard(settlement.shard.into());
        let sent = self.mailboxes.send_to(place, Mail::Settle { settlement, reply }).await;
        let settled = if sent.is_ok() { answered.await.unwrap_or_default() } else { None };
        Ok(tonic::Response::new(claims::settled_to_wire(settled)))
    }

    async fn leave(
        &self,
        request: tonic::Request<LeaveRequest>,
    ) -> Result<tonic::Response<LeaveResponse>, Status> {
        let request = request.into_inner();
        let session = self.session(&request.session)?;
        let left = answers::left_from_wire(request.left())
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        // A shard that has ended has no session to end.
        self.mailboxes.send(Mail::Leave { session, left }).await.ok();
        Ok(tonic::Response::new(LeaveResponse {}))
    }
}

async fn answer(
    sent: Result<(), NoShard>,
    answered: oneshot::Receiver<Answer>,
) -> Result<tonic::Response<PollingAnswer>, Status> {
    let answer = match sent {
        Ok(()) => answered.await.map_err(|_| Status::aborted("the session ended meanwhile"))?,
        Err(NoShard) => Answer::UnknownSession,
    };
    Ok(tonic::Response::new(answers::to_wire(answer)))
}
