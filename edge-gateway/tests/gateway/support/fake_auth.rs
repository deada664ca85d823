//! An auth service that decides by what a token begins with.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use proto::auth::v1::{
    AuthenticateRequest, AuthenticateResponse, Identity, IssueTokenRequest, IssueTokenResponse,
    Refusal, RefusalReason, auth_service_server::AuthService, authenticate_response::Outcome,
};
use tokio::sync::watch;
use tonic::{Request, Response, Status};

use super::unix_ms;

/// Accepts `ok:<subject>` and `short:<subject>`, which expires in two seconds; refuses all else, `held:` only once released;
/// or fails when down.
#[derive(Clone, Default)]
pub(crate) struct FakeAuth {
    pub(crate) down: Arc<AtomicBool>,
    /// How many calls were held so far.
    pub(crate) held: Arc<AtomicUsize>,
    pub(crate) release: watch::Sender<bool>,
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
        if token.starts_with("held:") {
            self.held.fetch_add(1, Ordering::Relaxed);
            let released = self.release.subscribe().wait_for(|released| *released).await.is_ok();
            assert!(released, "the sender is in self");
        }
        let lifetime = if token.starts_with("short:") { 2_000 } else { 3_600_000 };
        let outcome = match token.split_once(':') {
            Some(("ok" | "short", subject)) => Outcome::Identity(Identity {
                subject: subject.to_owned(),
                issuer: "test".to_owned(),
                profile: format!("{{\"id\":\"{subject}\"}}").into(),
                expires_at_unix_ms: unix_ms() + lifetime,
            }),
            _ => Outcome::Refusal(Refusal { reason: RefusalReason::Signature.into() }),
        };
        Ok(Response::new(AuthenticateResponse { outcome: Some(outcome) }))
    }

    async fn issue_token(
        &self,
        _: Request<IssueTokenRequest>,
    ) -> Result<Response<IssueTokenResponse>, Status> {
        Err(Status::unimplemented("a double"))
    }
}
