//! What operators see: health, metrics, settings, exit codes, and an orderly end.

use std::{fs, net::TcpListener, process::Output};

use serde_json::{Value, json};

use crate::support::{Cluster, Program, SocketIoClient, eventually, get, own_host};

/// So many that a drain takes some time: it sends clients away in batches.
const CONNECTIONS_OF_MANY_BATCHES: usize = 500;

#[tokio::test]
async fn readiness_follows_the_chat_link() {
    let mut cluster = Cluster::builder().without_chat().start().await;

    let healthy = get(cluster.ops, "/healthz").await;
    let waiting = get(cluster.ops, "/readyz").await;
    assert_eq!((healthy.status, healthy.body.trim()), (200, "ok"));
    assert_eq!(waiting.status, 503);
    let missing: Value = serde_json::from_str(&waiting.body).unwrap();
    assert!(missing.as_array().is_some_and(|missing| !missing.is_empty()), "{missing}");

    cluster.start_again(Program::ChatService).await;
    cluster.ready().await;

    cluster.kill(Program::ChatService);
    eventually("the edge is not ready", async || {
        (get(cluster.ops, "/readyz").await.status == 503).then_some(())
    })
    .await;
    assert_eq!(get(cluster.ops, "/healthz").await.status, 200);

    cluster.start_again(Program::ChatService).await;
    cluster.ready().await;
    cluster.socket_io("alice").await.request("join", json!("lobby")).await;
}

