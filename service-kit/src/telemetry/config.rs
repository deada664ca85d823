//! Settings of logs and traces.

/// Settings of logs and traces, the same for every service.
#[derive(Debug, Clone, clap::Args)]
pub struct TelemetryConfig {
    /// How log lines look.
    #[arg(
        id = "log-format",
        long = "log-format",
        env = "LOG_FORMAT",
        default_value = "text",
        value_name = "FORMAT"
    )]
    pub log_format: LogFormat,

    /// Which log lines are written: a level, or levels by target such as `info,h2=warn`.
    #[arg(
        id = "log-filter",
        long = "log-filter",
        env = "LOG_FILTER",
        default_value = "info",
        value_name = "FILTER"
    )]
    pub log_filter: String,

    /// Collector that spans are sent to over OTLP/gRPC, as `http://HOST:PORT`. Without it nothing is traced.
    #[arg(
        id = "otlp-endpoint",
        long = "otlp-endpoint",
        env = "OTEL_EXPORTER_OTLP_ENDPOINT",
        value_name = "URL"
    )]
    pub otlp_endpoint: Option<String>,

    /// Share of new traces that are recorded, from 0 to 1. A trace that a client began follows the client's decision.
    #[arg(
        id = "trace-sample-ratio",
        long = "trace-sample-ratio",
        env = "TRACE_SAMPLE_RATIO",
        default_value = "1",
        value_name = "RATIO",
        value_parser = parse_ratio
    )]
    pub trace_sample_ratio: f64,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One flat JSON object per line.
    Json,
}

/// Why a text is no ratio.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a number from 0 to 1")]
struct ParseRatioError;

fn parse_ratio(text: &str) -> Result<f64, ParseRatioError> {
    let ratio: f64 = text.parse().map_err(|_| ParseRatioError)?;
    if (0.0..=1.0).contains(&ratio) { Ok(ratio) } else { Err(ParseRatioError) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_a_number_from_0_to_1() {
        assert_eq!(parse_ratio("0"), Ok(0.0));
        assert_eq!(parse_ratio("0.25"), Ok(0.25));
        assert_eq!(parse_ratio("1"), Ok(1.0));

        for text in ["", "-0.1", "1.01", "NaN", "inf", "half"] {
            assert_eq!(parse_ratio(text), Err(ParseRatioError), "{text}");
        }
    }
}
