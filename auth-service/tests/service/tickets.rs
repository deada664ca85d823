//! Tickets, which stand for a token once.

use proto::auth::v1::issue_ticket_response::Outcome;
use proto::auth::v1::revocation_service_client::RevocationServiceClient;
use proto::auth::v1::revocation_target::Tokens;
use proto::auth::v1::ticket_service_client::TicketServiceClient;
use proto::auth::v1::{IssueTicketRequest, RefusalReason, RevocationTarget, RevokeRequest, Ticket};
use tempfile::tempdir;
use tokio::task::JoinSet;
use tonic::{Code, Status};

use crate::running::{Decision, Running, decide};
use crate::tokens::{expired_token, token_for};

const VOID: Decision = Decision::Refused(RefusalReason::Ticket);

async fn ticket_for(
    service: &Running,
    token: &str,
) -> Result<Result<Ticket, RefusalReason>, Status> {
    let request = IssueTicketRequest { token: token.to_owned() };
    let mut client = TicketServiceClient::new(service.channel().await);
    let response = client.issue_ticket(request).await?.into_inner();
    Ok(match response.outcome.unwrap() {
        Outcome::Ticket(ticket) => Ok(ticket),
        Outcome::Refusal(refusal) => Err(refusal.reason()),
    })
}

#[tokio::test]
async fn a_ticket_lets_its_holder_in_once() {
    let service = Running::start(&[]).await;
    let mut client = service.client().await;
    let token = token_for("ada");
    let of_token = decide(&mut client, &token).await;

    let ticket = ticket_for(&service, &token).await.unwrap().unwrap();

    assert!(!ticket.ticket.contains(&token[..20]));
    assert_eq!(decide(&mut client, &ticket.ticket).await, of_token, "until the token expires");
    assert_eq!(decide(&mut client, &ticket.ticket).await, VOID);
    assert_eq!(decide(&mut client, "ticket:made-up").await, VOID);
    assert!(decide(&mut client, &token).await.is_accepted(), "the token is what it was");
}

#[tokio::test]
async fn of_all_who_come_with_one_ticket_one_gets_in() {
    let service = Running::start(&[]).await;
    let client = service.client().await;
    let ticket = ticket_for(&service, &token_for("ada")).await.unwrap().unwrap().ticket;

    let mut calls = JoinSet::new();
    for _ in 0..50 {
        let (mut client, ticket) = (client.clone(), ticket.clone());
        calls.spawn(async move { decide(&mut client, &ticket).await });
    }

    let decisions = calls.join_all().await;
    assert_eq!(decisions.iter().filter(|decision| decision.is_accepted()).count(), 1);
    assert_eq!(decisions.iter().filter(|decision| **decision == VOID).count(), 49);
}

#[tokio::test]
async fn there_is_no_ticket_for_what_is_no_good_token() {
    let service = Running::start(&[]).await;
    let ticket = ticket_for(&service, &token_for("ada")).await.unwrap().unwrap().ticket;

    for (token, expected) in [
        (expired_token().as_str(), RefusalReason::Expired),
        ("", RefusalReason::Malformed),
        (&ticket, RefusalReason::Malformed),
    ] {
        assert_eq!(ticket_for(&service, token).await.unwrap(), Err(expected));
    }
    let mut client = service.client().await;
    assert!(decide(&mut client, &ticket).await.is_accepted(), "it was not used up by asking");
}

#[tokio::test]
async fn a_ticket_of_a_token_that_was_taken_back_is_void() {
    let directory = tempdir().unwrap();
    let file = directory.path().join("revocations");
    let service = Running::start(&["--auth-revocations-file", file.to_str().unwrap()]).await;
    let ticket = ticket_for(&service, &token_for("ada")).await.unwrap().unwrap().ticket;
    let target = RevocationTarget {
        issuer: "sockeye".to_owned(),
        tokens: Some(Tokens::Subject("ada".to_owned())),
    };
    let request = RevokeRequest { target: Some(target), ..RevokeRequest::default() };
    RevocationServiceClient::new(service.channel().await).revoke(request).await.unwrap();

    let decision = decide(&mut service.client().await, &ticket).await;

    assert_eq!(decision, Decision::Refused(RefusalReason::Revoked));
}

#[tokio::test]
async fn a_user_has_16_tickets_at_once() {
    let service = Running::start(&[]).await;
    let token = token_for("ada");
    for _ in 0..16 {
        ticket_for(&service, &token).await.unwrap().unwrap();
    }

    let status = ticket_for(&service, &token).await.unwrap_err();

    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(ticket_for(&service, &token_for("bob")).await.unwrap().is_ok());
}