#[tokio::test]
async fn metrics_count_connections_events_and_deliveries() {
    let cluster = Cluster::start().await;
    let mut alice = cluster.socket_io("alice").await;
    let mut bob = cluster.json("bob").await;
    alice.request("join", json!("lobby")).await;
    bob.request("join", json!("lobby")).await.unwrap();
    alice.request("message", json!({"room": "lobby", "text": "count me"})).await;
    bob.event("message").await;

    // What a client has been sent may not have been counted yet.
    let becomes = async |name: &str, is_it: fn(f64) -> bool| {
        eventually(name, async || cluster.metric(name, &[]).await.filter(|value| is_it(*value)))
            .await;
    };
    becomes("sockeye_edge_connections", |value| value == 2.0).await;
    becomes("sockeye_edge_sockets", |value| value == 2.0).await;
    becomes("sockeye_edge_events_received_total", |value| value == 3.0).await;
    // A presence change to one and a message to two.
    becomes("sockeye_edge_deliveries_total", |value| value >= 3.0).await;
    becomes("sockeye_edge_outbox_bytes", |value| value == 0.0).await;
    becomes("sockeye_edge_links_up", |value| value >= 1.0).await;
    becomes("sockeye_edge_auth_seconds_count", |value| value == 2.0).await;
    becomes("sockeye_edge_link_seconds_count", |value| value >= 3.0).await;

    drop(bob);
    eventually("the end is counted", async || {
        let connections = cluster.metric("sockeye_edge_connections", &[]).await;
        let closes = cluster.metric("sockeye_edge_closes_total", &["transport_closed"]).await;
        (connections == Some(1.0) && closes == Some(1.0)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_drain_closes_transports_and_disconnects_nobody() {
    let mut cluster = Cluster::builder()
        .edge("--edge-drain-timeout", "500ms")
        .edge("--edge-shards", 2)
        .start()
        .await;
    let mut clients = Vec::new();
    for number in 0..20 {
        clients.push(cluster.socket_io(&format!("user-{number}")).await);
    }
    let mut plain = cluster.json("plain").await;

    cluster.process(Program::EdgeGateway).terminate();

    for mut client in clients {
        let (frames, code) = client.closed().await;
        assert!(!frames.iter().any(|frame| frame.starts_with("41")), "{frames:?}");
        assert_eq!(code, Some(4000));
    }
    assert_eq!(plain.closed().await, (vec![], Some(4000)));
    for program in [Program::EdgeGateway, Program::ChatService, Program::AuthService] {
        if program != Program::EdgeGateway {
            cluster.process(program).terminate();
        }
        assert_eq!(cluster.process(program).exit_code().await, Some(0), "{program:?}");
    }
}

#[tokio::test]
async fn an_edge_that_drains_is_not_ready() {
    // They enter no namespace and answer no ping, and are not to be closed for that.
    let mut cluster = Cluster::builder()
        .edge("--edge-connect-timeout", "1h")
        .edge("--edge-ping-interval", "1h")
        .start()
        .await;
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS_OF_MANY_BATCHES {
        connections.push(SocketIoClient::open(cluster.clients).await);
    }

    cluster.process(Program::EdgeGateway).terminate();

    eventually("the edge says so", async || {
        (get(cluster.ops, "/readyz").await.status == 503).then_some(())
    })
    .await;
    for mut connection in connections {
        assert_eq!(connection.closed().await, (vec![], Some(4000)));
    }
    assert_eq!(cluster.process(Program::EdgeGateway).exit_code().await, Some(0));
}

#[tokio::test]
async fn every_service_shows_its_health_and_metrics() {
    let host = own_host();
    let mut cluster = Cluster::builder()
        .chat(format!("--chat-ops-listen={host}:0"))
        .auth(format!("--auth-ops-listen={host}:0"))
        .start()
        .await;
    cluster.socket_io("alice").await.request("join", json!("lobby")).await;

    for (program, metric) in [
        (Program::ChatService, "sockeye_chat_events_total"),
        (Program::AuthService, "sockeye_auth_authentications_total"),
        (Program::EdgeGateway, "sockeye_edge_events_received_total"),
    ] {
        let ops = cluster.process(program).address(program.name(), "ops").await;
        assert_eq!(get(ops, "/healthz").await.status, 200, "{program:?}");
        assert_eq!(get(ops, "/readyz").await.status, 200, "{program:?}");
        let metrics = get(ops, "/metrics").await.body;
        assert!(metrics.contains(metric), "{program:?}: {metrics}");
    }
}

#[tokio::test]
async fn the_all_in_one_drains_too() {
    let mut cluster =
        Cluster::builder().in_one_process().edge("--edge-drain-timeout", "200ms").start().await;
    let mut client = cluster.socket_io("alice").await;

    cluster.process(Program::Sockeye).terminate();

    assert_eq!(client.closed().await, (vec![], Some(4000)));
    assert_eq!(cluster.process(Program::Sockeye).exit_code().await, Some(0));
}

fn run(
    program: Program,
    arguments: &[&str],
    environment: &[(&str, &str)],
) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } =
        program.command().args(arguments).envs(environment.iter().copied()).output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

const SECRET: (&str, &str) = ("AUTH_HS256_SECRET", "only-for-tests-0123456789-abcdefghij");

#[test]
fn a_wrong_command_line_ends_with_64() {
    for program in Program::ALL {
        for arguments in [
            &["--no-such-flag"][..],
            &["--log-format=xml"],
            &["--trace-sample-ratio=2"],
            &["extra"],
        ] {
            let (code, _, stderr) = run(program, arguments, &[SECRET]);
            assert_eq!(code, Some(64), "{program:?} {arguments:?}");
            assert!(stderr.contains("error:"), "{stderr}");
        }
    }
}

#[test]
fn an_address_that_is_taken_ends_with_69() {
    let taken = TcpListener::bind((own_host(), 0)).unwrap();
    let address = taken.local_addr().unwrap();
    let free = format!("{}:0", own_host());
    let cases = [
        (
            Program::Sockeye,
            vec!["--auth-listen", &free, "--chat-listen", &free, "--edge-ops-listen", &free],
            "--edge-listen",
        ),
        (Program::EdgeGateway, vec!["--edge-ops-listen", &free], "--edge-listen"),
        (Program::EdgeGateway, vec!["--edge-listen", &free], "--edge-ops-listen"),
        (Program::ChatService, vec![], "--chat-listen"),
        (Program::AuthService, vec![], "--auth-listen"),
    ];
    for (program, mut arguments, flag) in cases {
        let address = address.to_string();
        arguments.extend([flag, &address]);
        let (code, _, stderr) = run(program, &arguments, &[SECRET]);
        assert_eq!(code, Some(69), "{program:?} {flag}: {stderr}");
        let last = stderr.lines().last().unwrap();
        assert!(last.starts_with("error: ") && last.contains(&address), "{program:?}: {stderr}");
    }
}

#[test]
fn settings_that_cannot_be_used_end_with_78() {
    let folder = tempfile::tempdir().unwrap();
    let no_key = folder.path().join("no-key.pem");
    fs::write(&no_key, "not a key").unwrap();
    let no_key = format!("--auth-public-key-file={}", no_key.display());
    let no_secret = ("UNRELATED", "");
    let short_secret = ("AUTH_HS256_SECRET", "too short");
    let cases = [
        (Program::AuthService, "--auth-issuer=sockeye", no_secret),
        (Program::AuthService, "--auth-issuer=sockeye", short_secret),
        (Program::AuthService, "--auth-public-key-file=/no/such/file", no_secret),
        (Program::AuthService, &no_key, no_secret),
        (Program::Sockeye, "--auth-issuer=sockeye", short_secret),
        (Program::EdgeGateway, "--edge-route=/a=http://127.0.0.1:1", no_secret),
        (Program::EdgeGateway, "--edge-ping-timeout=0s", no_secret),
        (Program::ChatService, "--log-filter=edge=nonsense=1", no_secret),
    ];
    for (program, setting, environment) in cases {
        let arguments = [&[setting][..], listen_flags(program)].concat();
        let (code, _, stderr) = run(program, &arguments, &[environment]);
        assert_eq!(code, Some(78), "{program:?} {arguments:?}: {stderr}");
        assert!(!stderr.contains("too short"), "a secret is never shown: {stderr}");
    }
}

fn listen_flags(program: Program) -> &'static [&'static str] {
    match program {
        Program::Sockeye => &[
            "--edge-listen=127.0.0.1:0",
            "--edge-ops-listen=127.0.0.1:0",
            "--chat-listen=127.0.0.1:0",
            "--auth-listen=127.0.0.1:0",
        ],
        Program::EdgeGateway => &["--edge-listen=127.0.0.1:0", "--edge-ops-listen=127.0.0.1:0"],
        Program::ChatService => &["--chat-listen=127.0.0.1:0"],
        Program::AuthService => &["--auth-listen=127.0.0.1:0"],
    }
}

const SHARED_SETTINGS: [&str; 4] =
    ["LOG_FORMAT", "LOG_FILTER", "OTEL_EXPORTER_OTLP_ENDPOINT", "TRACE_SAMPLE_RATIO"];
const EDGE_SETTINGS: [&str; 15] = [
    "EDGE_LISTEN",
    "EDGE_OPS_LISTEN",
    "EDGE_SHARDS",
    "EDGE_AUTH_URL",
    "EDGE_ROUTES",
    "EDGE_WS_NAMESPACE",
    "EDGE_PING_INTERVAL",
    "EDGE_PING_TIMEOUT",
    "EDGE_PAYLOAD_BYTES_MAX",
    "EDGE_CONNECT_TIMEOUT",
    "EDGE_EVENT_TIMEOUT",
    "EDGE_OUTBOX_BYTES_MAX",
    "EDGE_EVENTS_PER_SECOND",
    "EDGE_EVENTS_BURST",
    "EDGE_DRAIN_TIMEOUT",
];
const CHAT_SETTINGS: [&str; 7] = [
    "CHAT_LISTEN",
    "CHAT_OPS_LISTEN",
    "CHAT_WORKERS",
    "CHAT_HISTORY_COUNT_MAX",
    "CHAT_HISTORY_AGE_MAX",
    "CHAT_LINK_GRACE",
    "CHAT_EXPOSE_TRACE_IDS",
];
const AUTH_SETTINGS: [&str; 10] = [
    "AUTH_LISTEN",
    "AUTH_OPS_LISTEN",
    "AUTH_HS256_SECRET",
    "AUTH_HS256_SECRET_FILE",
    "AUTH_PUBLIC_KEY_FILES",
    "AUTH_ISSUER",
    "AUTH_AUDIENCE",
    "AUTH_CLOCK_LEEWAY",
    "AUTH_KEY_OVERLAP",
    "AUTH_ISSUE_TOKENS",
];

#[test]
fn the_help_names_every_setting_as_flag_and_variable() {
    for (program, own) in [
        (Program::EdgeGateway, EDGE_SETTINGS.to_vec()),
        (Program::ChatService, CHAT_SETTINGS.to_vec()),
        (Program::AuthService, AUTH_SETTINGS.to_vec()),
        (
            Program::Sockeye,
            [&EDGE_SETTINGS[..], &CHAT_SETTINGS, &AUTH_SETTINGS, &["TRACE_UI_URL"]].concat(),
        ),
    ] {
        let (code, help, _) = run(program, &["--help"], &[]);
        assert_eq!(code, Some(0));
        for setting in own.iter().chain(&SHARED_SETTINGS) {
            assert!(
                help.contains(&format!("[env: {setting}")),
                "{program:?} --help does not name {setting}:\n{help}"
            );
        }
        let flags = help.lines().filter(|line| line.trim_start().starts_with("--")).count();
        let variables = help.matches("[env: ").count();
        assert!(variables >= flags.saturating_sub(1), "a flag without a variable:\n{help}");
    }
}

#[test]
fn a_secret_never_shows_in_the_help() {
    for program in [Program::AuthService, Program::Sockeye] {
        let (_, help, _) = run(program, &["--help"], &[SECRET]);
        assert!(!help.contains(SECRET.1), "{program:?}");
    }
}

#[test]
fn the_version_is_the_packages() {
    for program in Program::ALL {
        let (code, version, _) = run(program, &["--version"], &[]);
        assert_eq!(
            (code, version.trim()),
            (Some(0), &*format!("{} {}", program.name(), env!("CARGO_PKG_VERSION")))
        );
    }
}
