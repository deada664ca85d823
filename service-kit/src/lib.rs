//! What every process of Sockeye needs before it knows its domain: telemetry, shutdown, health, exit codes.

pub mod clock;
pub mod exit;
pub mod ops;
pub mod shutdown;
pub mod telemetry;
pub mod trace;
