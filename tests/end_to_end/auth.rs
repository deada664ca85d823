//! Who is let in, who is not, and what either of them hears.

use serde_json::{Value, json};

use crate::{
    reflection,
    support::{
        Cluster, JsonClient, KeyPair, Program, SocketIoClient, TokenMint, sign_with_secret,
        unix_seconds, unsigned,
    },
};

const UNAUTHORIZED: &str = r#"44/chat,{"message":"Unauthorized","data":{"code":"unauthorized"}}"#;

/// Every way to have no good token, as the `auth` that a Socket.IO client sends.
fn rejected(mint: &TokenMint, rsa: &KeyPair) -> Vec<(&'static str, Value)> {
    let claims = TokenMint::claims("mallory");
    let but = |claim, value| mint.sign(&TokenMint::claims_but("mallory", claim, value));
    let good = mint.sign(&claims);
    let (signed_part, signature) = good.rsplit_once('.').unwrap();
    let tokens = [
        ("no JWT", "garbage".to_owned()),
        ("an empty token", String::new()),
        ("a token of the largest size and more", "x".repeat(9000)),
        ("expired", but("exp", json!(unix_seconds() - 60))),
        ("no expiry", but("exp", Value::Null)),
        ("expiry as text", but("exp", json!("tomorrow"))),
        ("not valid yet", but("nbf", json!(unix_seconds() + 3600))),
        ("wrong audience", but("aud", json!("somebody else"))),
        ("no audience", but("aud", Value::Null)),
        ("wrong issuer", but("iss", json!("somebody else"))),
        ("no issuer", but("iss", Value::Null)),
        ("no subject", but("sub", Value::Null)),
        ("an empty subject", but("sub", json!(""))),
        ("another secret", sign_with_secret(b"another secret that is long enough 1234", &claims)),
        ("alg none", unsigned("none", &claims, "")),
        ("alg nOnE", unsigned("nOnE", &claims, "")),
        ("alg none with a signature", unsigned("none", &claims, signature)),
        ("an unknown algorithm", unsigned("HS257", &claims, signature)),
        ("no signature", format!("{signed_part}.")),
        (
            "the RS256 public key as HS256 secret",
            sign_with_secret(rsa.public_pem().as_bytes(), &claims),
        ),
        (
            "the RS256 public key as HS256 secret, trimmed",
            sign_with_secret(rsa.public_pem().trim().as_bytes(), &claims),
        ),
    ];
    let mut cases: Vec<_> =
        tokens.into_iter().map(|(what, token)| (what, json!({"token": token}))).collect();
    cases.extend([
        ("no token", json!({})),
        ("a token that is no text", json!({"token": 1})),
        ("a token that is null", json!({"token": null})),
        ("a token elsewhere", json!({"bearer": good})),
    ]);
    cases
}

async fn cluster_with_key(rsa: &KeyPair) -> Cluster {
    let setting = format!("--auth-public-key-file={}", rsa.public_key_file().display());
    Cluster::builder().auth(setting).start().await
}

#[tokio::test]
async fn a_rejected_token_is_answered_and_the_connection_stays() {
    let rsa = KeyPair::rs256();
    let cluster = cluster_with_key(&rsa).await;
    let mut client = SocketIoClient::open(cluster.clients).await;

    client.send("40/chat,").await;
    assert_eq!(client.frame().await, UNAUTHORIZED, "no auth at all");
    for (what, auth) in rejected(&cluster.mint, &rsa) {
        client.send(format!("40/chat,{auth}")).await;
        assert_eq!(client.frame().await, UNAUTHORIZED, "{what}");
    }

    let auth = json!({"token": cluster.mint.token("alice")});
    client.connect("/chat", &auth).await.expect("a good token is let in on the same connection");
}

#[tokio::test]
async fn a_rejected_token_closes_a_plain_json_connection() {
    let rsa = KeyPair::rs256();
    let cluster = cluster_with_key(&rsa).await;

    for (what, auth) in rejected(&cluster.mint, &rsa) {
        let mut client = JsonClient::open(cluster.clients).await;
        client.emit("auth", auth).await;
        let (messages, code) = client.closed().await;
        assert_eq!(code, Some(4501), "{what}: {messages:?}");
        assert_eq!(messages.len(), 1, "{what}: {messages:?}");
        assert_eq!(messages[0]["event"], "exception", "{what}");
        assert_eq!(messages[0]["data"]["code"], "unauthorized", "{what}");
    }
}

