//! The contract, over a real socket.

use proto::auth::v1::{
    Capability, CapabilityList, IssueTokenRequest, RefusalReason, capability::Action,
};
use tokio_stream::StreamExt;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use crate::running::{Running, authenticate};
use crate::tokens::{expired_token, token_for};

fn issue_request(subject: &str, lifetime_seconds: u32) -> IssueTokenRequest {
    let (subject, name) = (subject.to_owned(), "Ada".to_owned());
    IssueTokenRequest { subject, name, lifetime_seconds, capabilities: None }
}

#[tokio::test]
async fn a_good_token_is_answered_with_its_identity() {
    let service = Running::start(&[]).await;

    let identity = authenticate(&mut service.client().await, &token_for("ada")).await.unwrap();

    assert_eq!(identity.subject, "ada");
    assert_eq!(identity.issuer, "sockeye");
    assert_eq!(&identity.profile[..], br#"{"id":"ada","name":"Ada"}"#);
    assert_eq!(identity.expires_at_unix_ms, 4_102_444_800_000);
}

#[tokio::test]
async fn a_refusal_is_an_ordinary_answer_with_its_reason() {
    let service = Running::start(&[]).await;
    let mut client = service.client().await;
    let good = token_for("ada");
    let forged = format!("{}.{}", good.rsplit_once('.').unwrap().0, "A".repeat(43));

    for (token, expected) in [
        ("", RefusalReason::Malformed),
        ("eyJhbGciOiJub25lIn0.e30.", RefusalReason::Algorithm),
        ("eyJhbGciOiJIUzI1NiIsImtpZCI6ImEifQ.e30.AAAA", RefusalReason::UnknownKey),
        (&forged, RefusalReason::Signature),
        (&expired_token(), RefusalReason::Expired),
    ] {
        assert_eq!(authenticate(&mut client, token).await, Err(expected), "{token}");
    }
}

#[tokio::test]
async fn issuer_and_audience_are_those_of_the_settings() {
    let other_issuer = Running::start(&["--auth-issuer=other"]).await;
    let other_audience = Running::start(&["--auth-audience=other"]).await;

    for (service, expected) in
        [(other_issuer, RefusalReason::Issuer), (other_audience, RefusalReason::Audience)]
    {
        let mut client = service.client().await;
        assert_eq!(authenticate(&mut client, &token_for("ada")).await, Err(expected));
    }
}

#[tokio::test]
async fn tokens_are_not_issued_unless_that_is_switched_on() {
    let service = Running::start(&[]).await;

    let status = service.client().await.issue_token(issue_request("ada", 60)).await.unwrap_err();

    assert_eq!(status.code(), Code::Unimplemented);
}

#[tokio::test]
async fn an_issued_token_is_accepted_until_it_expires() {
    let service = Running::start(&["--auth-issue-tokens"]).await;
    let mut client = service.client().await;

    let issued = client.issue_token(issue_request("ada", 60)).await.unwrap().into_inner();

    let identity = authenticate(&mut client, &issued.token).await.unwrap();
    assert_eq!(identity.subject, "ada");
    assert_eq!(identity.expires_at_unix_ms, issued.expires_at_unix_ms);
}

#[tokio::test]
async fn an_issued_token_allows_what_was_asked_for() {
    let service = Running::start(&["--auth-issue-tokens"]).await;
    let mut client = service.client().await;
    let of = |actions: &[Action], rooms: &[&str]| Capability {
        actions: actions.iter().map(|action| i32::from(*action)).collect(),
        rooms: rooms.iter().map(|room| (*room).to_owned()).collect(),
        events: Vec::new(),
    };
    let everything =
        of(&[Action::Join, Action::Publish, Action::Presence, Action::History], &["*"]);
    let one = of(&[Action::Join], &["user:{subject}"]);

    for (asked, expected) in [
        (None, vec![everything]),
        (Some(Vec::new()), Vec::new()),
        (Some(vec![one.clone()]), vec![one]),
    ] {
        let capabilities = asked.map(|capabilities| CapabilityList { capabilities });
        let request = IssueTokenRequest { capabilities, ..issue_request("ada", 60) };
        let issued = client.issue_token(request).await.unwrap().into_inner();
        let identity = authenticate(&mut client, &issued.token).await.unwrap();
        assert_eq!(identity.capabilities, expected);
    }
    for bad in [of(&[Action::Unspecified], &["a"]), of(&[Action::Join], &["@a"])] {
        let capabilities = Some(CapabilityList { capabilities: vec![bad] });
        let request = IssueTokenRequest { capabilities, ..issue_request("ada", 60) };
        let status = client.issue_token(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().starts_with("capabilities: "), "{status:?}");
    }
}

#[tokio::test]
async fn a_token_out_of_bounds_is_not_issued() {
    let service = Running::start(&["--auth-issue-tokens"]).await;
    let mut client = service.client().await;

    for request in [issue_request("", 60), issue_request("ada", 86_401)] {
        let status = client.issue_token(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
    }
}

#[tokio::test]
async fn health_is_told_for_the_server_and_the_service() {
    let service = Running::start(&[]).await;
    let mut health = HealthClient::new(service.channel().await);

    for name in [
        "",
        "sockeye.auth.v1.AuthService",
        "sockeye.auth.v1.RevocationService",
        "sockeye.auth.v1.TicketService",
    ] {
        let request = HealthCheckRequest { service: name.to_owned() };
        let response = health.check(request).await.unwrap().into_inner();
        assert_eq!(response.status(), ServingStatus::Serving, "{name:?}");
    }
    let unknown = HealthCheckRequest { service: "sockeye.chat.v1.ChatService".to_owned() };
    assert_eq!(health.check(unknown).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn reflection_lists_the_services_that_are_here() {
    let service = Running::start(&["--auth-grpc-reflection"]).await;
    let mut reflection = ServerReflectionClient::new(service.channel().await);
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };

    let mut responses =
        reflection.server_reflection_info(tokio_stream::once(request)).await.unwrap().into_inner();
    let response = responses.next().await.unwrap().unwrap();

    let Some(MessageResponse::ListServicesResponse(list)) = response.message_response else {
        panic!("{response:?}");
    };
    let mut names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
    names.sort();
    assert_eq!(
        names,
        [
            "grpc.health.v1.Health",
            "sockeye.auth.v1.AuthService",
            "sockeye.auth.v1.RevocationService",
            "sockeye.auth.v1.TicketService",
        ],
    );
}

#[tokio::test]
async fn a_watcher_of_health_hears_of_the_shutdown_and_does_not_hold_it_up() {
    let service = Running::start(&[]).await;
    let mut health = HealthClient::new(service.channel().await);
    let request = HealthCheckRequest { service: "sockeye.auth.v1.AuthService".to_owned() };
    let mut watch = health.watch(request).await.unwrap().into_inner();
    assert_eq!(watch.next().await.unwrap().unwrap().status(), ServingStatus::Serving);

    let stopped = tokio::spawn(service.stop());

    assert_eq!(watch.next().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    stopped.await.unwrap().unwrap();
}
