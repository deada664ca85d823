//! The spans that the service adds to a trace.

use opentelemetry_proto::tonic::{common::v1::any_value::Value, trace::v1::Span};
use proto::{
    chat::v1::{PublishRequest, publish_request::Target},
    edge::v1::EdgeEvent,
};
use service_kit::telemetry::{LogFormat, TelemetryConfig, Tracing};

use crate::{
    edge::{event, opened},
    running::Running,
    span_collector::SpanCollector,
};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

fn sampled(event: EdgeEvent) -> EdgeEvent {
    EdgeEvent { traceparent: format!("00-{TRACE}-{PARENT}-01"), ..event }
}

async fn start() -> (SpanCollector, Tracing, Running) {
    let collector = SpanCollector::start().await;
    let config = TelemetryConfig {
        log_format: LogFormat::Json,
        log_filter: "info".to_owned(),
        otlp_endpoint: Some(format!("http://{}", collector.address)),
        trace_sample_ratio: 1.0,
    };
    let tracing = Tracing::start("chat-service", &config).unwrap();
    let service = Running::start_traced(&["--chat-expose-trace-ids"], tracing.tracer()).await;
    (collector, tracing, service)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn attributes(span: &Span) -> Vec<(&str, &str)> {
    let text = |value: &Option<Value>| -> &'static str {
        match value {
            Some(Value::StringValue(text)) => Box::leak(text.clone().into_boxed_str()),
            value => panic!("{value:?}"),
        }
    };
    let mut attributes: Vec<_> = span
        .attributes
        .iter()
        .map(|attribute| (&*attribute.key, text(&attribute.value.as_ref().unwrap().value)))
        .collect();
    attributes.sort_unstable();
    attributes
}

#[tokio::test]
async fn a_message_is_handled_and_appended_in_its_own_trace_and_says_which() {
    let (mut collector, tracing, service) = start().await;
    let mut edge = service.edge("one").await;
    edge.send(vec![sampled(opened(1, "/chat", "ann", None))]).await;
    let accept = edge.next_instruction().await;
    edge.join(1, "lobby").await;

    edge.send(vec![sampled(event(1, Some(1), "message", r#"[{"room":"lobby","text":"hi"}]"#))])
        .await;
    let emit = edge.next_instruction().await;
    let ack = edge.next_instruction().await;
    assert!(edge.script.line(&emit).contains(&format!(r#""trace":"{TRACE}""#)));

    tracing.shutdown().await;
    let (open, append, handle) =
        (collector.next().await, collector.next().await, collector.next().await);
    assert_eq!(
        (&*open.name, &*append.name, &*handle.name),
        ("chat.open", "chat.append", "chat.handle")
    );
    for span in [&open, &append, &handle] {
        assert_eq!(hex(&span.trace_id), TRACE);
    }
    assert_eq!(
        (hex(&open.parent_span_id), hex(&handle.parent_span_id)),
        (PARENT.to_owned(), PARENT.to_owned())
    );
    assert_eq!(append.parent_span_id, handle.span_id);
    let context = |span: &Span| format!("00-{TRACE}-{}-01", hex(&span.span_id));
    assert_eq!(accept.traceparent, context(&open));
    assert_eq!((&emit.traceparent, &ack.traceparent), (&context(&handle), &context(&handle)));
    assert_eq!(
        attributes(&handle),
        [
            ("messaging.destination.name", "/chat"),
            ("messaging.operation.name", "handle"),
            ("messaging.operation.type", "process"),
            ("messaging.system", "sockeye"),
            ("sockeye.event", "message"),
        ]
    );
}

#[tokio::test]
async fn what_is_not_sampled_leaves_no_trace() {
    let (_collector, _tracing, service) = start().await;
    let mut edge = service.edge("one").await;
    edge.open(1, "ann").await;
    edge.join(1, "lobby").await;

    edge.tell(1, "message", r#"[{"room":"lobby","text":"hi"}]"#).await;

    let emit = edge.next_instruction().await;
    assert_eq!(emit.traceparent, "");
    assert!(!edge.script.line(&emit).contains("trace"));
}

#[tokio::test]
async fn a_publication_continues_its_callers_trace() {
    let (mut collector, tracing, service) = start().await;
    let mut edge = service.edge("one").await;
    let mut request = tonic::Request::new(PublishRequest {
        target: Some(Target::Everyone(true)),
        data: "{}".to_owned(),
        ..Default::default()
    });
    let traceparent = format!("00-{TRACE}-{PARENT}-01");
    request.metadata_mut().insert("traceparent", traceparent.parse().unwrap());

    service.chat().await.publish(request).await.unwrap();
    let emit = edge.next_instruction().await;

    tracing.shutdown().await;
    let span = collector.next().await;
    assert_eq!((&*span.name, hex(&span.parent_span_id)), ("chat.publish", PARENT.to_owned()));
    assert_eq!(emit.traceparent, format!("00-{TRACE}-{}-01", hex(&span.span_id)));
}
