//! One message is one trace across the services, and so is one attempt to connect.

use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use serde_json::json;

use crate::support::{Cluster, OtlpCollector, Program, RecordedSpan, SocketIoClient, eventually};

const HANDSHAKE_TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const HANDSHAKE_SPAN: &str = "00f067aa0ba902b7";

/// The trace as lines `service name (kind) <- parent's name`, sorted.
fn tree(trace: &[RecordedSpan]) -> Vec<String> {
    let name_of = |id: &str| match trace.iter().find(|span| span.span_id == id) {
        Some(parent) => parent.name.clone(),
        None => id.to_owned(),
    };
    let mut lines: Vec<_> = trace
        .iter()
        .map(|span| {
            let kind = span.kind.as_str_name().trim_start_matches("SPAN_KIND_").to_lowercase();
            format!("{} {} ({kind}) <- {}", span.service, span.name, name_of(&span.parent_id))
                .trim_end()
                .to_owned()
        })
        .collect();
    lines.sort();
    lines
}

fn named<'a>(trace: &'a [RecordedSpan], name: &str) -> &'a RecordedSpan {
    trace.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("no {name}: {trace:?}"))
}

fn is_receive_of(event: &str) -> impl Fn(&RecordedSpan) -> bool {
    move |span| {
        span.name == "edge.receive"
            && span.attributes.get("sockeye.event").is_some_and(|name| name == event)
    }
}

async fn send_one_message(cluster: &Cluster) {
    let mut alice = cluster.socket_io("alice").await;
    let mut bob = cluster.json("bob").await;
    alice.request("join", json!("canary-room")).await;
    bob.request("join", json!("canary-room")).await.unwrap();
    alice.request("message", json!({"room": "canary-room", "text": "canary-text"})).await;
    bob.event("message").await;
}

async fn assert_message_trace(collector: &OtlpCollector) {
    let trace = collector.trace(4, is_receive_of("message")).await;

    assert_eq!(
        tree(&trace),
        [
            "chat-service chat.append (internal) <- chat.handle",
            "chat-service chat.handle (consumer) <- edge.receive",
            "edge-gateway edge.deliver (producer) <- chat.handle",
            "edge-gateway edge.receive (server) <-",
        ]
    );
    let deliver = named(&trace, "edge.deliver");
    assert_eq!(deliver.attributes["sockeye.recipients"], "2");
    for (name, operation) in
        [("edge.receive", "receive"), ("chat.handle", "process"), ("edge.deliver", "send")]
    {
        let attributes = &named(&trace, name).attributes;
        assert_eq!(attributes["messaging.system"], "sockeye", "{name}");
        assert_eq!(attributes["messaging.operation.type"], operation, "{name}");
        assert_eq!(attributes["messaging.destination.name"], "/chat", "{name}");
        assert_eq!(attributes["sockeye.event"], "message", "{name}");
        assert!(attributes.contains_key("messaging.operation.name"), "{name}");
    }
    assert!(!trace.iter().any(|span| span.is_error));
}

async fn assert_connect_trace(collector: &OtlpCollector) {
    let trace = collector.trace(3, |span| span.name == "edge.connect").await;

    assert_eq!(
        tree(&trace),
        [
            "auth-service auth.authenticate (server) <- edge.connect",
            "chat-service chat.open (consumer) <- edge.connect",
            "edge-gateway edge.connect (server) <-",
        ]
    );
    assert!(named(&trace, "edge.connect").attributes.contains_key("sockeye.outcome"));
    let attributes = &named(&trace, "auth.authenticate").attributes;
    assert_eq!(attributes["rpc.system.name"], "grpc");
    assert_eq!(attributes["rpc.service"], "sockeye.auth.v1.AuthService");
    assert_eq!(attributes["rpc.method"], "AuthenticateEach");
}

#[tokio::test]
async fn a_message_is_one_trace_across_three_processes() {
    let collector = OtlpCollector::start().await;
    let cluster = Cluster::builder().tracing_to(&collector).start().await;

    send_one_message(&cluster).await;

    assert_message_trace(&collector).await;
}

