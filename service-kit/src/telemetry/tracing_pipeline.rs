//! Runs the way of one service's spans, from the tracer to the collector.

use std::time::Duration;

use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig};
use opentelemetry_sdk::{
    Resource,
    trace::{Sampler, SdkTracerProvider, SpanExporter as _},
};
use tokio::{sync::oneshot, task::JoinSet, time};

use super::{TelemetryConfig, span_queue::span_queue};
use crate::trace::Tracer;

/// For how long the last spans may hold up the end of the process.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);
/// For how long one attempt to send may take. The queue's own deadline covers all attempts for a batch.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(4);

/// Why tracing cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartTracingError {
    /// Nothing can be sent to this endpoint.
    #[error("OTLP endpoint (OTEL_EXPORTER_OTLP_ENDPOINT) cannot be used")]
    Endpoint(#[source] ExporterBuildError),
    /// There would be nothing to send: the process was built with the feature `untraced`.
    #[error(
        "OTLP endpoint (OTEL_EXPORTER_OTLP_ENDPOINT) is set, and this program was built without spans"
    )]
    Untraced,
}

/// The tracing of one service. There is nothing global in it, so that services can share a process.
#[derive(Debug)]
pub struct Tracing {
    service_name: &'static str,
    pipeline: Option<Pipeline>,
}

#[derive(Debug)]
struct Pipeline {
    provider: SdkTracerProvider,
    tracer: Tracer,
    stop: oneshot::Sender<()>,
    /// Holds the one task that sends.
    sender: JoinSet<()>,
}

impl Tracing {
    /// Starts sending the spans of `service_name`, where there is an endpoint to send them to.
    ///
    /// A collector that cannot be reached, now or later, is no error: its spans are dropped and counted.
    ///
    /// # Errors
    ///
    /// When the endpoint is no URL that spans can be sent to, or this was built without spans.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn start(
        service_name: &'static str,
        config: &TelemetryConfig,
    ) -> Result<Self, StartTracingError> {
        // An empty variable is an unset one.
        let endpoint = config.otlp_endpoint.as_deref().filter(|endpoint| !endpoint.is_empty());
        let pipeline = match endpoint {
            Some(_) if cfg!(feature = "untraced") => return Err(StartTracingError::Untraced),
            Some(endpoint) => {
                Some(Pipeline::start(service_name, endpoint, config.trace_sample_ratio)?)
            }
            None => None,
        };
        Ok(Self { service_name, pipeline })
    }

    /// Returns the tracer of the service.
    pub fn tracer(&self) -> Tracer {
        self.pipeline.as_ref().map_or_else(Tracer::disabled, |pipeline| pipeline.tracer.clone())
    }

    /// Sends the spans that have ended by now. A collector that does not take them holds up nobody for long.
    pub async fn shutdown(self) {
        let Some(mut pipeline) = self.pipeline else { return };
        drop(pipeline.stop);
        let flushed = time::timeout(FLUSH_TIMEOUT, pipeline.sender.join_next()).await;
        if flushed.is_err() {
            tracing::warn!(
                service = self.service_name,
                "last spans are lost: the collector does not take them"
            );
        }
        if let Err(error) = pipeline.provider.shutdown() {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "tracing was shut down before"
            );
        }
    }
}

impl Pipeline {
    fn start(
        service_name: &'static str,
        endpoint: &str,
        sample_ratio: f64,
    ) -> Result<Self, StartTracingError> {
        let resource = Resource::builder()
            .with_service_name(service_name)
            .with_attribute(opentelemetry::KeyValue::new(
                "service.version",
                env!("CARGO_PKG_VERSION"),
            ))
            .build();
        let mut exporter = SpanExporter::builder()
            .with_tonic()
            .with_endpoint(endpoint)
            .with_timeout(ATTEMPT_TIMEOUT)
            .build()
            .map_err(StartTracingError::Endpoint)?;
        exporter.set_resource(&resource);

        let (queue, span_sender) = span_queue(service_name, exporter);
        let (stop, stopped) = oneshot::channel();
        let mut sender = JoinSet::new();
        sender.spawn(span_sender.run(stopped));

        // Whoever asks for a span has decided that it is sampled.
        let provider = SdkTracerProvider::builder()
            .with_sampler(Sampler::AlwaysOn)
            .with_span_processor(queue)
            .with_resource(resource)
            .build();
        let tracer = Tracer::new(provider.tracer(service_name), sample_ratio);
        Ok(Self { provider, tracer, stop, sender })
    }
}
