//! What every process of Sockeye needs before it knows its domain: telemetry, the audit log, shutdown, health, exit codes.

pub mod audit;
pub mod clock;
pub mod exit;
pub mod ops;
pub mod shutdown;
pub mod telemetry;
pub mod trace;
