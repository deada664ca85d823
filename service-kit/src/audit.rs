//! Tells the operator's auditors who was let in, turned away or cut off, one JSON object per line.

mod config;
mod event;
mod flood;
mod queue;
mod writer;

use std::sync::{Arc, OnceLock, mpsc};
use std::time::Duration;
use std::{io, thread};

pub use self::config::{AuditConfig, AuditTarget};
pub use self::event::{AuditEvent, Decision};
pub use self::writer::OpenAuditLogError;
use self::{queue::Queue, writer::Sink};
use crate::clock;

/// For how long the end of the process waits for the last lines.
const FINISH_TIMEOUT: Duration = Duration::from_secs(2);

/// The log of this process. As logs and metrics, it is one, wherever its events come from.
static QUEUE: OnceLock<Arc<Queue>> = OnceLock::new();

/// Notes an event, which costs nothing but a lock. Without a log, nothing happens.
pub fn record(event: AuditEvent) {
    if let Some(queue) = QUEUE.get() {
        queue.push(event, clock::unix_ms());
    }
}

/// Whether there is a log, for those to whom putting an event together is work.
pub fn is_on() -> bool {
    QUEUE.get().is_some()
}

/// Keeps the log open. Dropped, it waits for the last lines, within bounds.
#[derive(Debug)]
#[must_use = "the log ends with it"]
pub struct AuditLog {
    writing: Option<(Arc<Queue>, mpsc::Receiver<()>)>,
}

impl AuditLog {
    /// Opens the log that the settings name, on a thread of its own: a disk that hangs is nobody else's trouble.
    ///
    /// # Errors
    ///
    /// When the file cannot be opened. Running without a log that was asked for is not an option.
    pub fn start(config: &AuditConfig) -> Result<Self, OpenAuditLogError> {
        let sink = match &config.audit_log {
            AuditTarget::Off => return Ok(Self { writing: None }),
            AuditTarget::Stdout => Sink::Stdout(io::stdout()),
            AuditTarget::File(path) => Sink::open(path)?,
        };
        writer::describe_metrics();
        let queue = QUEUE.get_or_init(Arc::default).clone();
        let (done, ended) = mpsc::channel();
        let taken = queue.clone();
        let thread = thread::Builder::new().name("audit".to_owned());
        thread
            .spawn(move || {
                writer::run(&taken, sink);
                // Nobody may wait any more.
                let _ = done.send(());
            })
            .map_err(OpenAuditLogError::Thread)?;
        Ok(Self { writing: Some((queue, ended)) })
    }
}

impl Drop for AuditLog {
    fn drop(&mut self) {
        if let Some((queue, ended)) = self.writing.take() {
            queue.stop();
            if ended.recv_timeout(FINISH_TIMEOUT).is_err() {
                tracing::warn!("the end of the audit log was not written in time");
            }
        }
    }
}
