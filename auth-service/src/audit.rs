//! Notes who was let in, and who took tokens back, in the audit log.

use service_kit::audit::{self, AuditEvent, Decision};
use service_kit::grpc::Caller;

use crate::deny_list::{Revocation, Tokens};
use crate::identity::Identity;
use crate::outage::VerifyError;
use crate::tickets::IssueTicketError;

const AUTHENTICATE: &str = "authenticate";
const ISSUE_TICKET: &str = "issue_ticket";
const ISSUE_TOKEN: &str = "issue_token";
const REVOKE: &str = "revoke";

/// Returns what became of a token. Nothing that a refused one says of itself is told: nobody vouches for it.
pub(crate) fn authentication(verified: Result<&Identity, VerifyError>) -> AuditEvent {
    verdict(AUTHENTICATE, verified)
}

/// Returns what became of a token that somebody wanted a ticket for.
pub(crate) fn ticket(verified: Result<&Identity, VerifyError>) -> AuditEvent {
    verdict(ISSUE_TICKET, verified)
}

/// Returns that somebody with a good token was given no ticket for it.
pub(crate) fn no_ticket(identity: &Identity, error: IssueTicketError) -> AuditEvent {
    about(AuditEvent::new(crate::SERVICE, ISSUE_TICKET, Decision::Denied), identity)
        .because(error.label())
}

pub(crate) fn issued_token(issuer: &str, subject: &str) -> AuditEvent {
    AuditEvent::new(crate::SERVICE, ISSUE_TOKEN, Decision::Allowed)
        .of_issuer(issuer)
        .of_subject(subject)
}

/// Returns what was taken back. Its position says which entry of the list that is, and so which token.
pub(crate) fn revoked(revocation: &Revocation) -> AuditEvent {
    let target = &revocation.target;
    let event = AuditEvent::new(crate::SERVICE, REVOKE, Decision::Allowed)
        .because(target.tokens.label())
        .of_issuer(&target.issuer)
        .at_position(revocation.position);
    match &target.tokens {
        Tokens::Subject(subject) => event.of_subject(subject),
        Tokens::Id(_) | Tokens::Session(_) | Tokens::All => event,
    }
}

/// Returns that a call took nothing back.
pub(crate) fn not_revoked(reason: &'static str) -> AuditEvent {
    AuditEvent::new(crate::SERVICE, REVOKE, Decision::Denied).because(reason)
}

fn verdict(name: &'static str, verified: Result<&Identity, VerifyError>) -> AuditEvent {
    let event = |decision| AuditEvent::new(crate::SERVICE, name, decision);
    match verified {
        Ok(identity) => about(event(Decision::Allowed), identity),
        Err(VerifyError::Refused(refusal)) => event(Decision::Denied).because(refusal.label()),
        Err(VerifyError::Undecided(outage)) => event(Decision::Undecided).because(outage.label()),
    }
}

fn about(event: AuditEvent, identity: &Identity) -> AuditEvent {
    event.of_issuer(&identity.issuer).of_subject(&identity.subject)
}

/// Notes an event of a caller.
pub(crate) fn record(event: AuditEvent, caller: Option<&Caller>) {
    audit::record(Caller::note(caller, event));
}
