//! Writes log lines to stderr, for people or for machines.

use std::io::{self, IsTerminal};

use tracing::Subscriber;
use tracing_subscriber::{
    EnvFilter,
    filter::ParseError,
    fmt::{MakeWriter, fmt},
    util::{SubscriberInitExt, TryInitError},
};

use super::{LogFormat, TelemetryConfig};
use crate::panics;

/// Why logging cannot start.
#[derive(Debug, thiserror::Error)]
pub enum InitLoggingError {
    /// The filter is not understood.
    #[error("log filter (LOG_FILTER) is not understood")]
    Filter(#[source] ParseError),
    /// The process logs already.
    #[error("logging was started before")]
    Started(#[source] TryInitError),
}

/// Sends the log lines of this process to stderr, panics among them. Call it once, first of all.
///
/// # Errors
///
/// When the filter is not understood, or logging was started before.
pub fn init_logging(config: &TelemetryConfig) -> Result<(), InitLoggingError> {
    let filter =
        EnvFilter::builder().parse(&config.log_filter).map_err(InitLoggingError::Filter)?;
    let started = match config.log_format {
        LogFormat::Text => fmt()
            .with_env_filter(filter)
            .with_writer(io::stderr)
            .with_ansi(io::stderr().is_terminal())
            .finish()
            .try_init(),
        LogFormat::Json => json_lines(filter, io::stderr).try_init(),
    };
    started.map_err(InitLoggingError::Started)?;
    panics::install();
    Ok(())
}

/// Returns a subscriber that writes flat JSON: `timestamp`, `level`, `target`, `message`, and the fields beside them.
fn json_lines<W>(filter: EnvFilter, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    fmt()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .with_env_filter(filter)
        .with_writer(writer)
        .finish()
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write,
        sync::{Arc, Mutex},
    };

    use super::*;

    #[derive(Debug, Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_json_line_is_flat() {
        let captured = Captured::default();
        let writer = captured.clone();
        let lines = json_lines(EnvFilter::new("info"), move || writer.clone());

        tracing::subscriber::with_default(lines, || {
            let span = tracing::info_span!("work", inner = 1);
            let _entered = span.enter();
            tracing::info!(target: "kit", service = "front", address = %"127.0.0.1:1", "listening");
            tracing::debug!("too quiet to be heard");
        });

        let text = String::from_utf8(captured.0.lock().unwrap().clone()).unwrap();
        let mut line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert!(line.as_object_mut().unwrap().remove("timestamp").is_some());
        let expected = serde_json::json!({
            "level": "INFO", "target": "kit", "message": "listening",
            "service": "front", "address": "127.0.0.1:1",
        });
        assert_eq!(line, expected);
    }

    #[test]
    fn a_filter_that_is_not_understood_is_refused() {
        let config = TelemetryConfig {
            log_format: LogFormat::Json,
            log_filter: "info,=".to_owned(),
            otlp_endpoint: None,
            trace_sample_ratio: 1.0,
        };

        assert!(matches!(init_logging(&config), Err(InitLoggingError::Filter(_))));
    }
}
