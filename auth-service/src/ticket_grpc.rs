//! Serves `sockeye.auth.v1.TicketService` over gRPC.

use std::sync::Arc;

use proto::auth::v1 as wire;
use proto::auth::v1::issue_ticket_response::Outcome;
use proto::auth::v1::ticket_service_server::TicketService;
use secrecy::{ExposeSecret, SecretString};
use service_kit::grpc::Caller;
use tonic::{Request, Response, Status};

use crate::audit;
use crate::outage::VerifyError;
use crate::telemetry;
use crate::tickets::IssueTicketError;
use crate::token_verifier::TokenVerifier;

/// Answers the calls for tickets.
#[derive(Debug)]
pub(crate) struct TicketIssuer {
    pub(crate) verifier: Arc<TokenVerifier>,
}

#[tonic::async_trait]
impl TicketService for TicketIssuer {
    async fn issue_ticket(
        &self,
        request: Request<wire::IssueTicketRequest>,
    ) -> Result<Response<wire::IssueTicketResponse>, Status> {
        let caller = Caller::of(&request);
        let token = SecretString::from(request.into_inner().token);
        let issued = self.verifier.issue_ticket(token.expose_secret()).await;
        let event = match &issued {
            Ok((identity, Ok(_))) => audit::ticket(Ok(identity)),
            Ok((identity, Err(error))) => audit::no_ticket(identity, *error),
            Err(error) => audit::ticket(Err(*error)),
        };
        audit::record(event, caller.as_ref());
        let outcome = match issued {
            Ok((_, ticket)) => {
                let ticket = ticket?;
                telemetry::record_issued_ticket();
                Outcome::Ticket(wire::Ticket {
                    ticket: ticket.ticket.expose_secret().to_owned(),
                    expires_at_unix_ms: ticket.expires_at_unix_ms,
                })
            }
            Err(VerifyError::Refused(refusal)) => {
                tracing::debug!(outcome = refusal.label(), "no ticket for a refused token");
                Outcome::Refusal(refusal.into())
            }
            Err(VerifyError::Undecided(outage)) => return Err(outage.into()),
        };
        Ok(Response::new(wire::IssueTicketResponse { outcome: Some(outcome) }))
    }
}

impl From<IssueTicketError> for Status {
    fn from(error: IssueTicketError) -> Self {
        match error {
            IssueTicketError::Full | IssueTicketError::SubjectFull => {
                Self::resource_exhausted(error.to_string())
            }
            IssueTicketError::Random => {
                tracing::error!(%error, "no ticket can be given");
                Self::internal("there is no ticket")
            }
        }
    }
}
