//! Serves `sockeye.auth.v1.RevocationService` over gRPC.

use std::error::Error;
use std::ops::RangeInclusive;
use std::sync::Arc;

use proto::auth::v1 as wire;
use proto::auth::v1::revocation_service_server::RevocationService;
use proto::auth::v1::revocation_target::Tokens as WireTokens;
use service_kit::clock;
use service_kit::grpc::Caller;
use tokio::task;
use tonic::{Request, Response, Status};

use crate::audit;
use crate::deny_list::{
    DenyList, Page, Revocation, RevocationRequest, RevokeError, Target, Tokens,
};
use crate::revocation_watch::PAGE_LENGTH_MAX;
use crate::rules::Rules;
use crate::telemetry;

const TARGET_BYTES: RangeInclusive<usize> = 1..=512;

/// Answers the calls that take tokens back.
#[derive(Debug)]
pub(crate) struct Revoker {
    pub(crate) deny_list: Arc<DenyList>,
    /// Those of the issuers whose tokens are accepted.
    pub(crate) rules: Vec<Rules>,
}

#[tonic::async_trait]
impl RevocationService for Revoker {
    async fn revoke(
        &self,
        request: Request<wire::RevokeRequest>,
    ) -> Result<Response<wire::RevokeResponse>, Status> {
        let now_unix_ms = clock::unix_ms();
        let caller = Caller::of(&request);
        let request =
            parse_request(request.into_inner(), &self.rules, now_unix_ms).inspect_err(|_| {
                audit::record(audit::not_revoked("invalid_request"), caller.as_ref())
            })?;
        let deny_list = self.deny_list.clone();
        // Whoever asked may give up; what was begun is done.
        let revoked = task::spawn_blocking(move || {
            let revocation = deny_list.revoke(request, now_unix_ms).inspect_err(|error| {
                audit::record(audit::not_revoked(error.label()), caller.as_ref())
            })?;
            audit::record(audit::revoked(&revocation), caller.as_ref());
            telemetry::record_revoked(revocation.target.tokens.label());
            telemetry::record_revocation_count(deny_list.len());
            tracing::info!(
                issuer = revocation.target.issuer,
                tokens = revocation.target.tokens.label(),
                position = revocation.position,
                "tokens revoked"
            );
            Ok::<_, RevokeError>(revocation)
        });
        let revocation = revoked.await.map_err(|_| Status::internal("revoking failed"))??;
        Ok(Response::new(wire::RevokeResponse { revocation: Some(revocation.into()) }))
    }

    async fn list_revocations(
        &self,
        request: Request<wire::ListRevocationsRequest>,
    ) -> Result<Response<wire::ListRevocationsResponse>, Status> {
        let wire::ListRevocationsRequest { after_position, limit } = request.into_inner();
        let limit = if limit == 0 { PAGE_LENGTH_MAX } else { PAGE_LENGTH_MAX.min(limit as usize) };
        let Page { revocations, has_more, .. } = self.deny_list.list(after_position, limit);
        let revocations = revocations.into_iter().map(wire::Revocation::from).collect();
        Ok(Response::new(wire::ListRevocationsResponse { revocations, has_more }))
    }
}

fn parse_request(
    request: wire::RevokeRequest,
    rules: &[Rules],
    now_unix_ms: u64,
) -> Result<RevocationRequest, ParseRevocationError> {
    let wire::RevokeRequest { target, issued_before_unix_ms, expires_at_unix_ms } = request;
    let wire::RevocationTarget { issuer, tokens } = target.unwrap_or_default();
    let tokens = match tokens.ok_or(ParseRevocationError::Target)? {
        WireTokens::TokenId(id) => Tokens::Id(id),
        WireTokens::Session(session) => Tokens::Session(session),
        WireTokens::Subject(subject) => Tokens::Subject(subject),
        WireTokens::All(true) => Tokens::All,
        WireTokens::All(false) => return Err(ParseRevocationError::Target),
    };
    match &tokens {
        Tokens::Id(text) | Tokens::Session(text) | Tokens::Subject(text) => {
            if !TARGET_BYTES.contains(&text.len()) {
                return Err(ParseRevocationError::Target);
            }
        }
        Tokens::All => {}
    }
    // A revocation of an issuer that is written wrong would be kept, and take nothing back.
    let rules = rules.iter().find(|rules| rules.issuer == issuer);
    let rules = rules.ok_or(ParseRevocationError::Issuer)?;
    let issued_before_unix_ms = match (tokens.go_by_time(), issued_before_unix_ms) {
        // Just past the latest that is accepted already: the issuer's clock may be ahead of ours.
        (true, 0) => rules.latest_start_unix_ms(now_unix_ms).saturating_add(1),
        (false, 1..) => return Err(ParseRevocationError::IssuedBefore),
        (true, 1..) | (false, 0) => issued_before_unix_ms,
    };
    let target = Target { issuer, tokens };
    Ok(RevocationRequest { target, issued_before_unix_ms, expires_at_unix_ms })
}

