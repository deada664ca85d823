//! Carries what a process has to tell to its operators: logs to stderr, spans to a collector.

mod config;
mod logging;
mod span_queue;
mod tracing_pipeline;

pub use self::{
    config::{LogFormat, TelemetryConfig},
    logging::{InitLoggingError, init_logging},
    tracing_pipeline::{StartTracingError, Tracing},
};
