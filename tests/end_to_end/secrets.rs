//! Follows what nobody may see through everything that the services write, store, export and answer.

use std::{collections::BTreeMap, fs, path::Path};

use proto::auth::v1::{
    AuthenticateRequest, IssueTicketRequest, RevocationTarget, RevokeRequest,
    auth_service_client::AuthServiceClient, issue_ticket_response::Outcome,
    revocation_service_client::RevocationServiceClient, revocation_target::Tokens,
    ticket_service_client::TicketServiceClient,
};
use serde_json::json;
use tempfile::TempDir;

use crate::support::{
    Cluster, JsonClient, OtlpCollector, Program, SocketIoClient, TokenMint, eventually, get, within,
};

/// What the shared secret is at first, what it is to be by mistake, and what it is in the end.
const SECRETS: [&str; 3] = [
    "the-first-secret-0123456789-abcdefghijkl",
    "canary-too-short",
    "the-next-secret-0123456789-mnopqrstuvwx",
];

const SERVICES: [(Program, &str); 3] = [
    (Program::EdgeGateway, "edge-gateway"),
    (Program::ChatService, "chat-service"),
    (Program::AuthService, "auth-service"),
];

/// What was given away, by where it was.
type Outputs = BTreeMap<String, String>;

async fn ticket(cluster: &Cluster, token: &str) -> String {
    let url = format!("http://{}", cluster.auth);
    let mut tickets = TicketServiceClient::connect(url).await.unwrap();
    let request = IssueTicketRequest { token: token.to_owned() };
    match tickets.issue_ticket(request).await.unwrap().into_inner().outcome {
        Some(Outcome::Ticket(ticket)) => ticket.ticket,
        other => panic!("{other:?}"),
    }
}

/// What the auth service says of a token that it refuses, or of a call that is wrong.
async fn refusals(cluster: &Cluster, tokens: &[String]) -> String {
    let url = format!("http://{}", cluster.auth);
    let mut auth = AuthServiceClient::connect(url).await.unwrap();
    let mut said = String::new();
    for token in tokens {
        let request = AuthenticateRequest { token: token.clone() };
        said += &match auth.authenticate(request).await {
            Ok(response) => format!("{:?}", response.into_inner()),
            Err(status) => format!("{status:?}"),
        };
    }
    said
}

/// Ends all sessions of a token, which the auth service then keeps on disk.
async fn revoke(cluster: &Cluster, session: &str) {
    let url = format!("http://{}", cluster.auth);
    let mut operator = RevocationServiceClient::connect(url).await.unwrap();
    let tokens = Some(Tokens::Session(session.to_owned()));
    let target = Some(RevocationTarget { issuer: "sockeye".to_owned(), tokens });
    operator.revoke(RevokeRequest { target, ..RevokeRequest::default() }).await.unwrap();
}

/// Every file below a folder, whatever is in it.
fn files(folder: &Path, outputs: &mut Outputs) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, outputs);
        } else {
            let bytes = fs::read(&path).unwrap();
            outputs.insert(path.display().to_string(), String::from_utf8_lossy(&bytes).into());
        }
    }
}

async fn start(folder: &TempDir, secret: &Path, collector: &OtlpCollector) -> Cluster {
    let path = |name: &str| folder.path().join(name).display().to_string();
    Cluster::builder()
        .without_secret()
        .auth(format!("--auth-hs256-secret-file={}", secret.display()))
        .tracing_to(collector)
        .all("--log-filter=trace,h2=debug,hyper=debug")
        .edge("--edge-drain-timeout", "100ms")
        .edge("--audit-log", path("edge.audit"))
        .chat(format!("--audit-log={}", path("chat.audit")))
        .chat(format!("--chat-data-dir={}", path("rooms")))
        .chat("--chat-ops-listen=127.0.0.1:0")
        .auth(format!("--audit-log={}", path("auth.audit")))
        .auth(format!("--auth-revocations-file={}", path("revocations")))
        .auth("--auth-ops-listen=127.0.0.1:0")
        .start()
        .await
}

