//! An auth service that decides by what a token begins with.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use proto::auth::v1::{
    AuthenticateEachRequest, AuthenticateEachResponse, AuthenticateRequest, AuthenticateResponse,
    Capability, Identity, IssueTokenRequest, IssueTokenResponse, Refusal, RefusalReason,
    Revocation, RevocationPoint, RevocationTarget, TokenAnswer, TokenMarks, TokenQuestion,
    WatchRevocationsRequest, WatchRevocationsResponse, auth_service_server::AuthService,
    authenticate_response::Outcome, capability, revocation_target::Tokens,
};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{unix_ms, within};

/// Accepts `ok:<subject>` (a user's tokens are told apart by `#` and whatever follows; a tenant follows `@`, and behind that an issuer `%`), `short:<subject>`, which expires in two seconds, `over:<subject>`, which does at once, and
/// `late:<subject>`, of which it tells only once released; refuses all else, `held:` only once released; or fails when down.
#[derive(Clone, Default)]
pub(crate) struct FakeAuth {
    pub(crate) down: Arc<AtomicBool>,
    /// How many calls were held so far.
    pub(crate) held: Arc<AtomicUsize>,
    pub(crate) release: watch::Sender<bool>,
    pub(crate) revocations: watch::Sender<Vec<Revocation>>,
    /// How many streams of questions have ended.
    pub(crate) ended: Arc<AtomicUsize>,
    /// Ends every stream that there is.
    pub(crate) cut: watch::Sender<u32>,
}

impl FakeAuth {
    /// Takes the tokens of a subject back, whenever they were issued.
    pub(crate) fn revoke(&self, subject: &str) {
        self.revoke_all_of(Tokens::Subject(subject.to_owned()));
    }

    /// Takes one token back, which is its own id.
    pub(crate) fn revoke_token(&self, token: &str) {
        self.revoke_all_of(Tokens::TokenId(token.to_owned()));
    }

    fn revoke_all_of(&self, tokens: Tokens) {
        let target = Some(RevocationTarget { issuer: "test".to_owned(), tokens: Some(tokens) });
        self.revocations.send_modify(|all| {
            let position = all.len() as u64 + 1;
            let revoked = Revocation { position, target, ..Revocation::default() };
            all.push(Revocation { issued_before_unix_ms: u64::MAX, ..revoked });
        });
    }

    /// Waits until so many calls were held.
    pub(crate) async fn is_held(&self, count: usize) {
        let held = async {
            while self.held.load(Ordering::Relaxed) < count {
                tokio::task::yield_now().await;
            }
        };
        within("a call that is held", held).await;
    }

    fn point(&self) -> RevocationPoint {
        let position = self.revocations.borrow().len() as u64;
        RevocationPoint { list_id: "list".to_owned(), position }
    }
}

#[tonic::async_trait]
impl AuthService for FakeAuth {
    async fn authenticate(
        &self,
        request: Request<AuthenticateRequest>,
    ) -> Result<Response<AuthenticateResponse>, Status> {
        if self.down.load(Ordering::Relaxed) {
            return Err(Status::unavailable("down"));
        }
        let token = request.into_inner().token;
        let checked = Some(self.point());
        if token.starts_with("held:") || token.starts_with("late:") {
            self.held.fetch_add(1, Ordering::Relaxed);
            let released = self.release.subscribe().wait_for(|released| *released).await.is_ok();
            assert!(released, "the sender is in self");
        }
        let lifetime = match token.split_once(':') {
            Some(("over", _)) => 0,
            Some(("short", _)) => 2_000,
            _ => 3_600_000,
        };
        let behind = |mark: char| token.split_once(mark)?.1.split(['@', '%']).next();
        let outcome = match token.split_once(':') {
            Some(("ok" | "short" | "over" | "late", subject)) => Outcome::Identity(Identity {
                subject: subject.split(['#', '@', '%']).next().unwrap().to_owned(),
                issuer: behind('%').unwrap_or("test").to_owned(),
                tenant: behind('@').unwrap_or_default().to_owned(),
                profile: format!("{{\"id\":\"{subject}\"}}").into(),
                expires_at_unix_ms: unix_ms() + lifetime,
                capabilities: subject.split_once("#may-join=").map(may_join).into_iter().collect(),
            }),
            _ => Outcome::Refusal(Refusal { reason: RefusalReason::Signature.into() }),
        };
        let marks = Some(TokenMarks { token_id: token.clone(), ..TokenMarks::default() });
        Ok(Response::new(AuthenticateResponse { outcome: Some(outcome), marks, checked }))
    }

    type AuthenticateEachStream = ReceiverStream<Result<AuthenticateEachResponse, Status>>;

    /// Each answer goes in a message of its own, so that one that is held holds up no other.
    async fn authenticate_each(
        &self,
        request: Request<Streaming<AuthenticateEachRequest>>,
    ) -> Result<Response<Self::AuthenticateEachStream>, Status> {
        let (auth, mut questions) = (self.clone(), request.into_inner());
        let (answers, receiver) = mpsc::channel(1);
        tokio::spawn(async move {
            let mut cut = auth.cut.subscribe();
            let ended = answers.clone();
            loop {
                let message = tokio::select! {
                    message = questions.message() => message,
                    _ = cut.changed() => {
                        ended.send(Err(Status::unavailable("cut"))).await.ok();
                        return;
                    }
                };
                let Ok(Some(message)) = message else {
                    auth.ended.fetch_add(1, Ordering::Relaxed);
                    return;
                };
                for TokenQuestion { number, token, .. } in message.questions {
                    let (auth, answers) = (auth.clone(), answers.clone());
                    tokio::spawn(async move {
                        let request = Request::new(AuthenticateRequest { token });
                        let response = auth.authenticate(request).await.ok();
                        let response = response.map(Response::into_inner);
                        let answers_of_one = vec![TokenAnswer { number, response }];
                        let message = AuthenticateEachResponse { answers: answers_of_one };
                        // The edge may be gone.
                        answers.send(Ok(message)).await.ok();
                    });
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    type WatchRevocationsStream = ReceiverStream<Result<WatchRevocationsResponse, Status>>;

    async fn watch_revocations(
        &self,
        request: Request<WatchRevocationsRequest>,
    ) -> Result<Response<Self::WatchRevocationsStream>, Status> {
        if self.down.load(Ordering::Relaxed) {
            return Err(Status::unavailable("down"));
        }
        let mut told = request.into_inner().after.map_or(0, |point| point.position);
        let (answers, receiver) = mpsc::channel(1);
        let (auth, mut revocations) = (self.clone(), self.revocations.subscribe());
        let mut cut = self.cut.subscribe();
        tokio::spawn(async move {
            loop {
                let point = auth.point();
                let mut revoked = revocations.borrow_and_update().clone();
                revoked.retain(|one| one.position > told && one.position <= point.position);
                told = point.position;
                let answer = WatchRevocationsResponse { revocations: revoked, told: Some(point) };
                if answers.send(Ok(answer)).await.is_err() {
                    return;
                }
                tokio::select! {
                    changed = revocations.changed() => assert!(changed.is_ok(), "it is in self"),
                    _ = cut.changed() => return,
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn issue_token(
        &self,
        _: Request<IssueTokenRequest>,
    ) -> Result<Response<IssueTokenResponse>, Status> {
        Err(Status::unimplemented("a double"))
    }
}

fn may_join((_, room): (&str, &str)) -> Capability {
    let (actions, rooms) = (vec![capability::Action::Join.into()], vec![room.to_owned()]);
    Capability { actions, rooms, events: Vec::new() }
}
