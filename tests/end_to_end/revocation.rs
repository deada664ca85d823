//! Tokens that are taken back while their sockets are connected, through restarts of the auth service.

use proto::auth::v1::{
    RevocationTarget, RevokeRequest, revocation_service_client::RevocationServiceClient,
    revocation_target::Tokens,
};
use serde_json::json;

use crate::support::{Cluster, Program, SocketIoClient, TokenMint, within};

const UNAUTHORIZED: &str = r#"44/chat,{"message":"Unauthorized","data":{"code":"unauthorized"}}"#;

async fn revoke(cluster: &Cluster, tokens: Tokens) {
    let url = format!("http://{}", cluster.auth);
    let mut operator = RevocationServiceClient::connect(url).await.unwrap();
    let target = Some(RevocationTarget { issuer: "sockeye".to_owned(), tokens: Some(tokens) });
    operator.revoke(RevokeRequest { target, ..RevokeRequest::default() }).await.unwrap();
}

#[tokio::test]
async fn a_live_socket_ends_when_its_token_is_taken_back_also_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("revocations");
    let setting = format!("--auth-revocations-file={}", file.display());
    let mut cluster = Cluster::builder().auth(setting).start().await;
    let session = |name: &str, session: &str| {
        cluster.mint.sign(&TokenMint::claims_but(name, "sid", json!(session)))
    };
    let (phone, laptop) = (session("alice", "phone"), session("alice", "laptop"));
    let mut on_phone = SocketIoClient::open(cluster.clients).await;
    on_phone.connect("/chat", &json!({"token": phone})).await.unwrap();
    let mut on_laptop = SocketIoClient::open(cluster.clients).await;
    on_laptop.connect("/chat", &json!({"token": laptop})).await.unwrap();
    let mut bob = cluster.socket_io("bob").await;
    bob.request("join", json!("lobby")).await;
    on_phone.request("join", json!("lobby")).await;

    revoke(&cluster, Tokens::Session("phone".to_owned())).await;

    let (_, code) = within("the end of the session", on_phone.closed()).await;
    assert_eq!(code, Some(4008));
    let mut again = SocketIoClient::open(cluster.clients).await;
    again.send(format!("40/chat,{}", json!({"token": phone}))).await;
    assert_eq!(again.frame().await, UNAUTHORIZED);

    cluster.kill(Program::AuthService);
    on_laptop.request("join", json!("lobby")).await;
    cluster.start_again(Program::AuthService).await;
    revoke(&cluster, Tokens::Subject("alice".to_owned())).await;

    let (_, code) = within("the end of the subject", on_laptop.closed()).await;
    assert_eq!(code, Some(4008));
    bob.request("message", json!({"room": "lobby", "body": "still here"})).await;
}
