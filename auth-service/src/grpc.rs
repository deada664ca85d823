//! Serves `sockeye.auth.v1` over gRPC: tonic in, domain out.

use std::error::Error;

use proto::auth::v1 as wire;
use proto::auth::v1::auth_service_server::AuthService;
use secrecy::ExposeSecret;
use service_kit::clock;
use service_kit::grpc::Caller;
use service_kit::shutdown::Shutdown;
use service_kit::trace::TraceParent;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::audit;
use crate::authenticate_each;
use crate::capabilities::{Action, Capability, CapabilityError};
use crate::identity::Identity;
use crate::issue::{IssueTokenError, ParseTokenRequestError, TokenIssuer, TokenRequest};
use crate::outage::Outage;
use crate::refusal::Refusal;
use crate::revocation_watch;
use crate::telemetry;
use crate::verification::{Question, Verification};

/// Answers the calls of the contract.
#[derive(Debug)]
pub(crate) struct Authenticator {
    pub(crate) verification: Verification,
    /// Absent unless issuing is switched on.
    pub(crate) token_issuer: Option<TokenIssuer>,
    /// Ends the calls that would go on for ever.
    pub(crate) shutdown: Shutdown,
}

#[tonic::async_trait]
impl AuthService for Authenticator {
    async fn authenticate(
        &self,
        request: Request<wire::AuthenticateRequest>,
    ) -> Result<Response<wire::AuthenticateResponse>, Status> {
        let (parent, caller) = (trace_parent(&request), Caller::of(&request));
        let token = request.into_inner().token.into();
        let question = Question { token, parent, method: "Authenticate" };
        Ok(Response::new(self.verification.answer(question, caller.as_ref()).await?))
    }

    type AuthenticateEachStream = ReceiverStream<authenticate_each::Message>;

    async fn authenticate_each(
        &self,
        request: Request<Streaming<wire::AuthenticateEachRequest>>,
    ) -> Result<Response<Self::AuthenticateEachStream>, Status> {
        let caller = Caller::of(&request);
        let (verification, shutdown) = (self.verification.clone(), self.shutdown.clone());
        let answers =
            authenticate_each::begin(verification, request.into_inner(), caller, shutdown);
        Ok(Response::new(ReceiverStream::new(answers)))
    }

    type WatchRevocationsStream = ReceiverStream<revocation_watch::Answer>;

    async fn watch_revocations(
        &self,
        request: Request<wire::WatchRevocationsRequest>,
    ) -> Result<Response<Self::WatchRevocationsStream>, Status> {
        let after = request.into_inner().after;
        let answers = revocation_watch::begin(
            self.verification.verifier.deny_list.clone(),
            after,
            self.shutdown.clone(),
        );
        Ok(Response::new(ReceiverStream::new(answers)))
    }

    async fn issue_token(
        &self,
        request: Request<wire::IssueTokenRequest>,
    ) -> Result<Response<wire::IssueTokenResponse>, Status> {
        let Some(token_issuer) = &self.token_issuer else {
            return Err(Status::unimplemented("issuing tokens is switched off"));
        };
        let caller = Caller::of(&request);
        let wire::IssueTokenRequest { subject, name, lifetime_seconds, capabilities } =
            request.into_inner();
        let capabilities = capabilities.map(read_capabilities).transpose()?;
        let token_request = TokenRequest::parse(subject, name, lifetime_seconds, capabilities)?;
        let issued = token_issuer.issue(&token_request, clock::unix_ms())?;
        telemetry::record_issued_token();
        audit::record(
            audit::issued_token(token_issuer.issuer(), token_request.subject()),
            caller.as_ref(),
        );
        Ok(Response::new(wire::IssueTokenResponse {
            token: issued.token.expose_secret().to_owned(),
            expires_at_unix_ms: issued.expires_at_unix_ms,
        }))
    }
}

fn trace_parent<T>(request: &Request<T>) -> Option<TraceParent> {
    let text = request.metadata().get("traceparent")?.to_str().ok()?;
    TraceParent::parse(text)
}

impl From<Identity> for wire::Identity {
    fn from(identity: Identity) -> Self {
        let profile = identity.profile();
        Self {
            subject: identity.subject,
            issuer: identity.issuer,
            tenant: identity.tenant,
            profile: profile.into(),
            expires_at_unix_ms: identity.expires_at_unix_ms,
            capabilities: identity.capabilities.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<Capability> for wire::Capability {
    fn from(Capability { actions, rooms, events }: Capability) -> Self {
        let actions = actions.into_iter().map(|action| match action {
            Action::Join => wire::capability::Action::Join,
            Action::Publish => wire::capability::Action::Publish,
            Action::Presence => wire::capability::Action::Presence,
            Action::History => wire::capability::Action::History,
        });
        Self { actions: actions.map(Into::into).collect(), rooms, events }
    }
}

/// Reads what a token is to allow, unchecked but for its actions.
fn read_capabilities(
    list: wire::CapabilityList,
) -> Result<Vec<Capability>, ParseTokenRequestError> {
    let read = |capability: wire::Capability| {
        let actions = capability.actions.iter().map(|action| {
            match wire::capability::Action::try_from(*action) {
                Ok(wire::capability::Action::Join) => Ok(Action::Join),
                Ok(wire::capability::Action::Publish) => Ok(Action::Publish),
                Ok(wire::capability::Action::Presence) => Ok(Action::Presence),
                Ok(wire::capability::Action::History) => Ok(Action::History),
                Ok(wire::capability::Action::Unspecified) | Err(_) => Err(CapabilityError::Actions),
            }
        });
        let actions = actions.collect::<Result<_, _>>()?;
        Ok(Capability { actions, rooms: capability.rooms, events: capability.events })
    };
    list.capabilities.into_iter().map(read).collect()
}

impl From<Refusal> for wire::Refusal {
    fn from(refusal: Refusal) -> Self {
        let reason = match refusal {
            Refusal::Malformed => wire::RefusalReason::Malformed,
            Refusal::Algorithm => wire::RefusalReason::Algorithm,
            Refusal::UnknownKey => wire::RefusalReason::UnknownKey,
            Refusal::Signature => wire::RefusalReason::Signature,
            Refusal::Expired => wire::RefusalReason::Expired,
            Refusal::NotYetValid => wire::RefusalReason::NotYetValid,
            Refusal::Issuer => wire::RefusalReason::Issuer,
            Refusal::Audience => wire::RefusalReason::Audience,
            Refusal::MissingClaim => wire::RefusalReason::MissingClaim,
            Refusal::Revoked => wire::RefusalReason::Revoked,
            Refusal::Inactive => wire::RefusalReason::Inactive,
            Refusal::Scope => wire::RefusalReason::Scope,
            Refusal::Ticket => wire::RefusalReason::Ticket,
            Refusal::Capabilities => wire::RefusalReason::Capabilities,
        };
        Self { reason: reason.into() }
    }
}

impl From<Outage> for Status {
    fn from(_: Outage) -> Self {
        Self::unavailable("the token's issuer cannot be asked about it now")
    }
}

impl From<ParseTokenRequestError> for Status {
    fn from(error: ParseTokenRequestError) -> Self {
        Self::invalid_argument(error.to_string())
    }
}

impl From<IssueTokenError> for Status {
    fn from(error: IssueTokenError) -> Self {
        tracing::error!(error = &error as &dyn Error, "signing a token failed");
        Self::internal("the token cannot be signed")
    }
}
