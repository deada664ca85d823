//! Tokens that are taken back while their sockets are connected, through restarts of the auth service.

use std::time::Duration;

use proto::auth::v1::{
    RevocationTarget, RevokeRequest, revocation_service_client::RevocationServiceClient,
    revocation_target::Tokens,
};
use serde_json::json;
use tokio::{task::JoinSet, time::Instant};

use crate::{
    overload::another_edge,
    support::{Cluster, Program, SocketIoClient, TokenMint, within},
};

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

#[tokio::test]
async fn a_revocation_ends_every_socket_on_every_edge_within_a_second() {
    const SOCKETS_OF_EACH: usize = 10;
    let file = tempfile::tempdir().unwrap();
    let setting = format!("--auth-revocations-file={}", file.path().join("revocations").display());
    let cluster = Cluster::builder().auth(setting).edge("--edge-shards", 2).start().await;
    let (_other_edge, other_clients) = another_edge(&cluster).await;
    let mut sockets = Vec::new();
    let mut bystanders = Vec::new();
    for address in [cluster.clients, other_clients] {
        for number in 0..=SOCKETS_OF_EACH {
            let is_bystander = number == SOCKETS_OF_EACH;
            let token = cluster.mint.token(if is_bystander { "bob" } else { "alice" });
            let mut client = SocketIoClient::open(address).await;
            client.connect("/chat", &json!({"token": token})).await.unwrap();
            if is_bystander { bystanders.push(client) } else { sockets.push(client) }
        }
    }
    let mut ends = JoinSet::new();
    for mut socket in sockets {
        ends.spawn(async move { (socket.closed().await.1, Instant::now()) });
    }

    let begin = Instant::now();
    revoke(&cluster, Tokens::Subject("alice".to_owned())).await;

    let ends = within("the end of all sockets", ends.join_all()).await;
    assert!(ends.iter().all(|(code, _)| *code == Some(4008)), "{ends:?}");
    let last = ends.iter().map(|(_, at)| at.duration_since(begin)).max().unwrap();
    assert!(last < Duration::from_secs(1), "the last of {} after {last:?}", ends.len());
    for mut bystander in bystanders {
        bystander.request("join", json!("lobby")).await;
    }
}