#[tokio::test]
async fn an_attempt_to_connect_is_one_trace_across_three_processes() {
    let collector = OtlpCollector::start().await;
    let cluster = Cluster::builder().tracing_to(&collector).start().await;

    cluster.socket_io("alice").await;

    assert_connect_trace(&collector).await;
}

#[tokio::test]
async fn services_keep_their_names_in_one_process() {
    let collector = OtlpCollector::start().await;
    let cluster = Cluster::builder().in_one_process().tracing_to(&collector).start().await;

    send_one_message(&cluster).await;

    assert_message_trace(&collector).await;
    assert_connect_trace(&collector).await;
}

#[tokio::test]
async fn a_fan_out_is_one_span_per_shard_that_has_recipients() {
    const CLIENTS_COUNT: usize = 8;
    let collector = OtlpCollector::start().await;
    let cluster = Cluster::builder().edge("--edge-shards", 2).tracing_to(&collector).start().await;
    let mut clients = Vec::new();
    for number in 0..CLIENTS_COUNT {
        let mut client = cluster.socket_io(&format!("user-{number}")).await;
        client.request("join", json!("lobby")).await;
        clients.push(client);
    }

    clients[0].request("message", json!({"room": "lobby", "text": "to all"})).await;
    for client in &mut clients {
        client.event("message").await;
    }

    let is_complete = |trace: &[RecordedSpan]| recipients(trace) >= CLIENTS_COUNT;
    let trace = collector.trace_until(is_complete, is_receive_of("message")).await;
    let delivers = trace.iter().filter(|span| span.name == "edge.deliver");
    assert_eq!(recipients(&trace), CLIENTS_COUNT);
    assert!((1..=2).contains(&delivers.count()), "{trace:?}");
}

fn recipients(trace: &[RecordedSpan]) -> usize {
    let counts = trace.iter().filter_map(|span| span.attributes.get("sockeye.recipients"));
    counts.map(|count| count.parse::<usize>().unwrap()).sum()
}

#[tokio::test]
async fn a_rejected_token_has_its_trace_too() {
    let collector = OtlpCollector::start().await;
    let cluster = Cluster::builder().tracing_to(&collector).start().await;
    let mut client = SocketIoClient::open(cluster.clients).await;

    client.connect("/chat", &json!({"token": "canary-token"})).await.unwrap_err();

    let trace = collector.trace(2, |span| span.name == "edge.connect").await;
    assert_eq!(
        tree(&trace),
        [
            "auth-service auth.authenticate (server) <- edge.connect",
            "edge-gateway edge.connect (server) <-"
        ]
    );
}