#[tokio::test]
async fn a_rejected_token_in_the_upgrade_request_closes_the_connection() {
    let cluster = Cluster::start().await;

    let mut client = JsonClient::open_with_token(cluster.clients, "garbage").await;

    let (messages, code) = client.closed().await;
    assert_eq!(code, Some(4501));
    assert_eq!(messages[0]["data"]["code"], "unauthorized");
}

#[tokio::test]
async fn keys_of_all_kinds_are_accepted_with_their_own_algorithm_only() {
    let pairs = [KeyPair::rs256(), KeyPair::es256(), KeyPair::ed25519()];
    let mut builder = Cluster::builder().without_secret();
    for pair in &pairs {
        builder =
            builder.auth(format!("--auth-public-key-file={}", pair.public_key_file().display()));
    }
    let cluster = builder.start().await;

    for pair in &pairs {
        let mut client = SocketIoClient::open(cluster.clients).await;
        let auth = json!({"token": pair.sign(&TokenMint::claims("alice"))});
        client.connect("/chat", &auth).await.unwrap();
        client.request("join", json!("lobby")).await;
    }
    let claims = TokenMint::claims("mallory");
    let forged = pairs.iter().map(|pair| sign_with_secret(pair.public_pem().as_bytes(), &claims));
    let mut client = SocketIoClient::open(cluster.clients).await;
    for token in forged.chain([cluster.mint.sign(&claims)]) {
        client.send(format!("40/chat,{}", json!({"token": token}))).await;
        assert_eq!(client.frame().await, UNAUTHORIZED, "HS256 where there is no secret");
    }
}

#[tokio::test]
async fn a_plain_json_client_may_authenticate_in_its_first_message() {
    let cluster = Cluster::start().await;
    let token = cluster.mint.token("alice");

    let mut client = JsonClient::open(cluster.clients).await;
    client.send(json!({"event": "auth", "data": {"token": token}, "id": 1}).to_string()).await;
    let connected = client.message().await;
    let answer = client.message().await;

    assert_eq!(connected["event"], "connected");
    assert_eq!(answer["id"], 1);
    assert_eq!(answer["data"]["socket"], connected["data"]["socket"]);
    client.request("join", json!("lobby")).await.unwrap();
}

#[tokio::test]
async fn a_plain_json_client_that_rejects_gets_the_error_for_its_id() {
    let cluster = Cluster::start().await;

    let mut client = JsonClient::open(cluster.clients).await;
    client
        .send(json!({"event": "auth", "data": {"token": "garbage"}, "id": "a"}).to_string())
        .await;

    let (messages, code) = client.closed().await;
    assert_eq!(code, Some(4501));
    assert_eq!(messages[0]["id"], "a");
    assert_eq!(messages[0]["error"]["code"], "unauthorized");
    assert_eq!(messages[0]["error"]["retryable"], false);
}

#[tokio::test]
async fn an_event_before_authentication_reaches_nobody() {
    let cluster = Cluster::start().await;

    let mut client = JsonClient::open(cluster.clients).await;
    client.emit("join", json!("lobby")).await;

    let (messages, code) = client.closed().await;
    assert!(code.is_some_and(|code| code >= 4500), "closed for good: {code:?} {messages:?}");
}

