//! What operators see of a decision, in traces and metrics.

use std::net::SocketAddr;

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use proto::auth::v1::AuthenticateRequest;
use service_kit::telemetry::{LogFormat, TelemetryConfig, Tracing};
use tonic::Request;

use crate::http::get;
use crate::running::{Running, authenticate};
use crate::span_collector::SpanCollector;
use crate::tokens::{expired_token, token_for};

const TRACE_ID: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT_ID: &str = "b7ad6b7169203331";

fn traced_request(token: &str, flags: &str) -> Request<AuthenticateRequest> {
    let mut request = Request::new(AuthenticateRequest { token: token.to_owned() });
    let traceparent = format!("00-{TRACE_ID}-{PARENT_ID}-{flags}");
    request.metadata_mut().insert("traceparent", traceparent.parse().unwrap());
    request
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn text_attributes(span: &Span) -> Vec<(String, String)> {
    let mut pairs: Vec<_> = span
        .attributes
        .iter()
        .map(|attribute| {
            let value = attribute.value.as_ref().and_then(|value| value.value.as_ref());
            let Some(Value::StringValue(text)) = value else { panic!("{attribute:?}") };
            (attribute.key.clone(), text.clone())
        })
        .collect();
    pairs.sort_unstable();
    pairs
}

#[tokio::test]
async fn a_sampled_call_has_a_span_that_continues_the_callers_trace() {
    let collector = SpanCollector::start().await;
    let tracing = Tracing::start(
        "auth-service",
        &TelemetryConfig {
            log_format: LogFormat::Text,
            log_filter: "info".to_owned(),
            otlp_endpoint: Some(format!("http://{}", collector.address)),
            trace_sample_ratio: 1.0,
        },
    )
    .unwrap();
    let service = Running::start_traced(&[], tracing.tracer()).await;
    let mut client = service.client().await;
    let (good, expired) = (token_for("canary-subject"), expired_token());

    client.authenticate(traced_request(&good, "01")).await.unwrap();
    client.authenticate(traced_request(&expired, "01")).await.unwrap();
    client.authenticate(traced_request(&good, "00")).await.unwrap();
    client.authenticate(AuthenticateRequest { token: good.clone() }).await.unwrap();
    tracing.shutdown().await;

    let batch = collector.all();
    let spans: Vec<_> = batch
        .resource_spans
        .iter()
        .flat_map(|resource| &resource.scope_spans)
        .flat_map(|scope| &scope.spans)
        .collect();
    assert_eq!(spans.len(), 2, "the unsampled and the untraced call have no span: {spans:?}");
    for (span, outcome) in spans.iter().zip(["accepted", "expired"]) {
        assert_eq!(span.name, "auth.authenticate");
        assert_eq!(span.kind(), SpanKind::Server);
        assert_eq!(
            (hex(&span.trace_id), hex(&span.parent_span_id)),
            (TRACE_ID.to_owned(), PARENT_ID.to_owned())
        );
        assert_eq!(
            text_attributes(span),
            [
                ("rpc.method", "Authenticate"),
                ("rpc.service", "sockeye.auth.v1.AuthService"),
                ("rpc.system.name", "grpc"),
                ("sockeye.outcome", outcome),
            ]
            .map(|(key, value)| (key.to_owned(), value.to_owned())),
        );
    }
    let all = format!("{batch:?}");
    for part in good.split('.').chain(expired.split('.')).chain(["canary-subject"]) {
        assert!(!all.contains(part), "{part} is in the spans");
    }
}

#[tokio::test]
async fn decisions_are_counted_by_outcome() {
    // Metrics belong to the process, so this is the one test here that reads them.
    let ops = free_address();
    let service = Running::start(&["--auth-ops-listen", &ops.to_string()]).await;
    let mut client = service.client().await;
    let before = get(ops, "/metrics").await;
    let count = |page: &str, outcome: &str| {
        let name = format!("sockeye_auth_authentications_total{{outcome=\"{outcome}\"}} ");
        let line = page.lines().find_map(|line| line.strip_prefix(&name).map(str::to_owned));
        line.unwrap_or_else(|| panic!("{name} is not in {page}")).parse::<u64>().unwrap()
    };

    authenticate(&mut client, &token_for("canary-subject")).await.unwrap();
    authenticate(&mut client, &expired_token()).await.unwrap_err();

    let after = get(ops, "/metrics").await;
    for outcome in ["accepted", "expired"] {
        assert!(count(&after, outcome) > count(&before, outcome), "{outcome}");
    }
    for outcome in [
        "malformed",
        "algorithm",
        "unknown_key",
        "signature",
        "not_yet_valid",
        "issuer",
        "audience",
        "missing_claim",
        "revoked",
        "inactive",
        "scope",
        "ticket",
        "undecided",
    ] {
        count(&after, outcome);
    }
    assert!(!after.contains("canary-subject"));
    assert!(get(ops, "/readyz").await.contains("200 OK"));
}

/// Returns an address nobody listens on at the moment.
fn free_address() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}
