//! Answers operators over HTTP: whether the process lives, whether it is ready, and its metrics.

mod metrics;
mod readiness;
mod server;

pub use self::{
    metrics::{InstallMetricsError, MetricsHandle, install_metrics},
    readiness::{Condition, Readiness},
    server::OpsServer,
};
