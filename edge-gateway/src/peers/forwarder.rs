//! Brings the requests of sessions that one other edge has to that edge, and its answers back.

use std::{convert::Infallible, io, pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use metrics::Counter;
use proto::peer::v1::{
    AskUpgradeRequest, LeaveRequest, PollRequest, PollingAnswer, PostPart, post_part::Part,
};
use service_kit::{mutual_tls::MutualTls, shutdown::Shutdown};
use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    task::JoinSet,
    time::{self, error::Elapsed},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use super::{
    POSTS_MAX, PeerAddress, WAITING_POLLS_MAX, answers, claims,
    connection::{ConnectError, PeerConnection},
    tunnel,
};
use crate::{
    client_stream::DetachedStream,
    session_id::SessionId,
    shard::{Claim, Claimed, Settled, Settlement},
    telemetry::Metrics,
    transport::{
        leave::Left,
        mailbox::{Mail, Mailbox},
        polling::{Answer, Post},
        standing::Standing,
    },
};

/// How long a call may take that waits for nobody.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// How long requests may take to end once no shard brings any more.
const LAST_CALLS: Duration = Duration::from_secs(3);

/// How often another edge is told to answer a poll, as long as it has not.
const LET_GO_INTERVAL: Duration = Duration::from_millis(250);

/// The way to one other edge, shared by all requests on it.
#[derive(Debug, Clone)]
pub(super) struct Forwarder {
    connection: Arc<PeerConnection>,
    metrics: Metrics,
    timing: Timing,
    shutdown: Shutdown,
    waiting_polls: Arc<Semaphore>,
    posts: Arc<Semaphore>,
}

/// How long what is carried to another edge may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timing {
    /// To take what is written to it, or to say something. Whoever takes longer has missed a ping.
    pub(super) stall: Duration,
    /// What WebSockets are sent away over when this edge is stopped.
    pub(super) drain: Duration,
}

/// Why there is no answer.
enum CallError {
    /// To none of the call's fault: there is none to give, and the client's connection is to be cut.
    Cut,
    Unreachable,
    Misrouted,
}

impl Forwarder {
    pub(super) fn new(
        address: PeerAddress,
        tls: Option<MutualTls>,
        metrics: Metrics,
        timing: Timing,
        shutdown: Shutdown,
    ) -> Self {
        let connection = Arc::new(PeerConnection::new(address, tls));
        let slots = |max| Arc::new(Semaphore::new(usize::try_from(max).unwrap_or(usize::MAX)));
        let (waiting_polls, posts) = (slots(WAITING_POLLS_MAX), slots(POSTS_MAX));
        Self { connection, metrics, timing, shutdown, waiting_polls, posts }
    }

    /// Runs until no shard is left to bring requests, and then until the last of them have ended.
    pub(super) async fn run(self, mut mail: Mailbox) {
        let mut requests = JoinSet::new();
        loop {
            tokio::select! {
                received = mail.next() => match received {
                    Some(mail) => {
                        requests.spawn(self.clone().bring(mail));
                    }
                    None => break,
                },
                _ = requests.join_next(), if !requests.is_empty() => {}
            }
        }
        let rest = async { while requests.join_next().await.is_some() {} };
        // They are the clients' to end, and each ends by itself: this is for what is stuck.
        if time::timeout(self.timing.drain.saturating_add(LAST_CALLS), rest).await.is_err() {
            tracing::debug!("requests for another edge were cut at the end of the drain");
        }
    }

    async fn bring(self, mail: Mail) {
        match mail {
            // Boxed, all but what lasts longest: a WebSocket's task must not be as large as a call.
            Mail::Poll { session, reply } => Box::pin(self.poll(session, reply)).await,
            Mail::Post { session, body, reply } => Box::pin(self.post(session, body, reply)).await,
            Mail::Ask { session, reply } => {
                // Whoever asked may have hung up.
                reply.send(Box::pin(self.ask_upgrade(session)).await).ok();
            }
            Mail::Probe { session, stream, early } => {
                if let Err(error) = self.carry(session, stream, early).await {
                    tracing::debug!(%error, "tunnel to another edge ended");
                }
            }
            Mail::Claim { claim, reply } => {
                // Whoever asked may have stopped waiting.
                reply.send(Box::pin(self.claim(*claim)).await).ok();
            }
            Mail::Settle { settlement, reply } => {
                reply.send(Box::pin(self.settle(settlement)).await).ok();
            }
            // It is opened on the edge that the client has come to.
            Mail::Open { .. } => {}
            Mail::Leave { session, left } => Box::pin(self.leave(session, left)).await,
        }
    }

