//! What the contract asks about one token, and what it is answered.

use std::sync::Arc;

use proto::auth::v1 as wire;
use secrecy::{ExposeSecret, SecretString};
use service_kit::grpc::Caller;
use service_kit::trace::{TraceParent, Tracer};

use crate::audit;
use crate::identity::Identity;
use crate::outage::{Outage, VerifyError};
use crate::telemetry;
use crate::token_verifier::TokenVerifier;

/// Answers questions about tokens, whichever method they come by. A clone is cheap.
#[derive(Debug, Clone)]
pub(crate) struct Verification {
    pub(crate) verifier: Arc<TokenVerifier>,
    pub(crate) tracer: Tracer,
}

/// A token, and where it comes from.
#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) token: SecretString,
    pub(crate) parent: Option<TraceParent>,
    /// The method by which it was asked.
    pub(crate) method: &'static str,
}

impl Verification {
    /// Decides about a token, and writes it down.
    pub(crate) async fn answer(
        &self,
        Question { token, parent, method }: Question,
        caller: Option<&Caller>,
    ) -> Result<wire::AuthenticateResponse, Outage> {
        let mut span = telemetry::authenticate_span(&self.tracer, parent, method);
        let verified = self.verifier.verify(token.expose_secret()).await;
        let error = verified.as_ref().err().copied();
        telemetry::record_outcome(span.as_mut(), error);
        let trace_id = parent.filter(|parent| parent.is_sampled()).map(TraceParent::trace_id);
        if service_kit::audit::is_on() {
            let event = audit::authentication(
                verified.as_ref().map(|(who, _)| who).map_err(|error| *error),
            );
            audit::record(event.in_trace(trace_id), caller);
        }
        match verified {
            Ok((identity, position)) => Ok(self.accepted(identity, position)),
            Err(VerifyError::Refused(refusal)) => {
                tracing::debug!(
                    outcome = refusal.label(),
                    trace.id = trace_id.map(tracing::field::display),
                    "token refused"
                );
                Ok(wire::AuthenticateResponse {
                    outcome: Some(wire::authenticate_response::Outcome::Refusal(refusal.into())),
                    ..wire::AuthenticateResponse::default()
                })
            }
            Err(VerifyError::Undecided(outage)) => {
                tracing::debug!(
                    outage = outage.label(),
                    trace.id = trace_id.map(tracing::field::display),
                    "nothing decided about a token"
                );
                Err(outage)
            }
        }
    }

    fn accepted(&self, mut identity: Identity, position: u64) -> wire::AuthenticateResponse {
        let marks = std::mem::take(&mut identity.marks);
        wire::AuthenticateResponse {
            outcome: Some(wire::authenticate_response::Outcome::Identity(identity.into())),
            marks: Some(wire::TokenMarks {
                token_id: marks.token_id.unwrap_or_default(),
                session: marks.session.unwrap_or_default(),
                issued_at_unix_ms: marks.issued_at_unix_ms,
            }),
            checked: Some(wire::RevocationPoint {
                list_id: self.verifier.deny_list.id().to_owned(),
                position,
            }),
        }
    }
}