#[tokio::test]
async fn a_live_socket_ends_with_its_token_and_may_come_back() {
    let cluster = Cluster::start().await;
    let claims = TokenMint::claims_but("alice", "exp", json!(unix_seconds() + 2));
    let mut client = SocketIoClient::open(cluster.clients).await;
    client.connect("/chat", &json!({"token": cluster.mint.sign(&claims)})).await.unwrap();

    let (frames, code) = client.closed().await;

    assert_eq!(code, Some(4004));
    assert_eq!(frames.len(), 1, "no DISCONNECT: the client must come back by itself: {frames:?}");
    assert!(frames[0].starts_with(r#"42/chat,["auth:expiring",{"expires_at":"#), "{frames:?}");
}

async fn assert_closed_without_a_packet(cluster: &Cluster, token: &str) {
    let mut client = SocketIoClient::open(cluster.clients).await;
    client.send(format!("40/chat,{}", json!({"token": token}))).await;
    assert_eq!(
        client.closed().await,
        (vec![], Some(1013)),
        "no 41, no 44: the client must come back by itself"
    );
}

async fn assert_told_to_retry(cluster: &Cluster, token: &str) {
    let (messages, code) = JsonClient::open_with_token(cluster.clients, token).await.closed().await;
    assert_eq!(code, Some(1013));
    assert_eq!(messages.len(), 1, "{messages:?}");
    assert_eq!(messages[0]["event"], "exception");
    assert_eq!(messages[0]["data"]["code"], "unavailable");
    assert_eq!(messages[0]["data"]["retryable"], true);
}

async fn assert_other_namespaces_go_on(client: &mut SocketIoClient, token: &str) {
    client.send(format!("40/,{}", json!({"token": token}))).await;
    let refused = client.find(|packet| packet.kind == '4').await;
    let data = json!({"code": "unavailable", "retryable": true});
    assert_eq!(refused.data, json!({"message": "Unavailable", "data": data}));
}

#[tokio::test]
async fn without_the_auth_service_live_sockets_go_on_and_new_ones_are_told_to_retry() {
    let mut cluster = Cluster::start().await;
    let mut alice = cluster.socket_io("alice").await;
    let mut bob = cluster.json("bob").await;
    alice.request("join", json!("lobby")).await;
    bob.request("join", json!("lobby")).await.unwrap();
    let token = cluster.mint.token("carol");

    cluster.kill(Program::AuthService);

    bob.request("message", json!({"room": "lobby", "text": "still here"})).await.unwrap();
    assert_eq!(alice.event("message").await["text"], "still here");
    tokio::join!(
        assert_closed_without_a_packet(&cluster, &token),
        assert_told_to_retry(&cluster, &token),
        assert_other_namespaces_go_on(&mut alice, &token),
    );

    cluster.start_again(Program::AuthService).await;
    let mut carol = SocketIoClient::open(cluster.clients).await;
    carol.connect("/chat", &json!({"token": token})).await.expect("let in after the restart");
    cluster.json("dave").await;
    alice.request("message", json!({"room": "lobby", "text": "all along"})).await;
}

#[tokio::test]
async fn a_client_waits_out_a_short_absence_of_the_auth_service() {
    let mut cluster = Cluster::start().await;
    let auth = json!({"token": cluster.mint.token("alice")});
    cluster.kill(Program::AuthService);
    let mut client = SocketIoClient::open(cluster.clients).await;

    client.send(format!("40/chat,{auth}")).await;
    cluster.start_again(Program::AuthService).await;

    assert!(client.frame().await.starts_with(r#"40/chat,{"sid":"#));
}

fn has_warned(cluster: &Cluster) -> bool {
    let log = cluster.log();
    log.lines().any(|line| line.contains("WARN") && line.to_lowercase().contains("token"))
}

async fn issue(cluster: &Cluster) -> Result<Value, tonic::Status> {
    let request = json!({"subject": "alice", "name": "Alice"}).to_string();
    reflection::call(cluster.auth, "sockeye.auth.v1.AuthService/IssueToken", &request).await
}

async fn assert_lets_in(cluster: &Cluster, issued: &Value) {
    let mut client = SocketIoClient::open(cluster.clients).await;
    client.connect("/chat", &json!({"token": issued["token"]})).await.unwrap();
    let joined = client.request("join", json!("lobby")).await;
    assert_eq!(joined["members"], json!([{"id": "alice", "name": "Alice"}]));
}

#[tokio::test]
async fn tokens_are_issued_only_where_that_is_switched_on() {
    let closed = Cluster::start().await;
    // Its tokens allow everything, so rooms need not be open.
    let issuing = Cluster::builder().auth("--auth-issue-tokens").with_closed_rooms();
    let open = issuing.start().await;

    let refused = issue(&closed).await.unwrap_err();
    let issued = issue(&open).await.unwrap();

    assert_eq!(refused.code(), tonic::Code::Unimplemented);
    assert_lets_in(&open, &issued).await;
    assert!(has_warned(&open), "{}", open.log());
    assert!(!has_warned(&closed), "{}", closed.log());
    assert!(!open.log().contains(issued["token"].as_str().unwrap()));
}

#[tokio::test]
async fn the_all_in_one_without_a_key_makes_a_secret_of_its_own_and_issues_tokens() {
    let cluster =
        Cluster::builder().in_one_process().without_secret().with_closed_rooms().start().await;

    let issued = issue(&cluster).await.unwrap();

    assert_lets_in(&cluster, &issued).await;
    assert!(has_warned(&cluster), "{}", cluster.log());
}