    async fn poll(&self, session: SessionId, mut reply: oneshot::Sender<Answer>) {
        let Ok(_waits) = self.waiting_polls.try_acquire() else {
            self.metrics.limit_hits.peer_polls.increment(1);
            // It begins anew, here most likely, where it is in nobody's way.
            reply.send(Answer::UnknownSession).ok();
            return;
        };
        let request = PollRequest { session: session.to_bytes() };
        let call = async {
            let mut client = self.connection.client().await?;
            Ok(client.poll(request).await?.into_inner())
        };
        let answered = tokio::select! {
            answered = self.while_it_may_live(call) => Some(answered),
            () = reply.closed() => None,
            never = self.let_go(session) => match never {},
        };
        let has_hung_up = match answered {
            Some(answered) => match self.outcome(answered) {
                Some(answer) => matches!(reply.send(answer), Err(Answer::Payload { .. })),
                None => false,
            },
            None => true,
        };
        if has_hung_up {
            self.metrics.forwards.hung_up.increment(1);
            // The call is cancelled, but its answer may have been on its way, and the packets cannot be given again.
            self.leave(session, Left::LostAnswer).await;
        }
    }

    /// Once this edge is being stopped, has the poll answered, so that the client brings the next one to another edge.
    async fn let_go(&self, session: SessionId) -> Infallible {
        self.shutdown.requested().await;
        loop {
            self.leave(session, Left::Poll).await;
            // One that this edge was brought at the very end may come there after it.
            time::sleep(LET_GO_INTERVAL).await;
        }
    }

    async fn post(
        &self,
        session: SessionId,
        body: oneshot::Receiver<Post>,
        reply: oneshot::Sender<Answer>,
    ) {
        let Ok(_under_way) = self.posts.try_acquire() else {
            self.metrics.limit_hits.peer_posts.increment(1);
            // As with a poll.
            reply.send(Answer::UnknownSession).ok();
            return;
        };
        let (parts, stream) = mpsc::channel(2);
        let part = |part| PostPart { part: Some(part) };
        let bring_body = async {
            // The stream ends with its receiver, and without a body where the client has hung up.
            parts.send(part(Part::Session(session.to_bytes()))).await.ok();
            if let Ok(post) = body.await {
                parts.send(part(answers::post_to_wire(post))).await.ok();
            }
            drop(parts);
        };
        let call = async {
            let mut client = self.connection.client().await?;
            Ok(client.post(ReceiverStream::new(stream)).await?.into_inner())
        };
        let mut call = pin!(call);
        let answered = tokio::select! {
            // An answer may come before the body.
            answered = &mut call => answered,
            () = bring_body => self.while_it_may_live(call).await,
        };
        if let Some(answer) = self.outcome(answered) {
            // A client that has hung up meanwhile needs none.
            reply.send(answer).ok();
        }
    }

    /// Waits for an answer that a session gives sooner than it is given up: to a poll with its next ping, to a post once that is
    /// handled. An edge that takes longer is stuck.
    async fn while_it_may_live<T>(
        &self,
        call: impl Future<Output = Result<T, CallError>>,
    ) -> Result<T, CallError> {
        let patience = self.timing.stall.saturating_add(CALL_TIMEOUT);
        time::timeout(patience, call).await.unwrap_or(Err(CallError::Unreachable))
    }

    async fn ask_upgrade(&self, session: SessionId) -> Standing {
        let request = AskUpgradeRequest { session: session.to_bytes() };
        let call = async {
            let mut client = self.connection.client().await?;
            Ok::<_, CallError>(client.ask_upgrade(request).await?.into_inner())
        };
        match time::timeout(CALL_TIMEOUT, call).await.unwrap_or(Err(CallError::Unreachable)) {
            Ok(answer) => {
                self.metrics.forwards.answered.increment(1);
                answers::standing_from_wire(&answer)
            }
            Err(error) => {
                self.failed(&error);
                Standing::unknown()
            }
        }
    }

