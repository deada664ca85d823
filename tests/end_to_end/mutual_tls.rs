//! The whole system with certificates between its services: who may call what, and certificates that are replaced.

use proto::{
    auth::v1::{
        AuthenticateRequest, IssueTokenRequest, ListRevocationsRequest,
        auth_service_client::AuthServiceClient, revocation_service_client::RevocationServiceClient,
    },
    chat::v1::{RoomsRequest, chat_service_client::ChatServiceClient},
};
use serde_json::{Value, json};
use service_kit::clock;
use tonic::{Code, Status, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::support::{
    Authority, CertificateFiles, Cluster, Process, Program, eventually, get, own_host,
};

fn code<T>(outcome: Result<T, Status>) -> Code {
    outcome.map_or_else(|status| status.code(), |_| Code::Ok)
}

#[tokio::test]
async fn clients_talk_through_services_that_know_each_other() {
    let cluster = Cluster::builder().mutual_tls().start().await;
    let mut alice = cluster.socket_io("alice").await;
    let mut bob = cluster.socket_io("bob").await;
    alice.request("join", json!("lobby")).await;
    bob.request("join", json!("lobby")).await;

    alice.request("message", json!({"room": "lobby", "text": "over TLS"})).await;

    assert_eq!(bob.event("message").await["text"], "over TLS");
    for address in [cluster.auth, cluster.chat] {
        let plain = Channel::from_shared(format!("http://{address}")).unwrap().connect().await;
        let answered = match plain {
            Ok(channel) => HealthClient::new(channel).check(HealthCheckRequest::default()).await,
            Err(_) => continue,
        };
        assert_ne!(code(answered), Code::Ok, "a listener with a certificate speaks no plaintext");
    }
}

#[tokio::test]
async fn a_certificate_says_what_its_owner_may_call() {
    let directory = tempfile::tempdir().unwrap();
    let audit = directory.path().join("audit.jsonl");
    let ops = format!("{}:0", own_host());
    let mut cluster = Cluster::builder()
        .mutual_tls()
        .auth(format!("--auth-revocations-file={}", directory.path().join("revoked").display()))
        .auth(format!("--audit-log={}", audit.display()))
        .auth(format!("--auth-ops-listen={ops}"))
        .start()
        .await;
    let (authority, [_, _, edge]) = cluster.certificates.take().unwrap();
    let role = |name: &str| authority.certify(&[name]);
    let (admin, backend) = (role("admin.sockeye.internal"), role("backend.sockeye.internal"));
    let (stranger, nobody) = (role("edge.sockeye.internal.example"), role("192.0.2.1"));
    let auth_url = format!("https://{}", cluster.auth);
    let chat_url = format!("https://{}", cluster.chat);

    for (files, of_edges, of_backends, of_admins) in [
        (&edge, Code::Ok, Code::PermissionDenied, Code::PermissionDenied),
        (&backend, Code::PermissionDenied, Code::Ok, Code::PermissionDenied),
        (&admin, Code::PermissionDenied, Code::Ok, Code::Ok),
        (&stranger, Code::PermissionDenied, Code::PermissionDenied, Code::PermissionDenied),
        (&nobody, Code::PermissionDenied, Code::PermissionDenied, Code::PermissionDenied),
    ] {
        let auth = files.connect(&auth_url).await.unwrap();
        let chat = files.connect(&chat_url).await.unwrap();
        let token = AuthenticateRequest { token: "none".to_owned() };
        let authenticated = AuthServiceClient::new(auth.clone()).authenticate(token).await;
        assert_eq!(code(authenticated), of_edges, "{files:?}");
        let rooms = ChatServiceClient::new(chat.clone()).rooms(RoomsRequest::default()).await;
        assert_eq!(code(rooms), of_backends, "{files:?}");
        let mut revocations = RevocationServiceClient::new(auth.clone());
        let listed = revocations.list_revocations(ListRevocationsRequest::default()).await;
        assert_eq!(code(listed), of_admins, "{files:?}");
        for channel in [auth, chat] {
            let health = HealthClient::new(channel).check(HealthCheckRequest::default()).await;
            assert_eq!(code(health), Code::Ok, "whoever has a certificate may ask that");
        }
    }
    let issued = AuthServiceClient::new(edge.connect(&auth_url).await.unwrap())
        .issue_token(IssueTokenRequest::default())
        .await;
    assert_eq!(code(issued), Code::PermissionDenied);
    let others = Authority::new();
    let forged = others.certify(&["admin.sockeye.internal"]);
    forged.trust(&authority.pem);
    assert!(is_refused(&forged, &auth_url).await);

    let process = cluster.process(Program::AuthService);
    let ops = process.address("auth-service", "ops").await;
    let metrics = get(ops, "/metrics").await.body;
    let method = r#"method="/sockeye.auth.v1.RevocationService/ListRevocations"} 4"#;
    let refused = metrics.lines().find(|line| line.ends_with(method));
    assert!(refused.unwrap().starts_with("sockeye_grpc_refused_calls_total"), "{metrics}");
    let unknown =
        r#"sockeye_grpc_handshakes_total{service="auth-service",outcome="unknown_issuer"}"#;
    assert!(metrics.lines().any(|line| line.starts_with(unknown)), "{metrics}");
    process.terminate();
    assert_eq!(process.exit_code().await, Some(0));
    let lines = std::fs::read_to_string(&audit).unwrap();
    let denied = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let denied: Vec<Value> = denied.filter(|line| line["event"] == "call").collect();
    assert!(denied.iter().all(|line| line["reason"] == "caller_not_allowed"), "{denied:?}");
    assert!(
        denied.iter().any(|line| {
            line["caller"] == "edge.sockeye.internal"
                && line["method"] == "/sockeye.auth.v1.AuthService/IssueToken"
        }),
        "{denied:?}"
    );
}

/// In TLS 1.3 a client learns that its certificate was refused when it reads.
async fn is_refused(files: &CertificateFiles, url: &str) -> bool {
    match files.connect(url).await {
        Err(_) => true,
        Ok(channel) => {
            HealthClient::new(channel).check(HealthCheckRequest::default()).await.is_err()
        }
    }
}

#[tokio::test]
async fn the_end_of_a_certificate_is_told_before_and_one_that_has_ended_is_not_taken() {
    let mut cluster = Cluster::builder()
        .mutual_tls()
        .auth(format!("--auth-ops-listen={}:0", own_host()))
        .start()
        .await;
    let (authority, [files, _, edge]) = cluster.certificates.take().unwrap();
    let ops = cluster.process(Program::AuthService).address("auth-service", "ops").await;
    let metric = async |name: &str| {
        let metrics = get(ops, "/metrics").await.body;
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map(|value| value.parse::<f64>().unwrap())
    };
    let expiry = "sockeye_certificate_expiry_timestamp_seconds{files=\"auth_grpc\"}";
    let failed = "sockeye_file_reloads_total{files=\"auth_grpc\",outcome=\"failed\"}";
    let host = cluster.auth.ip().to_string();
    let names = ["auth.sockeye.internal", &host];
    let warned = "a certificate expires soon, or has";
    eventually("its end is told", async || metric(expiry).await).await;
    assert!(!cluster.log().contains(warned), "it is good for long");

    let soon = clock::unix_ms() / 1000 + 5 * 24 * 3600;
    files.renew_until(&authority, &names, Some(soon));
    eventually("the new end is told", async || {
        (metric(expiry).await == Some(soon as f64)).then_some(())
    })
    .await;
    eventually("there is a warning", async || cluster.log().contains(warned).then_some(())).await;

    let past = clock::unix_ms() / 1000 - 60;
    files.renew_until(&authority, &names, Some(past));
    eventually("it is refused", async || metric(failed).await.filter(|count| *count > 0.0)).await;
    // The first refusal may be of a key that was read before its certificate was there.
    eventually("the log says why", async || cluster.log().contains("it has expired").then_some(()))
        .await;
    assert_eq!(metric(expiry).await, Some(soon as f64));
    let url = format!("https://{}", cluster.auth);
    assert!(!is_refused(&edge, &url).await, "the former is still shown");
}

/// What `sockeye` says of settings when it is asked to check them, and when it is started: the code with which it ends, or that
/// it runs.
async fn check_and_start(settings: &[String]) -> [Option<i32>; 2] {
    let check = [&["--check".to_owned()], settings].concat();
    let checked = Process::start(Program::Sockeye, &check, &[]).exit_code().await;
    let mut process = Process::start(Program::Sockeye, settings, &[]);
    let started = eventually("it runs or ends", async || {
        let runs = process.log().iter().any(|line| line.contains("open this address"));
        if runs { Some(None) } else { process.ended().map(Some) }
    });
    [checked.filter(|code| *code != 0), started.await]
}

#[tokio::test]
async fn what_the_check_finds_good_starts_and_nothing_else_does() {
    let authority = Authority::new();
    let certified = |service: &str| {
        let host = own_host().to_string();
        let files = authority.certify(&[&format!("{service}.sockeye.internal"), &host]);
        let listen = if service == "edge" { None } else { Some(host) };
        let listen = listen.map(|host| format!("--{service}-listen={host}:0"));
        files.flags(service).into_iter().chain(listen).collect::<Vec<_>>()
    };
    let [auth, chat, edge] = ["auth", "chat", "edge"].map(certified);
    let of = |flags: &[&str]| flags.iter().map(|flag| (*flag).to_owned()).collect::<Vec<_>>();
    // No address of any machine's: it is refused before it is bound.
    let reached = ["--auth-listen=192.0.2.1:0", "--auth-grpc-allow-plaintext"];
    let no_file = ["--edge-tls-cert-file=/no/such/file", "--edge-tls-key-file=/no/such/file"];

    for (what, settings, expected) in [
        ("nothing", vec![], None),
        ("certificates for all", [&auth[..], &chat, &edge].concat(), None),
        ("none for the edge", [&auth[..], &chat].concat(), Some(78)),
        ("for auth alone", auth.clone(), Some(78)),
        ("for chat alone", chat.clone(), Some(78)),
        ("for auth, and the edge", [&auth[..], &edge].concat(), None),
        ("auth where others reach it", of(&reached), Some(78)),
        ("on every address", of(&["--auth-listen=0.0.0.0:0", "--auth-grpc-allow-plaintext"]), None),
        ("on every address, unsaid", of(&["--auth-listen=0.0.0.0:0"]), Some(78)),
        ("no certificate for clients", of(&no_file), Some(78)),
        ("no client", of(&["--edge-client-bundle=/no/such/folder"]), Some(78)),
        ("no certificate for QUIC", of(&["--edge-webtransport-listen=127.0.0.1:0"]), Some(78)),
    ] {
        let defaults = ["auth", "chat", "edge", "edge-ops"].map(|service| {
            let flag = format!("--{service}-listen=");
            let is_set = settings.iter().any(|one| one.starts_with(&flag));
            if is_set { None } else { Some(format!("{flag}127.0.0.1:0")) }
        });
        let defaults: Vec<_> = defaults.into_iter().flatten().collect();
        let outcomes = check_and_start(&[defaults, settings].concat()).await;
        assert_eq!(outcomes, [expected; 2], "{what}");
    }
}

#[tokio::test]
async fn certificates_and_authorities_are_replaced_under_live_links() {
    let mut cluster = Cluster::builder()
        .mutual_tls()
        .chat(format!("--chat-ops-listen={}:0", own_host()))
        .auth(format!("--auth-ops-listen={}:0", own_host()))
        .start()
        .await;
    let (old, files) = cluster.certificates.take().unwrap();
    let new = Authority::new();
    let chat_ops = cluster.process(Program::ChatService).address("chat-service", "ops").await;
    let auth_ops = cluster.process(Program::AuthService).address("auth-service", "ops").await;
    let watched = [(auth_ops, "auth_grpc"), (chat_ops, "chat_grpc"), (cluster.ops, "edge_grpc")];
    let reloaded = async |count: usize| {
        for (ops, name) in watched {
            let line = format!(
                "sockeye_file_reloads_total{{files=\"{name}\",outcome=\"loaded\"}} {count}"
            );
            eventually("the files are read again", async || {
                get(ops, "/metrics").await.body.lines().any(|told| told == line).then_some(())
            })
            .await;
        }
    };
    let mut alice = cluster.socket_io("alice").await;
    alice.request("join", json!("lobby")).await;
    let links = cluster.log().matches("link is up").count();
    let hosts = [cluster.auth, cluster.chat].map(|address| address.ip().to_string());

    for one in &files {
        one.trust(&format!("{}{}", old.pem, new.pem));
    }
    reloaded(1).await;
    files[0].renew(&new, &["auth.sockeye.internal", &hosts[0]]);
    files[1].renew(&new, &["chat.sockeye.internal", &hosts[1]]);
    files[2].renew(&new, &["edge.sockeye.internal"]);
    let of_new = new.certify(&["backend.sockeye.internal"]);
    for url in [cluster.auth, cluster.chat].map(|address| format!("https://{address}")) {
        eventually("the new certificate is shown", async || of_new.connect(&url).await.ok()).await;
    }
    for one in &files {
        one.trust(&new.pem);
    }
    let of_old = old.certify(&["backend.sockeye.internal"]);
    of_old.trust(&format!("{}{}", old.pem, new.pem));
    for url in [cluster.auth, cluster.chat].map(|address| format!("https://{address}")) {
        eventually("the old authority counts for nothing", async || {
            is_refused(&of_old, &url).await.then_some(())
        })
        .await;
    }

    alice.request("message", json!({"room": "lobby", "text": "still here"})).await;
    assert_eq!(cluster.log().matches("link is up").count(), links, "no link was made anew");
    cluster.kill(Program::ChatService);
    cluster.start_again(Program::ChatService).await;
    cluster.ready().await;
    let mut bob = cluster.socket_io("bob").await;
    bob.request("join", json!("lobby")).await;
}
