//! What happens at the bounds of a call.

use proto::auth::v1::{AuthenticateRequest, AuthenticateResponse, RefusalReason};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

use crate::running::{Running, authenticate};
use crate::tokens::{token_for, token_of_bytes};

/// An `AuthenticateRequest` whose token need not be text.
#[derive(Clone, PartialEq, prost::Message)]
struct BinaryRequest {
    #[prost(bytes, tag = "1")]
    token: Vec<u8>,
}

async fn authenticate_binary(service: &Running, token: &[u8]) -> Result<(), Status> {
    let mut call = tonic::client::Grpc::new(service.channel().await);
    call.ready().await.unwrap();
    let codec: ProstCodec<BinaryRequest, AuthenticateResponse> = ProstCodec::default();
    let path = PathAndQuery::from_static("/sockeye.auth.v1.AuthService/Authenticate");
    call.unary(Request::new(BinaryRequest { token: token.to_vec() }), path, codec).await.map(drop)
}

#[tokio::test]
async fn an_oversized_token_is_refused_and_no_error_of_the_call() {
    let service = Running::start(&[]).await;
    let mut client = service.client().await;

    for length in [8 * 1024, 64 * 1024, 700_000] {
        let refusal = authenticate(&mut client, &token_of_bytes(length)).await;
        assert_eq!(refusal, Err(RefusalReason::Malformed), "{length}");
    }
}

#[tokio::test]
async fn a_message_larger_than_any_client_can_send_fails_the_call_only() {
    let service = Running::start(&[]).await;
    let mut client = service.client().await;

    let request = AuthenticateRequest { token: "x".repeat(1024 * 1024) };
    let status = client.authenticate(request).await.unwrap_err();

    assert_eq!(status.code(), Code::OutOfRange);
    assert!(authenticate(&mut client, &token_for("ada")).await.is_ok());
}

#[tokio::test]
async fn a_token_that_is_not_utf_8_fails_the_call_only() {
    let service = Running::start(&[]).await;

    assert!(authenticate_binary(&service, b"\xff\xfe.\xc3\x28.\x80").await.is_err());
    assert!(authenticate_binary(&service, token_for("ada").as_bytes()).await.is_ok());
}

#[tokio::test]
async fn metadata_beyond_16_kib_is_refused() {
    let service = Running::start(&[]).await;
    let mut client = service.client().await;
    let mut request = Request::new(AuthenticateRequest { token: token_for("ada") });
    request.metadata_mut().insert("x-padding", "x".repeat(20_000).parse().unwrap());

    assert!(client.authenticate(request).await.is_err());
    assert!(authenticate(&mut client, &token_for("ada")).await.is_ok());
}