    async fn claim(&self, claim: Claim) -> Option<Claimed> {
        let id = claim.wanted.id;
        let call = async {
            let mut client = self.connection.client().await?;
            let response = client.claim(claims::claim_to_wire(claim)).await?.into_inner();
            claims::claimed_from_wire(id, response).map_err(|_| CallError::Misrouted)
        };
        self.counted(time::timeout(CALL_TIMEOUT, call).await)?
    }

    async fn settle(&self, settlement: Settlement) -> Option<Settled> {
        let call = async {
            let mut client = self.connection.client().await?;
            let request = claims::settlement_to_wire(settlement);
            Ok(claims::settled_from_wire(client.settle(request).await?.into_inner()))
        };
        // The other edge waits for a business service.
        self.counted(time::timeout(CALL_TIMEOUT * 2, call).await)?
    }

    fn counted<T>(&self, outcome: Result<Result<T, CallError>, Elapsed>) -> Option<T> {
        match outcome.unwrap_or(Err(CallError::Unreachable)) {
            Ok(answer) => {
                self.metrics.forwards.answered.increment(1);
                Some(answer)
            }
            Err(error) => {
                self.failed(&error);
                None
            }
        }
    }

    async fn leave(&self, session: SessionId, left: Left) {
        let left = answers::left_to_wire(left).into();
        let request = LeaveRequest { session: session.to_bytes(), left };
        let call = async {
            let mut client = self.connection.client().await?;
            client.leave(request).await?;
            Ok::<_, CallError>(())
        };
        // Without it the session ends less gracefully.
        time::timeout(CALL_TIMEOUT, call).await.ok();
    }

    /// Carries a WebSocket to the session that it is to take over.
    async fn carry(
        &self,
        session: SessionId,
        client: DetachedStream,
        early: Bytes,
    ) -> io::Result<()> {
        let client = client.attach()?;
        let opened = tunnel::open(&self.connection, session);
        let (peer, answered) = Box::pin(time::timeout(CALL_TIMEOUT, opened)).await??;
        // Copied: each would keep the whole buffer that hyper has read into, for as long as the tunnel lives.
        let begun = (early.to_vec(), answered.to_vec());
        drop((early, answered));
        self.metrics.tunnels.increment(1.0);
        let carried = tokio::select! {
            carried = tunnel::carry((&client, begun.0), (&peer, begun.1), self.timing.stall) => carried,
            () = self.send_away(session) => Ok(()),
        };
        self.metrics.tunnels.decrement(1.0);
        carried
    }

    /// Once this edge is being stopped, has the session closed, at some time of the drain: clients do not come back all at
    /// once. Returns when the time to close is over.
    async fn send_away(&self, session: SessionId) {
        self.shutdown.requested().await;
        time::sleep(part_of(self.timing.drain)).await;
        Box::pin(self.leave(session, Left::WebSocket)).await;
        time::sleep(tunnel::CLOSE_DEADLINE).await;
    }

    fn outcome(&self, answered: Result<PollingAnswer, CallError>) -> Option<Answer> {
        match answered
            .and_then(|answer| answers::from_wire(answer).map_err(|_| CallError::Misrouted))
        {
            Ok(answer) => {
                self.metrics.forwards.answered.increment(1);
                Some(answer)
            }
            Err(error) => self.failed(&error),
        }
    }

    /// Counts a failure, and returns what the client is told: it begins anew soonest when its session is unknown.
    fn failed(&self, error: &CallError) -> Option<Answer> {
        let forwards = &self.metrics.forwards;
        let (counter, answer): (&Counter, _) = match error {
            CallError::Cut => (&forwards.answered, None),
            CallError::Unreachable => (&forwards.unreachable, Some(Answer::UnknownSession)),
            CallError::Misrouted => (&forwards.misrouted, Some(Answer::UnknownSession)),
        };
        counter.increment(1);
        answer
    }
}

