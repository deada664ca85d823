//! What an edge is told of revocations: from where it stands, as they are made, and over restarts.

use std::time::Duration;

use proto::auth::v1::auth_service_client::AuthServiceClient;
use proto::auth::v1::revocation_service_client::RevocationServiceClient;
use proto::auth::v1::revocation_target::Tokens;
use proto::auth::v1::{
    AuthenticateRequest, RevocationPoint, RevocationTarget, RevokeRequest, WatchRevocationsRequest,
    WatchRevocationsResponse,
};
use tempfile::TempDir;
use tokio::time::timeout;
use tonic::Streaming;
use tonic::transport::Channel;

use crate::running::Running;
use crate::tokens::marked_token_for;

const DEADLINE: Duration = Duration::from_secs(30);

async fn start_with_file(directory: &TempDir) -> Running {
    let path = directory.path().join("revocations");
    Running::start(&["--auth-revocations-file", path.to_str().unwrap()]).await
}

async fn revoke(service: &Running, ids: &[&str]) {
    let mut operator = RevocationServiceClient::new(service.channel().await);
    for id in ids {
        let tokens = Some(Tokens::TokenId((*id).to_owned()));
        let target = Some(RevocationTarget { issuer: "sockeye".to_owned(), tokens });
        operator.revoke(RevokeRequest { target, ..RevokeRequest::default() }).await.unwrap();
    }
}

struct Watch {
    answers: Streaming<WatchRevocationsResponse>,
    told: Option<RevocationPoint>,
}

impl Watch {
    async fn of(service: &Running, after: Option<RevocationPoint>) -> Self {
        let mut client: AuthServiceClient<Channel> = service.client().await;
        let request = WatchRevocationsRequest { after };
        let answers = client.watch_revocations(request).await.unwrap().into_inner();
        Self { answers, told: None }
    }

    /// The token ids of the next answer.
    async fn next(&mut self) -> Vec<String> {
        let answer = timeout(DEADLINE, self.answers.message()).await.unwrap().unwrap().unwrap();
        self.told = answer.told;
        let target = |tokens| match tokens {
            Some(Tokens::TokenId(id)) => id,
            other => panic!("{other:?}"),
        };
        let tokens = answer.revocations.into_iter().map(|one| one.target.unwrap().tokens);
        tokens.map(target).collect()
    }

    async fn next_that_tells(&mut self) -> Vec<String> {
        loop {
            let ids = self.next().await;
            if !ids.is_empty() {
                return ids;
            }
        }
    }
}

#[tokio::test]
async fn an_edge_is_told_what_is_there_and_then_what_comes() {
    let directory = tempfile::tempdir().unwrap();
    let service = start_with_file(&directory).await;
    revoke(&service, &["a", "b"]).await;
    let mut watch = Watch::of(&service, None).await;
    assert_eq!(watch.next().await, ["a", "b"]);

    revoke(&service, &["c"]).await;

    assert_eq!(watch.next_that_tells().await, ["c"]);
    assert_eq!(watch.told.unwrap().position, 3);
}

#[tokio::test]
async fn an_edge_that_was_away_is_told_what_it_missed() {
    let directory = tempfile::tempdir().unwrap();
    let service = start_with_file(&directory).await;
    revoke(&service, &["a"]).await;
    let mut watch = Watch::of(&service, None).await;
    assert_eq!(watch.next().await, ["a"]);
    let told = watch.told.clone();
    drop(watch);

    revoke(&service, &["b"]).await;

    assert_eq!(Watch::of(&service, told).await.next().await, ["b"]);
}

#[tokio::test]
async fn after_a_restart_an_edge_is_told_everything() {
    let (directory, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let service = start_with_file(&directory).await;
    revoke(&service, &["a"]).await;
    std::fs::copy(directory.path().join("revocations"), other.path().join("revocations")).unwrap();
    revoke(&service, &["b"]).await;
    let mut watch = Watch::of(&service, None).await;
    assert_eq!(watch.next().await, ["a", "b"]);
    service.stop().await.unwrap();

    let service = start_with_file(&directory).await;
    assert_eq!(Watch::of(&service, watch.told.clone()).await.next().await, ["a", "b"]);

    // An older copy that was put back gives the same position to another revocation.
    let service = start_with_file(&other).await;
    revoke(&service, &["c"]).await;
    assert_eq!(Watch::of(&service, watch.told).await.next().await, ["a", "c"]);
}

#[tokio::test]
async fn more_than_a_page_comes_in_pages() {
    let directory = tempfile::tempdir().unwrap();
    let service = start_with_file(&directory).await;
    let ids: Vec<String> = (0..501).map(|number| format!("t{number}")).collect();
    revoke(&service, &ids.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let mut watch = Watch::of(&service, None).await;

    assert_eq!(watch.next().await, ids[..500]);
    assert_eq!(watch.told.clone().unwrap().position, 500);
    assert_eq!(watch.next().await, ids[500..]);
    assert_eq!(watch.told.unwrap().position, 501);
}

#[tokio::test]
async fn an_answer_says_which_revocations_the_token_was_held_against() {
    let directory = tempfile::tempdir().unwrap();
    let service = start_with_file(&directory).await;
    revoke(&service, &["a", "b"]).await;
    let mut watch = Watch::of(&service, None).await;
    watch.next().await;

    let token = marked_token_for("ada", 1_700_000_000);
    let response = service.client().await.authenticate(AuthenticateRequest { token }).await;

    let response = response.unwrap().into_inner();
    assert_eq!(response.checked, watch.told);
    let marks = response.marks.unwrap();
    assert_eq!((&*marks.token_id, &*marks.session), ("t", "s"));
    assert_eq!(marks.issued_at_unix_ms, Some(1_700_000_000_000));
}

#[tokio::test]
async fn without_a_file_an_edge_is_told_that_there_is_nothing() {
    let service = Running::start(&[]).await;
    let mut watch = Watch::of(&service, None).await;

    assert!(watch.next().await.is_empty());
    assert_eq!(watch.told, Some(RevocationPoint::default()));
}

#[tokio::test]
async fn a_stop_does_not_wait_for_edges_that_listen() {
    let service = Running::start(&[]).await;
    let mut watch = Watch::of(&service, None).await;
    watch.next().await;

    service.stop().await.unwrap();

    let end = timeout(DEADLINE, watch.answers.message()).await.unwrap();
    assert_eq!(end.unwrap(), None, "it ends in good order");
}
