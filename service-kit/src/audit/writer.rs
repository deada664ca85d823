//! Writes lines where they belong, and counts those that cannot be.

use std::fs::{File, OpenOptions};
use std::io::{self, Stdout, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use metrics::{counter, describe_counter};

use super::flood::Flood;
use super::queue::Queue;

const LOST: &str = "sockeye_audit_lost_events_total";

/// Only the service's user reads who was let in from where.
const FILE_MODE: u32 = 0o600;

/// Why an event is not in the log.
#[derive(Debug, Clone, Copy)]
pub(super) enum Lost {
    QueueFull,
    WriteFailed,
}

pub(super) fn describe_metrics() {
    describe_counter!(LOST, "Security events that are missing in the audit log");
    for reason in [Lost::QueueFull, Lost::WriteFailed] {
        count_lost(reason, 0);
    }
}

pub(super) fn count_lost(reason: Lost, count: u64) {
    let reason = match reason {
        Lost::QueueFull => "queue_full",
        Lost::WriteFailed => "write_failed",
    };
    counter!(LOST, "reason" => reason).increment(count);
}

/// Where lines go.
#[derive(Debug)]
pub(super) enum Sink {
    Stdout(Stdout),
    File(File),
}

impl Sink {
    /// Opens a file at its end: whoever copies and cuts it finds the next line at the new end.
    pub(super) fn open(path: &Path) -> Result<Self, OpenAuditLogError> {
        let mut options = OpenOptions::new();
        let file = options.create(true).append(true).mode(FILE_MODE).open(path);
        let failed = |source| OpenAuditLogError::File { path: path.to_owned(), source };
        Ok(Self::File(file.map_err(failed)?))
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stdout(stdout) => stdout.write(bytes),
            Self::File(file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Stdout(stdout) => stdout.flush(),
            Self::File(file) => file.flush(),
        }
    }
}

/// Writes until the queue is stopped and empty.
pub(super) fn run(queue: &Queue, sink: impl Write) {
    let mut log = Log { sink, is_failing: false };
    let (mut flood, mut events, mut lines) = (Flood::default(), Vec::new(), Vec::new());
    loop {
        let goes_on = queue.wait(flood.rest(Instant::now()), &mut events);
        let now = Instant::now();
        let admitted = events.drain(..).map(|(event, unix_ms)| flood.admit(event, unix_ms, now));
        lines.extend(admitted.flatten());
        if goes_on {
            flood.take_due(now, &mut lines);
        } else {
            flood.finish(&mut lines);
        }
        log.write(&mut lines);
        if !goes_on {
            return;
        }
    }
}

struct Log<W> {
    sink: W,
    /// The last write failed, maybe within a line.
    is_failing: bool,
}

impl<W: Write> Log<W> {
    fn write(&mut self, lines: &mut Vec<String>) {
        let mut written = 0;
        for line in lines.iter() {
            let end_of_torn_line = if self.is_failing { "\n" } else { "" };
            let text = format!("{end_of_torn_line}{line}");
            let result = self.sink.write_all(text.as_bytes()).and_then(|()| self.sink.flush());
            match result {
                Ok(()) => {
                    written += 1;
                    self.is_failing = false;
                }
                Err(error) => {
                    // Once, and not for each line: the disk may be full of logs.
                    if !self.is_failing {
                        tracing::error!(%error, "the audit log cannot be written");
                    }
                    self.is_failing = true;
                    count_lost(Lost::WriteFailed, 1);
                }
            }
        }
        if written > 0 && lines.len() > written {
            tracing::warn!(written, of = lines.len(), "the audit log has a gap");
        }
        lines.clear();
    }
}

/// Why there is no audit log although one is asked for.
#[derive(Debug, thiserror::Error)]
pub enum OpenAuditLogError {
    /// The file cannot be written.
    #[error("the audit log {} cannot be opened", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// There is no thread to write it.
    #[error("the audit log has no thread")]
    Thread(#[source] io::Error),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{AuditEvent, Decision};

    /// A disk with so many bytes left.
    struct Disk {
        bytes: Vec<u8>,
        room: usize,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let taken = bytes.len().min(self.room);
            if taken == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.bytes.extend_from_slice(&bytes[..taken]);
            self.room -= taken;
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_full_disk_tears_no_line_of_those_that_follow() {
        let mut log = Log { sink: Disk { bytes: Vec::new(), room: 6 }, is_failing: false };
        log.write(&mut vec!["one\n".to_owned(), "two\n".to_owned(), "three\n".to_owned()]);
        assert!(log.is_failing);

        log.sink.room = 100;
        log.write(&mut vec!["four\n".to_owned(), "five\n".to_owned()]);

        assert_eq!(log.sink.bytes, b"one\ntw\nfour\nfive\n");
        assert!(!log.is_failing);
    }

    #[test]
    fn all_that_waits_is_written_before_the_end() {
        let queue = Queue::default();
        let event = AuditEvent::new("edge-gateway", "connect", Decision::Denied);
        for _ in 0..5 {
            queue.push(event.clone(), 7);
        }
        queue.stop();
        let mut written = Vec::new();

        run(&queue, &mut written);

        assert_eq!(String::from_utf8(written).unwrap(), event.line(7, 1) + &event.line(7, 4));
    }
}