impl From<ConnectError> for CallError {
    fn from(_: ConnectError) -> Self {
        // Logged by the connection, once for each outage.
        Self::Unreachable
    }
}

impl From<Status> for CallError {
    fn from(status: Status) -> Self {
        if status.code() == Code::Aborted {
            Self::Cut
        } else if status.code() == Code::FailedPrecondition {
            Self::Misrouted
        } else {
            Self::Unreachable
        }
    }
}

/// Some part of `duration`.
fn part_of(duration: Duration) -> Duration {
    let random = getrandom::u32().unwrap_or(u32::MAX / 2);
    duration.mul_f64(f64::from(random) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, future, sync::Mutex};

    use http::{Request, Response};
    use hyper::{body::Incoming, server::conn::http2, service::service_fn};
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use service_kit::shutdown::ShutdownTrigger;
    use tokio::net::TcpListener;
    use tonic::body::Body;

    use super::*;
    use crate::shard::Wanted;

    /// The forwarder, and what keeps it going.
    async fn to_a_silent_edge() -> (Forwarder, (TcpListener, ShutdownTrigger)) {
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let authority = silent.local_addr().unwrap().to_string().parse().unwrap();
        let timing = Timing { stall: CALL_TIMEOUT, drain: CALL_TIMEOUT };
        let address = PeerAddress { number: 2, authority, is_tls: false };
        let (trigger, shutdown) = Shutdown::new();
        (Forwarder::new(address, None, Metrics::new(), timing, shutdown), (silent, trigger))
    }

    #[tokio::test]
    async fn so_many_polls_wait_for_another_edge_and_no_more() {
        let (forwarder, _edge) = to_a_silent_edge().await;
        let session = SessionId::random(2, 0);
        let mut tasks = JoinSet::new();
        let mut begin = || {
            let (reply, answered) = oneshot::channel();
            let forwarder = forwarder.clone();
            tasks.spawn(async move { forwarder.poll(session, reply).await });
            answered
        };

        let mut waiting: Vec<_> = (0..WAITING_POLLS_MAX).map(|_| begin()).collect();
        while forwarder.waiting_polls.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(begin().await, Ok(Answer::UnknownSession));
        assert!(waiting.iter_mut().all(|poll| poll.try_recv().is_err()), "the others wait");

        // Whoever hangs up makes room.
        drop(waiting.pop());
        while forwarder.waiting_polls.available_permits() == 0 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn so_many_posts_are_on_their_way_to_another_edge_and_no_more() {
        let (forwarder, _edge) = to_a_silent_edge().await;
        let session = SessionId::random(2, 0);
        let mut tasks = JoinSet::new();
        let mut begin = || {
            let (reply, answered) = oneshot::channel();
            // The body does not come.
            let (client, body) = oneshot::channel();
            let forwarder = forwarder.clone();
            tasks.spawn(async move { forwarder.post(session, body, reply).await });
            (client, answered)
        };

        let mut under_way: Vec<_> = (0..POSTS_MAX).map(|_| begin()).collect();
        while forwarder.posts.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        let (_client, answered) = begin();
        assert_eq!(answered.await, Ok(Answer::UnknownSession));
        assert!(under_way.iter_mut().all(|(_, answered)| answered.try_recv().is_err()));
        assert_eq!(forwarder.waiting_polls.available_permits(), 15 * 1024, "polls have their own");

        // One that ends makes room.
        tasks.abort_all();
        while tasks.join_next().await.is_some() {}
        assert_eq!(forwarder.posts.available_permits(), 1024);
    }

    /// Far longer than any bound, and over at once where time jumps.
    const FOR_EVER: Duration = Duration::from_secs(3600);

    /// The paths of what a mute edge was asked.
    type Asked = Arc<Mutex<Vec<String>>>;

    /// An edge that takes every call, and pings, and never answers a call.
    async fn to_a_mute_edge() -> (Forwarder, Asked, (JoinSet<()>, ShutdownTrigger)) {
        let (forwarder, (listener, trigger)) = to_a_silent_edge().await;
        let asked = Asked::default();
        let asks = Arc::clone(&asked);
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let mute = service_fn(move |request: Request<Incoming>| {
                asks.lock().unwrap().push(request.uri().path().to_owned());
                future::pending::<Result<Response<Body>, Infallible>>()
            });
            let connection = http2::Builder::new(TokioExecutor::new());
            connection.serve_connection(TokioIo::new(stream), mute).await.unwrap();
        });
        (forwarder, asked, (serving, trigger))
    }

    /// Timers are late by up to a millisecond.
    #[track_caller]
    fn assert_took(begun: time::Instant, bound: Duration) {
        let took = begun.elapsed();
        assert!((bound..bound + Duration::from_millis(10)).contains(&took), "{took:?}");
    }

    #[tokio::test]
    async fn every_call_that_another_edge_never_answers_is_given_up_within_its_bound() {
        let (forwarder, asked, _edge) = to_a_mute_edge().await;
        let session = SessionId::random(2, 0);
        // Connected before time jumps.
        forwarder.connection.client().await.map(drop).unwrap();
        time::pause();
        let session_bound = forwarder.timing.stall + CALL_TIMEOUT;

        let begun = time::Instant::now();
        let (reply, answered) = oneshot::channel();
        let polls = forwarder.poll(session, reply);
        time::timeout(FOR_EVER, polls).await.unwrap();
        assert_eq!(answered.await, Ok(Answer::UnknownSession));
        assert_took(begun, session_bound);

        let begun = time::Instant::now();
        let (reply, answered) = oneshot::channel();
        let (client, body) = oneshot::channel();
        client.send(Post::Text("3".into())).ok();
        let posts = forwarder.post(session, body, reply);
        time::timeout(FOR_EVER, posts).await.unwrap();
        assert_eq!(answered.await, Ok(Answer::UnknownSession));
        assert_took(begun, session_bound);

        let begun = time::Instant::now();
        assert_eq!(forwarder.ask_upgrade(session).await, Standing::unknown());
        assert_took(begun, CALL_TIMEOUT);

        let begun = time::Instant::now();
        let wanted = Wanted { id: session, offset: None, delivered: None };
        let claim = Claim { wanted, namespace: "/chat".to_owned(), owner: None };
        assert_eq!(forwarder.claim(claim).await, None);
        assert_took(begun, CALL_TIMEOUT);

        let begun = time::Instant::now();
        let settlement = Settlement { id: session, shard: 0, number: 1 };
        assert_eq!(forwarder.settle(settlement).await, None);
        assert_took(begun, 2 * CALL_TIMEOUT);

        let begun = time::Instant::now();
        forwarder.leave(session, Left::Poll).await;
        assert_took(begun, CALL_TIMEOUT);

        let methods = proto::method_paths("sockeye.peer.v1");
        let asked: BTreeSet<_> = asked.lock().unwrap().drain(..).collect();
        assert_eq!(asked, methods, "each of them was called");
    }

    #[tokio::test]
    async fn another_edge_is_told_to_let_a_poll_go_until_it_has() {
        let (forwarder, asked, (_serving, stopped)) = to_a_mute_edge().await;
        // Connected before time jumps.
        forwarder.connection.client().await.map(drop).unwrap();
        time::pause();
        stopped.trigger();

        let (reply, _answered) = oneshot::channel();
        forwarder.poll(SessionId::random(2, 0), reply).await;

        let asked = asked.lock().unwrap();
        let told = asked.iter().filter(|path| path.ends_with("/Leave")).count();
        // Each takes as long as it may, and a poll twice that.
        assert_eq!(told, 2, "{asked:?}");
    }

    #[tokio::test]
    async fn an_edge_that_accepts_and_says_nothing_is_given_up() {
        let (forwarder, _edge) = to_a_silent_edge().await;
        let session = SessionId::random(2, 0);
        // Connected before time jumps.
        forwarder.connection.client().await.map(drop).unwrap();
        time::pause();

        let (reply, answered) = oneshot::channel();
        forwarder.poll(session, reply).await;

        assert_eq!(answered.await, Ok(Answer::UnknownSession));
        assert_eq!(forwarder.ask_upgrade(session).await, Standing::unknown());
    }
}