/// Puts another secret into the file, and waits until the auth service has read it and says this of it.
async fn replace(cluster: &mut Cluster, file: &Path, secret: &str, outcome: &str) {
    let next = file.with_extension("next");
    fs::write(&next, secret).unwrap();
    fs::rename(&next, file).unwrap();
    let ops = cluster.process(Program::AuthService).address("auth-service", "ops").await;
    let labels = format!(r#"files="auth_keys",owner="sockeye",outcome="{outcome}""#);
    let series = format!("sockeye_file_reloads_total{{{labels}}} ");
    eventually("the file is read again", async || {
        let metrics = get(ops, "/metrics").await.body;
        let count = metrics.lines().find_map(|line| line.strip_prefix(&series))?;
        (count != "0").then_some(())
    })
    .await;
}

/// A user's session under a secret, and tokens that let nobody in.
fn tokens(secret: &str, session: &str) -> (String, [String; 4]) {
    let mint = TokenMint::new(secret);
    let good = mint.sign(&TokenMint::claims_but("ada", "sid", json!(session)));
    let wrong = [
        "canary-garbage".to_owned(),
        format!("{good}canary"),
        mint.sign(&TokenMint::claims_but("ada", "aud", json!("canary-audience"))),
        mint.sign(&TokenMint::claims_but("ada", "exp", json!(1))),
    ];
    (good, wrong)
}

/// A day of clients and operators, with everything that can go wrong. Returns what clients and callers were told.
async fn live(cluster: &Cluster, (token, wrong): (&str, &[String]), session: &str) -> [String; 2] {
    let ticket = ticket(cluster, token).await;
    let headers = [("authorization", "Bearer canary-header"), ("cookie", "session=canary-cookie")];
    let mut client = SocketIoClient::open_with_headers(cluster.clients, &headers).await;
    let mut told = String::new();
    for token in wrong {
        let auth = json!({"token": token, "password": "canary-password"});
        told += &client.connect("/chat", &auth).await.unwrap_err().to_string();
    }
    client.connect("/chat", &json!({"token": token})).await.unwrap();
    client.request("join", json!("lobby")).await;
    client.request("message", json!({"room": "lobby", "text": "hello"})).await;
    told += &client.request_error("auth:refresh", json!({"token": wrong[0]})).await;
    let mut plain = JsonClient::enter(cluster.clients, &ticket).await;
    plain.request("join", json!("lobby")).await.unwrap();
    for token in wrong.iter().chain([&ticket]) {
        let (events, _) = JsonClient::open_with_token(cluster.clients, token).await.closed().await;
        told += &format!("{events:?}");
    }
    told += &get(cluster.clients, &format!("/socket.io/?EIO=4&transport={}", wrong[0])).await.body;
    told += &refusals(cluster, wrong).await;
    revoke(cluster, session).await;
    let (frames, _) = within("the end of the session", client.closed()).await;
    [told + &frames.concat(), ticket]
}

#[tokio::test]
async fn no_secret_is_in_anything_that_the_services_write_store_export_or_answer() {
    let (folder, collector) = (tempfile::tempdir().unwrap(), OtlpCollector::start().await);
    let given = tempfile::tempdir().unwrap();
    let file = given.path().join("secret");
    fs::write(&file, SECRETS[0]).unwrap();
    let mut cluster = start(&folder, &file, &collector).await;

    let mut secrets = Vec::from(SECRETS.map(str::to_owned));
    secrets.push("canary".to_owned());
    let mut outputs = Outputs::new();
    for (secret, session) in [(SECRETS[0], "phone"), (SECRETS[2], "laptop")] {
        if secret != SECRETS[0] {
            replace(&mut cluster, &file, SECRETS[1], "failed").await;
            replace(&mut cluster, &file, secret, "loaded").await;
        }
        let (good, wrong) = tokens(secret, session);
        let [told, ticket] = live(&cluster, (&good, &wrong), session).await;
        outputs.insert(format!("answers to {session}"), told);
        let signature = |token: &str| token.rsplit('.').next().unwrap().to_owned();
        secrets.extend([&good, &wrong[2], &wrong[3]].map(|token| signature(token)));
        // The claims of a token that nobody vouches for are as secret as the rest of it.
        secrets.push(wrong[2].split('.').nth(1).unwrap().to_owned());
        secrets.push(ticket);
    }
    for (program, service) in SERVICES {
        let ops = cluster.process(program).address(service, "ops").await;
        let metrics = get(ops, "/metrics").await.body;
        outputs.insert(format!("metrics of {service}"), metrics);
    }
    for (program, _) in SERVICES {
        cluster.process(program).terminate();
        cluster.process(program).exit_code().await;
    }
    outputs.insert("logs".to_owned(), cluster.log());
    outputs.insert("spans".to_owned(), format!("{:?}", collector.spans()));
    files(folder.path(), &mut outputs);
    assert_outputs_are_whole(&outputs);

    for (place, text) in &outputs {
        for secret in &secrets {
            let line = text.lines().find(|line| line.contains(secret.as_str()));
            assert_eq!(line, None, "{secret} is in {place}");
        }
    }
}

/// What is not there cannot hold a secret either.
fn assert_outputs_are_whole(outputs: &Outputs) {
    for (place, mark) in [
        ("answers to phone", "nauthorized"),
        ("answers to laptop", "nauthorized"),
        ("metrics of edge-gateway", "sockeye_edge_connections"),
        ("metrics of chat-service", "sockeye_chat_links"),
        ("metrics of auth-service", "sockeye_auth"),
        ("logs", "listening"),
        ("spans", "auth.authenticate"),
        ("edge.audit", "\"refresh\""),
        ("auth.audit", "\"revoke\""),
        ("chat.audit", ""),
        ("logs", "changed files are of no use"),
        ("logs", "changed files are in force"),
        ("revocations", "phone"),
        ("revocations", "laptop"),
        ("rooms", "hello"),
    ] {
        let is_there =
            outputs.iter().any(|(name, text)| name.contains(place) && text.contains(mark));
        assert!(is_there, "{place} has no {mark}: {:?}", outputs.keys());
    }
}
