//! Decides about whatever a client sends as its token.

use std::sync::Arc;

use service_kit::clock;
use tokio::time::Instant;

use crate::deny_list::DenyList;
use crate::identity::Identity;
use crate::issuers::Issuers;
use crate::outage::VerifyError;
use crate::tickets::{IssueTicketError, Ticket, Tickets, is_ticket};

/// All that a decision takes: who issues tokens, which were taken back, and which tickets stand for one.
#[derive(Debug)]
pub(crate) struct TokenVerifier {
    pub(crate) issuers: Issuers,
    pub(crate) deny_list: Arc<DenyList>,
    pub(crate) tickets: Tickets,
}

impl TokenVerifier {
    /// Verifies a token, or takes a ticket in its place. What was taken back since a ticket was given is refused too.
    /// Returns with it the position of the last revocation that it was held against.
    pub(crate) async fn verify(&self, token: &str) -> Result<(Identity, u64), VerifyError> {
        if !is_ticket(token) {
            return self.verify_token(token).await;
        }
        let identity = self.tickets.redeem(token, Instant::now())?;
        let position = self.deny_list.check(&identity)?;
        Ok((identity, position))
    }

    /// Gives a ticket for a token, and says whose that is. A ticket is none here: it would go on and on.
    pub(crate) async fn issue_ticket(
        &self,
        token: &str,
    ) -> Result<(Identity, Result<Ticket, IssueTicketError>), VerifyError> {
        let (identity, _) = self.verify_token(token).await?;
        let ticket = self.tickets.issue(identity.clone(), Instant::now(), clock::unix_ms());
        Ok((identity, ticket))
    }

    async fn verify_token(&self, token: &str) -> Result<(Identity, u64), VerifyError> {
        let identity = self.issuers.verify(token, clock::unix_ms()).await?;
        let position = self.deny_list.check(&identity)?;
        Ok((identity, position))
    }
}
