//! Spans on their way from a tracer to a collector.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::{KeyValue, any_value::Value},
    trace::v1::{Span as ReceivedSpan, span::SpanKind as ReceivedKind, status::StatusCode},
};
use service_kit::{
    telemetry::{LogFormat, StartTracingError, TelemetryConfig, Tracing},
    trace::{SpanKind, TraceParent, Tracer, traceparent_of},
};
use tokio::{net::TcpListener, task::JoinSet, time::Instant};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, transport::Server};

const SAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const UNSAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";

#[tokio::test]
async fn a_trace_arrives_whole_with_each_service_under_its_own_name() {
    let collector = Collector::start().await;
    let config = config_for(&collector.endpoint());
    let front = Tracing::start("front", &config).unwrap();
    let back = Tracing::start("back", &config).unwrap();

    let mut receive = front.tracer().start("front.receive", SpanKind::Server, None).unwrap();
    receive.set("items.count", 3);
    let parent = TraceParent::parse(&traceparent_of(Some(&receive)));
    let mut handle = back.tracer().follow("back.handle", SpanKind::Consumer, parent).unwrap();
    handle.fail("out_of_paper");
    drop(handle);
    let trace_id = receive.context().trace_id().to_string();
    drop(receive);
    back.shutdown().await;
    front.shutdown().await;

    let (front_name, receive) = collector.span("front.receive");
    let (back_name, handle) = collector.span("back.handle");
    assert_eq!((front_name.as_str(), back_name.as_str()), ("front", "back"));
    assert_eq!(hex(&receive.trace_id), trace_id);
    assert_eq!(handle.trace_id, receive.trace_id);
    assert_eq!(handle.parent_span_id, receive.span_id);
    assert!(receive.parent_span_id.is_empty());
    assert_eq!((receive.kind(), handle.kind()), (ReceivedKind::Server, ReceivedKind::Consumer));
    assert_eq!(attribute(&receive.attributes, "items.count"), Some(Value::IntValue(3)));
    assert_eq!(
        attribute(&handle.attributes, "error.type"),
        Some(Value::StringValue("out_of_paper".to_owned()))
    );
    assert_eq!(handle.status.unwrap().code(), StatusCode::Error);
}

#[tokio::test]
async fn spans_arrive_while_the_service_runs() {
    let collector = Collector::start().await;
    let tracing = Tracing::start("front", &config_for(&collector.endpoint())).unwrap();

    drop(tracing.tracer().start("front.receive", SpanKind::Server, None));

    collector.wait_for_spans(1).await;
}

