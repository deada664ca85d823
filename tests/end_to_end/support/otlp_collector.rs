//! Receives spans over OTLP/gRPC, in this process.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::{AnyValue, KeyValue, any_value},
    trace::v1::{Span, span::SpanKind, status::StatusCode},
};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, transport::Server};

use super::eventually::eventually;

/// One span as it arrived.
#[derive(Debug, Clone)]
pub(crate) struct RecordedSpan {
    /// `service.name` of the process, or part of a process, that made it.
    pub(crate) service: String,
    pub(crate) name: String,
    pub(crate) kind: SpanKind,
    pub(crate) trace_id: String,
    pub(crate) span_id: String,
    /// Empty for the root of a trace.
    pub(crate) parent_id: String,
    /// In the form of text, whatever their types.
    pub(crate) attributes: BTreeMap<String, String>,
    pub(crate) is_error: bool,
}

/// A collector that keeps what it is sent.
#[derive(Debug)]
pub(crate) struct OtlpCollector {
    address: SocketAddr,
    received: Received,
    _server: JoinSet<()>,
}

type Received = Arc<Mutex<Vec<RecordedSpan>>>;

impl OtlpCollector {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let received = Received::default();
        let service = TraceServiceServer::new(Recorder { received: Arc::clone(&received) });
        let mut server = JoinSet::new();
        server.spawn(async move {
            let incoming = TcpListenerStream::new(listener);
            Server::builder().add_service(service).serve_with_incoming(incoming).await.unwrap();
        });
        Self { address, received, _server: server }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn spans(&self) -> Vec<RecordedSpan> {
        self.received.lock().unwrap().clone()
    }

    /// Returns the spans of the trace that `is_in_it` recognizes a span of, once there are `count` of them.
    ///
    /// More than `count` are returned too, so that the caller's comparison shows them.
    pub(crate) async fn trace(
        &self,
        count: usize,
        is_in_it: impl Fn(&RecordedSpan) -> bool,
    ) -> Vec<RecordedSpan> {
        self.trace_until(|trace| trace.len() >= count, is_in_it).await
    }

    /// Returns the spans of the trace that `is_in_it` recognizes a span of, once they are complete.
    pub(crate) async fn trace_until(
        &self,
        is_complete: impl Fn(&[RecordedSpan]) -> bool,
        is_in_it: impl Fn(&RecordedSpan) -> bool,
    ) -> Vec<RecordedSpan> {
        eventually("the trace is complete", async || {
            let spans = self.spans();
            let trace_id = spans.iter().find(|span| is_in_it(span))?.trace_id.clone();
            let trace: Vec<_> =
                spans.into_iter().filter(|span| span.trace_id == trace_id).collect();
            is_complete(&trace).then_some(trace)
        })
        .await
    }
}

#[derive(Debug)]
struct Recorder {
    received: Received,
}

#[tonic::async_trait]
impl TraceService for Recorder {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut received = self.received.lock().unwrap();
        for resource_spans in request.into_inner().resource_spans {
            let resource = text_attributes(&resource_spans.resource.unwrap().attributes);
            let service = &resource["service.name"];
            let spans = resource_spans.scope_spans.iter().flat_map(|scope| &scope.spans);
            received.extend(spans.map(|span| recorded(service, span)));
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn recorded(service: &str, span: &Span) -> RecordedSpan {
    RecordedSpan {
        service: service.to_owned(),
        name: span.name.clone(),
        kind: span.kind(),
        trace_id: hex(&span.trace_id),
        span_id: hex(&span.span_id),
        parent_id: hex(&span.parent_span_id),
        attributes: text_attributes(&span.attributes),
        is_error: span.status.as_ref().is_some_and(|status| status.code() == StatusCode::Error),
    }
}

fn text_attributes(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    attributes
        .iter()
        .map(|attribute| (attribute.key.clone(), text(attribute.value.as_ref())))
        .collect()
}

fn text(value: Option<&AnyValue>) -> String {
    match value.and_then(|value| value.value.as_ref()) {
        Some(any_value::Value::StringValue(text)) => text.clone(),
        Some(any_value::Value::IntValue(number)) => number.to_string(),
        Some(other) => format!("{other:?}"),
        None => String::new(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