impl From<Revocation> for wire::Revocation {
    fn from(revocation: Revocation) -> Self {
        let tokens = match revocation.target.tokens {
            Tokens::Id(id) => WireTokens::TokenId(id),
            Tokens::Session(session) => WireTokens::Session(session),
            Tokens::Subject(subject) => WireTokens::Subject(subject),
            Tokens::All => WireTokens::All(true),
        };
        let issuer = revocation.target.issuer;
        Self {
            position: revocation.position,
            target: Some(wire::RevocationTarget { issuer, tokens: Some(tokens) }),
            issued_before_unix_ms: revocation.issued_before_unix_ms,
            expires_at_unix_ms: revocation.expires_at_unix_ms,
            revoked_at_unix_ms: revocation.revoked_at_unix_ms,
        }
    }
}

/// Why a request takes nothing back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum ParseRevocationError {
    #[error(
        "target must name tokens, by {} to {} bytes or by all = true",
        TARGET_BYTES.start(),
        TARGET_BYTES.end()
    )]
    Target,
    #[error("target.issuer is not an accepted issuer")]
    Issuer,
    #[error("issued_before_unix_ms goes with a subject or with all")]
    IssuedBefore,
}

impl From<ParseRevocationError> for Status {
    fn from(error: ParseRevocationError) -> Self {
        Self::invalid_argument(error.to_string())
    }
}

impl From<RevokeError> for Status {
    fn from(error: RevokeError) -> Self {
        match error {
            RevokeError::SwitchedOff => Self::unimplemented(error.to_string()),
            RevokeError::Full => Self::resource_exhausted(error.to_string()),
            RevokeError::Write(_) => {
                tracing::error!(error = &error as &dyn Error, "nothing can be revoked any more");
                Self::unavailable(error.to_string())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::capabilities::CapabilityRules;
    use crate::rules::{ClaimNames, TokenTypes};
    use crate::tenant::TenantRule;

    const NOW: u64 = 1_800_000_000_000;

    fn rules(issuer: &str, clock_leeway: Duration) -> Rules {
        Rules {
            issuer: issuer.to_owned(),
            audience: "chat".to_owned(),
            clock_leeway,
            types: TokenTypes::default(),
            scopes: Vec::new(),
            claims: ClaimNames::default(),
            tenant: TenantRule::Fixed(String::new()),
            capabilities: CapabilityRules::default(),
        }
    }

    fn issued_before(issuer: &str, tokens: WireTokens, issued_before_unix_ms: u64) -> u64 {
        let rules =
            [rules("exact", Duration::ZERO), rules("https://id.example", Duration::from_secs(30))];
        let target =
            Some(wire::RevocationTarget { issuer: issuer.to_owned(), tokens: Some(tokens) });
        let request = wire::RevokeRequest { target, issued_before_unix_ms, expires_at_unix_ms: 0 };
        parse_request(request, &rules, NOW).unwrap().issued_before_unix_ms
    }

    #[test]
    fn now_is_as_late_as_the_issuers_clock_may_be() {
        let subject = || WireTokens::Subject("ada".to_owned());

        assert_eq!(issued_before("exact", subject(), 0), NOW + 1);
        assert_eq!(issued_before("https://id.example", subject(), 0), NOW + 30_001);
        assert_eq!(issued_before("https://id.example", WireTokens::All(true), 0), NOW + 30_001);
        assert_eq!(issued_before("https://id.example", subject(), NOW - 7), NOW - 7);
        assert_eq!(issued_before("exact", WireTokens::TokenId("t".to_owned()), 0), 0);
    }
}
