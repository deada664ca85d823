//! Says where security events go.

use std::convert::Infallible;
use std::path::PathBuf;
use std::str::FromStr;

/// Where security events go, the same for every service.
#[derive(Debug, Clone, clap::Args)]
pub struct AuditConfig {
    /// Where security events are written, one JSON object per line: a file, `stdout`, or `off`.
    #[arg(
        id = "audit-log",
        long = "audit-log",
        env = "AUDIT_LOG",
        default_value = "off",
        value_name = "PATH|stdout|off"
    )]
    pub audit_log: AuditTarget,
}

/// Where security events go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuditTarget {
    /// Nowhere.
    Off,
    /// To the standard output, where nothing else is.
    Stdout,
    /// To the end of a file.
    File(PathBuf),
}

impl FromStr for AuditTarget {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match text {
            "off" => Self::Off,
            "stdout" => Self::Stdout,
            path => Self::File(PathBuf::from(path)),
        })
    }
}