#[tokio::test]
async fn log_lines_name_the_trace_that_they_belong_to() {
    let collector = OtlpCollector::start().await;
    let cluster = Cluster::builder().all("--log-filter=debug").tracing_to(&collector).start().await;
    let mut client = SocketIoClient::open(cluster.clients).await;

    client.connect("/chat", &json!({"token": "garbage"})).await.unwrap_err();

    let trace = collector.trace(2, |span| span.name == "edge.connect").await;
    let field = format!(r#""trace.id":"{}""#, trace[0].trace_id);
    for target in ["edge_gateway", "auth_service"] {
        let is_it =
            |line: &str| line.contains(&field) && line.contains(&format!(r#""target":"{target}"#));
        let named = async || cluster.log().lines().any(is_it).then_some(());
        eventually(&format!("{target} names {field}"), named).await;
    }
}

#[tokio::test]
async fn a_trace_that_the_client_began_is_continued() {
    let collector = OtlpCollector::start().await;
    let cluster =
        Cluster::builder().all("--trace-sample-ratio=0").tracing_to(&collector).start().await;
    let auth = json!({"token": cluster.mint.token("alice")});
    let sampled = format!("00-{HANDSHAKE_TRACE}-{HANDSHAKE_SPAN}-01");
    let mut client =
        SocketIoClient::open_with_headers(cluster.clients, &[("traceparent", &sampled)]).await;

    client.connect("/chat", &auth).await.unwrap();

    let trace = collector.trace(3, |span| span.trace_id == HANDSHAKE_TRACE).await;
    assert_eq!(
        tree(&trace),
        [
            "auth-service auth.authenticate (server) <- edge.connect".to_owned(),
            "chat-service chat.open (consumer) <- edge.connect".to_owned(),
            format!("edge-gateway edge.connect (server) <- {HANDSHAKE_SPAN}"),
        ]
    );
}

async fn spans_of_a_whole_life(
    mut cluster: Cluster,
    collector: &OtlpCollector,
) -> Vec<RecordedSpan> {
    for program in [Program::EdgeGateway, Program::ChatService, Program::AuthService] {
        cluster.process(program).terminate();
        assert_eq!(
            cluster.process(program).exit_code().await,
            Some(0),
            "spans are flushed at the end"
        );
    }
    collector.spans()
}

#[tokio::test]
async fn what_is_not_sampled_leaves_no_span() {
    let collector = OtlpCollector::start().await;
    let cluster = Cluster::builder()
        .all("--trace-sample-ratio=0")
        .edge("--edge-drain-timeout", "100ms")
        .tracing_to(&collector)
        .start()
        .await;

    send_one_message(&cluster).await;

    let spans = spans_of_a_whole_life(cluster, &collector).await;
    assert!(spans.is_empty(), "{spans:?}");
}

#[tokio::test]
async fn a_client_that_does_not_want_a_trace_gets_none() {
    let collector = OtlpCollector::start().await;
    let cluster = Cluster::builder()
        .edge("--edge-drain-timeout", "100ms")
        .tracing_to(&collector)
        .start()
        .await;
    let auth = json!({"token": cluster.mint.token("alice")});
    let unsampled = format!("00-{HANDSHAKE_TRACE}-{HANDSHAKE_SPAN}-00");
    let mut client =
        SocketIoClient::open_with_headers(cluster.clients, &[("traceparent", &unsampled)]).await;

    client.connect("/chat", &auth).await.unwrap();

    let spans = spans_of_a_whole_life(cluster, &collector).await;
    assert!(!spans.iter().any(|span| span.name == "edge.connect"), "{spans:?}");
    assert!(!spans.iter().any(|span| span.trace_id == HANDSHAKE_TRACE), "{spans:?}");
}

#[tokio::test]
async fn spans_hold_no_token_payload_room_or_address() {
    let collector = OtlpCollector::start().await;
    let cluster = Cluster::builder()
        .edge("--edge-drain-timeout", "100ms")
        .tracing_to(&collector)
        .start()
        .await;
    let token = cluster.mint.token("canary-subject");
    let auth = json!({"token": token, "password": "canary-auth"});
    let mut client = SocketIoClient::open(cluster.clients).await;
    client.connect("/chat", &auth).await.unwrap();
    client.request("message", json!({"room": "canary-room", "text": "canary-text"})).await;
    client.request("canary-event", json!("canary-payload")).await;
    send_one_message(&cluster).await;
    let hosts =
        [cluster.clients, cluster.chat, cluster.auth].map(|address| address.ip().to_string());

    let spans = spans_of_a_whole_life(cluster, &collector).await;

    assert!(spans.len() > 10, "{}", spans.len());
    for span in &spans {
        for (key, value) in &span.attributes {
            let is_event_name = key == "sockeye.event" && value == "canary-event";
            assert!(is_event_name || !value.contains("canary"), "{}: {key} = {value}", span.name);
            assert!(
                !value.contains(token.rsplit('.').next().unwrap()),
                "{}: {key} = {value}",
                span.name
            );
            for host in hosts.iter().map(String::as_str).chain(["127.0.0.1"]) {
                assert!(!value.contains(host), "{}: {key} = {value}", span.name);
            }
        }
    }
    let operations = spans.iter().filter(|span| span.kind == SpanKind::Server).count();
    assert!(operations > 0);
}
