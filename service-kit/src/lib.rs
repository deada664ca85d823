//! What every process of Sockeye needs before it knows its domain: telemetry, the audit log, TLS, shutdown,
//! health, exit codes.

pub mod audit;
pub mod clock;
pub mod cores;
pub mod exit;
pub mod grpc;
pub mod log_rate;
pub mod mutual_tls;
pub mod ops;
pub mod panics;
pub mod plaintext;
pub mod shutdown;
pub mod telemetry;
pub mod tls;
pub mod trace;
pub mod watched_files;
