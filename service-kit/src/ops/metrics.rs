//! Records the metrics of the process and shows them as Prometheus text.

use std::sync::{Mutex, PoisonError};

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

use crate::panics;

/// Upper bounds of the histograms that measure durations, in seconds.
const DURATION_BUCKETS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// The recorder of the process, once there is one.
static INSTALLED: Mutex<Option<MetricsHandle>> = Mutex::new(None);

/// The metrics of the process, as an [`OpsServer`](super::OpsServer) shows them.
#[derive(Clone)]
pub struct MetricsHandle {
    prometheus: PrometheusHandle,
}

/// Why metrics cannot be recorded.
#[derive(Debug, thiserror::Error)]
pub enum InstallMetricsError {
    /// The buckets of a histogram are refused.
    #[error("histogram buckets are refused")]
    Buckets(#[source] BuildError),
    /// Someone else records this process's metrics.
    #[error("another metrics recorder is installed")]
    Taken,
}

/// Makes `metrics::counter!` and the like record from now on. Later calls return the same metrics.
///
/// An [`OpsServer`](super::OpsServer) must run as well: it also folds what histograms have taken in since, which
/// would grow without end otherwise.
///
/// # Errors
///
/// When something else records this process's metrics.
pub fn install_metrics() -> Result<MetricsHandle, InstallMetricsError> {
    let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(handle) = &*installed {
        return Ok(handle.clone());
    }
    let recorder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &DURATION_BUCKETS)
        .map_err(InstallMetricsError::Buckets)?
        .build_recorder();
    let handle = MetricsHandle { prometheus: recorder.handle() };
    metrics::set_global_recorder(recorder).map_err(|_| InstallMetricsError::Taken)?;
    *installed = Some(handle.clone());
    panics::show();
    Ok(handle)
}

impl MetricsHandle {
    /// Returns all metrics as Prometheus text.
    pub(super) fn render(&self) -> String {
        self.prometheus.render()
    }

    /// Folds what histograms have taken in since the last call.
    pub(super) fn fold(&self) {
        self.prometheus.run_upkeep();
    }
}

impl std::fmt::Debug for MetricsHandle {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("MetricsHandle").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_caller_gets_the_same_metrics() {
        let first = install_metrics().unwrap();
        let second = install_metrics().unwrap();

        metrics::counter!("metrics_test_total", "kind" => "a").increment(2);
        metrics::histogram!("metrics_test_seconds").record(0.003);

        for handle in [first, second] {
            let text = handle.render();
            assert!(text.contains("metrics_test_total{kind=\"a\"} 2"), "{text}");
            assert!(text.contains("metrics_test_seconds_bucket{le=\"0.005\"} 1"), "{text}");
            assert!(text.contains("metrics_test_seconds_bucket{le=\"0.0025\"} 0"), "{text}");
        }
    }
}