#[tokio::test]
async fn a_clients_trace_is_continued() {
    let collector = Collector::start().await;
    let tracing = Tracing::start("front", &config_for(&collector.endpoint())).unwrap();

    let parent = TraceParent::parse(SAMPLED);
    drop(tracing.tracer().start("front.receive", SpanKind::Server, parent));
    tracing.shutdown().await;

    let (_, span) = collector.span("front.receive");
    assert_eq!(hex(&span.trace_id), "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!(hex(&span.parent_span_id), "00f067aa0ba902b7");
}

#[tokio::test]
async fn the_parent_decides_and_only_without_one_the_ratio() {
    let collector = Collector::start().await;
    let with_ratio = |trace_sample_ratio| {
        let config = TelemetryConfig { trace_sample_ratio, ..config_for(&collector.endpoint()) };
        Tracing::start("front", &config).unwrap()
    };
    let (all, none) = (with_ratio(1.0), with_ratio(0.0));
    let (sampled, unsampled) = (TraceParent::parse(SAMPLED), TraceParent::parse(UNSAMPLED));
    let starts =
        |tracer: &Tracer, parent| tracer.start("work", SpanKind::Internal, parent).is_some();
    let follows =
        |tracer: &Tracer, parent| tracer.follow("work", SpanKind::Internal, parent).is_some();

    let (all, none, disabled) = (all.tracer(), none.tracer(), Tracer::disabled());

    assert!(starts(&all, None) && starts(&all, sampled) && !starts(&all, unsampled));
    assert!(!starts(&none, None) && starts(&none, sampled) && !starts(&none, unsampled));
    assert!(!starts(&disabled, None) && !starts(&disabled, sampled));
    for tracer in [&all, &none] {
        assert!(!follows(tracer, None) && follows(tracer, sampled) && !follows(tracer, unsampled));
    }
    assert!(!follows(&disabled, sampled));
    assert_eq!(traceparent_of(None), "");
}

#[tokio::test]
async fn what_is_not_sampled_allocates_nothing() {
    let config = TelemetryConfig { trace_sample_ratio: 1e-9, ..config_for("http://127.0.0.1:1") };
    let tracing = Tracing::start("front", &config).unwrap();
    let tracer = tracing.tracer();
    let unsampled = TraceParent::parse(UNSAMPLED);
    let work = || {
        let span = tracer.start("front.receive", SpanKind::Server, None);
        let parent = TraceParent::parse(&traceparent_of(span.as_ref()));
        assert!(tracer.follow("back.handle", SpanKind::Consumer, parent).is_none());
        assert!(tracer.start("front.receive", SpanKind::Server, unsampled).is_none());
    };
    work();

    let allocated = allocation_counter::measure(work);

    assert_eq!(allocated.count_total, 0);
}

#[tokio::test]
async fn without_an_endpoint_nothing_is_traced() {
    for otlp_endpoint in [None, Some(String::new())] {
        let config = TelemetryConfig { otlp_endpoint, ..config_for("") };
        let tracing = Tracing::start("front", &config).unwrap();

        assert!(tracing.tracer().start("work", SpanKind::Internal, None).is_none());
        tracing.shutdown().await;
    }
}

#[tokio::test]
async fn an_endpoint_that_is_no_plaintext_url_is_refused() {
    for endpoint in ["https://collector:4317", "collector:4317", "http://", "no url"] {
        let refused = Tracing::start("front", &config_for(endpoint));

        assert!(matches!(refused, Err(StartTracingError::Endpoint(_))), "{endpoint}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_collector_that_is_down_costs_the_service_nothing() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let tracing = Tracing::start("front", &config_for(&format!("http://{nobody}"))).unwrap();
    for _ in 0..100_000 {
        drop(tracing.tracer().start("front.receive", SpanKind::Server, None));
    }

    let asked_at = Instant::now();
    tracing.shutdown().await;

    assert!(asked_at.elapsed() < Duration::from_millis(2100), "{:?}", asked_at.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_collector_that_hangs_delays_the_exit_by_two_seconds_at_most() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    let tracing = Tracing::start("front", &config_for(&endpoint)).unwrap();
    drop(tracing.tracer().start("front.receive", SpanKind::Server, None));

    let asked_at = Instant::now();
    tracing.shutdown().await;

    assert!(asked_at.elapsed() < Duration::from_millis(2100), "{:?}", asked_at.elapsed());
}

/// A collector in this process.
struct Collector {
    address: SocketAddr,
    received: Received,
    _server: JoinSet<()>,
}

#[derive(Clone, Default)]
struct Received {
    /// Each span with the name of the service it came from.
    spans: Arc<Mutex<Vec<(String, ReceivedSpan)>>>,
}

impl Collector {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let received = Received::default();
        let service = TraceServiceServer::new(received.clone());
        let mut server = JoinSet::new();
        server.spawn(async move {
            let incoming = TcpListenerStream::new(listener);
            Server::builder().add_service(service).serve_with_incoming(incoming).await.unwrap();
        });
        Self { address, received, _server: server }
    }

    fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    fn span(&self, name: &str) -> (String, ReceivedSpan) {
        let spans = self.received.spans.lock().unwrap();
        spans.iter().find(|(_, span)| span.name == name).unwrap().clone()
    }

    async fn wait_for_spans(&self, count: usize) {
        let waiting = async {
            while self.received.spans.lock().unwrap().len() < count {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), waiting).await.unwrap();
    }
}

#[tonic::async_trait]
impl TraceService for Received {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut spans = self.spans.lock().unwrap();
        for of_service in request.into_inner().resource_spans {
            let resource = of_service.resource.unwrap();
            let Some(Value::StringValue(service_name)) =
                attribute(&resource.attributes, "service.name")
            else {
                panic!("a service without a name");
            };
            assert!(attribute(&resource.attributes, "service.version").is_some());
            let of_scopes = of_service.scope_spans.into_iter().flat_map(|scope| scope.spans);
            spans.extend(of_scopes.map(|span| (service_name.clone(), span)));
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn config_for(endpoint: &str) -> TelemetryConfig {
    TelemetryConfig {
        log_format: LogFormat::Text,
        log_filter: "info".to_owned(),
        otlp_endpoint: Some(endpoint.to_owned()),
        trace_sample_ratio: 1.0,
    }
}

fn attribute(attributes: &[KeyValue], key: &str) -> Option<Value> {
    let found = attributes.iter().find(|attribute| attribute.key == key)?;
    found.value.clone()?.value
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
