//! Starts spans on a service's own tracer, or decides that there is nothing to record.
//!
//! Spans are made on the OpenTelemetry API directly: several services live in one process, work crosses tasks and streams,
//! and what is not sampled must cost nothing.

mod parent;
mod sampler;

use std::{fmt, sync::Arc};

pub use opentelemetry::trace::{SpanKind, TraceId};
use opentelemetry::{
    Context, KeyValue, Value,
    trace::{Span as _, SpanBuilder, Status, TraceContextExt, Tracer as _},
};
use opentelemetry_sdk::trace::SdkTracer;

pub use self::parent::TraceParent;
use self::sampler::Sampler;

/// Starts the spans of one service. A clone is cheap.
#[derive(Debug, Clone)]
pub struct Tracer {
    recorder: Option<Arc<Recorder>>,
}

#[derive(Debug)]
struct Recorder {
    tracer: SdkTracer,
    sampler: Sampler,
}

/// A piece of recorded work. It ends when dropped.
pub struct Span {
    // Boxed, since most work is not sampled and its `Option<Span>` travels in queues.
    inner: Box<opentelemetry_sdk::trace::Span>,
}

impl Tracer {
    /// Returns a tracer that records nothing.
    pub const fn disabled() -> Self {
        Self { recorder: None }
    }

    pub(crate) fn new(tracer: SdkTracer, sample_ratio: f64) -> Self {
        let sampler = Sampler::new(sample_ratio);
        Self { recorder: Some(Arc::new(Recorder { tracer, sampler })) }
    }

    /// Starts the first span of a trace in our system, or returns `None` where the work is not sampled.
    ///
    /// The flag of the parent decides, and the sampler where there is no parent. What is not sampled allocates nothing.
    pub fn start(
        &self,
        name: &'static str,
        kind: SpanKind,
        parent: Option<TraceParent>,
    ) -> Option<Span> {
        let recorder = self.recorder()?;
        let is_sampled = match parent {
            Some(parent) => parent.is_sampled(),
            None => recorder.sampler.decide(),
        };
        is_sampled.then(|| recorder.record(name, kind, parent))
    }

    /// Starts a span that continues a sampled trace, and never a trace of its own.
    pub fn follow(
        &self,
        name: &'static str,
        kind: SpanKind,
        parent: Option<TraceParent>,
    ) -> Option<Span> {
        let recorder = self.recorder()?;
        parent
            .filter(|parent| parent.is_sampled())
            .map(|parent| recorder.record(name, kind, Some(parent)))
    }

    /// Where there is never one, whoever asks for a span is left without the code that would make it.
    fn recorder(&self) -> Option<&Recorder> {
        if cfg!(feature = "untraced") { None } else { self.recorder.as_deref() }
    }
}

impl Recorder {
    fn record(&self, name: &'static str, kind: SpanKind, parent: Option<TraceParent>) -> Span {
        let builder = SpanBuilder::from_name(name).with_kind(kind);
        // An empty context and not the current one: nothing of tracing hangs on the thread.
        let mut context = Context::new();
        if let Some(parent) = parent {
            context = context.with_remote_span_context(parent.to_span_context());
        }
        Span { inner: Box::new(self.tracer.build_with_context(builder, &context)) }
    }
}

impl Span {
    /// Returns what a later hop needs to continue this trace.
    pub fn context(&self) -> TraceParent {
        TraceParent::of(self.inner.span_context())
    }

    /// Sets an attribute.
    pub fn set(&mut self, key: &'static str, value: impl Into<Value>) {
        self.inner.set_attribute(KeyValue::new(key, value));
    }

    /// Marks the work as failed: error status, and `label` as `error.type`.
    pub fn fail(&mut self, label: &'static str) {
        self.inner.set_status(Status::error(label));
        self.set("error.type", label);
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Span").field(&self.context()).finish()
    }
}

/// Returns the wire form of a span's context, and an empty text where nothing is sampled.
pub fn traceparent_of(span: Option<&Span>) -> String {
    span.map_or_else(String::new, |span| span.context().to_string())
}
