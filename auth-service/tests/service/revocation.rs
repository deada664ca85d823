//! Tokens that are taken back, over a real socket and over restarts.

use proto::auth::v1::revocation_service_client::RevocationServiceClient;
use proto::auth::v1::revocation_target::Tokens;
use proto::auth::v1::{
    ListRevocationsRequest, RefusalReason, Revocation, RevocationTarget, RevokeRequest,
};
use service_kit::clock;
use tempfile::TempDir;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::running::{Running, authenticate};
use crate::tokens::{marked_token_for, token_for};

const SECOND_OF_ISSUE: u64 = 1_700_000_000;

struct Operator(RevocationServiceClient<Channel>);

impl Operator {
    async fn of(service: &Running) -> Self {
        Self(RevocationServiceClient::new(service.channel().await))
    }

    async fn revoke(&mut self, tokens: Option<Tokens>, before: u64) -> Result<Revocation, Status> {
        self.revoke_of("sockeye", tokens, before).await
    }

    async fn revoke_of(
        &mut self,
        issuer: &str,
        tokens: Option<Tokens>,
        issued_before_unix_ms: u64,
    ) -> Result<Revocation, Status> {
        let target = Some(RevocationTarget { issuer: issuer.to_owned(), tokens });
        let request = RevokeRequest { target, issued_before_unix_ms, expires_at_unix_ms: 0 };
        Ok(self.0.revoke(request).await?.into_inner().revocation.unwrap())
    }

    async fn list(&mut self, after_position: u64, limit: u32) -> (Vec<Revocation>, bool) {
        let request = ListRevocationsRequest { after_position, limit };
        let page = self.0.list_revocations(request).await.unwrap().into_inner();
        (page.revocations, page.has_more)
    }
}

async fn start_with_file(directory: &TempDir) -> Running {
    let path = directory.path().join("revocations");
    Running::start(&["--auth-revocations-file", path.to_str().unwrap()]).await
}

#[tokio::test]
async fn a_revoked_token_is_refused_at_once_and_after_a_restart() {
    for tokens in [
        Tokens::TokenId("t".to_owned()),
        Tokens::Session("s".to_owned()),
        Tokens::Subject("ada".to_owned()),
        Tokens::All(true),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let service = start_with_file(&directory).await;
        let (mut client, mut operator) = (service.client().await, Operator::of(&service).await);
        let token = marked_token_for("ada", SECOND_OF_ISSUE);
        authenticate(&mut client, &token).await.unwrap();

        let revocation = operator.revoke(Some(tokens.clone()), 0).await.unwrap();

        assert_eq!(authenticate(&mut client, &token).await, Err(RefusalReason::Revoked));
        drop((client, operator));
        service.stop().await.unwrap();
        let service = start_with_file(&directory).await;
        let outcome = authenticate(&mut service.client().await, &token).await;
        assert_eq!(outcome, Err(RefusalReason::Revoked), "{tokens:?}");
        let listed = Operator::of(&service).await.list(0, 0).await;
        assert_eq!(listed, (vec![revocation], false));
        service.stop().await.unwrap();
    }
}

#[tokio::test]
async fn a_subject_is_revoked_up_to_a_time_and_others_are_not() {
    let directory = tempfile::tempdir().unwrap();
    let service = start_with_file(&directory).await;
    let (mut client, mut operator) = (service.client().await, Operator::of(&service).await);

    let subject = Some(Tokens::Subject("ada".to_owned()));
    operator.revoke(subject, SECOND_OF_ISSUE * 1000).await.unwrap();

    for (token, expected) in [
        (marked_token_for("ada", SECOND_OF_ISSUE - 1), Err(RefusalReason::Revoked)),
        (token_for("ada"), Err(RefusalReason::Revoked)),
        (marked_token_for("ada", SECOND_OF_ISSUE), Ok("ada")),
        (marked_token_for("eve", SECOND_OF_ISSUE - 1), Ok("eve")),
    ] {
        let outcome = authenticate(&mut client, &token).await.map(|identity| identity.subject);
        assert_eq!(outcome, expected.map(str::to_owned));
    }
}

#[tokio::test]
async fn a_token_of_an_issuer_whose_clock_is_ahead_is_taken_back_too() {
    for tokens in [Tokens::Subject("ada".to_owned()), Tokens::All(true)] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("revocations");
        let arguments =
            ["--auth-clock-leeway=5m", "--auth-revocations-file", path.to_str().unwrap()];
        let service = Running::start(&arguments).await;
        let (mut client, mut operator) = (service.client().await, Operator::of(&service).await);
        let now_s = clock::unix_ms() / 1000;
        let token = marked_token_for("ada", now_s + 250);
        authenticate(&mut client, &token).await.unwrap();

        operator.revoke(Some(tokens), 0).await.unwrap();

        assert_eq!(authenticate(&mut client, &token).await, Err(RefusalReason::Revoked));
    }
}

#[tokio::test]
async fn the_list_comes_in_pages() {
    let directory = tempfile::tempdir().unwrap();
    let service = start_with_file(&directory).await;
    let mut operator = Operator::of(&service).await;
    let mut made = Vec::new();
    for id in ["a", "b", "c"] {
        made.push(operator.revoke(Some(Tokens::TokenId(id.to_owned())), 0).await.unwrap());
    }

    assert_eq!(operator.list(0, 2).await, (made[..2].to_vec(), true));
    assert_eq!(operator.list(2, 2).await, (made[2..].to_vec(), false));
}

#[tokio::test]
async fn a_request_that_would_take_nothing_back_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let service = start_with_file(&directory).await;
    let mut operator = Operator::of(&service).await;

    for (issuer, tokens, before) in [
        ("sockeye", None, 0),
        ("sockeye", Some(Tokens::All(false)), 0),
        ("sockeye", Some(Tokens::Subject(String::new())), 0),
        ("sockeye", Some(Tokens::TokenId("x".repeat(513))), 0),
        ("sockeye", Some(Tokens::TokenId("t".to_owned())), 1),
        ("sockeye", Some(Tokens::Session("s".to_owned())), 1),
        ("Sockeye", Some(Tokens::All(true)), 0),
        ("", Some(Tokens::All(true)), 0),
    ] {
        let status = operator.revoke_of(issuer, tokens.clone(), before).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{issuer:?} {tokens:?} {before}");
    }
    assert_eq!(operator.list(0, 0).await, (vec![], false));
    operator.revoke(Some(Tokens::TokenId("x".repeat(512))), 0).await.unwrap();
}

#[tokio::test]
async fn without_a_file_revoking_is_switched_off() {
    let service = Running::start(&[]).await;

    let revoked = Operator::of(&service).await.revoke(Some(Tokens::All(true)), 0).await;

    assert_eq!(revoked.unwrap_err().code(), Code::Unimplemented);
    authenticate(&mut service.client().await, &token_for("ada")).await.unwrap();
}
