//! Writes to the socket: a frame at once, and what waits as soon as the client has read.

use std::{
    io::{self, IoSlice},
    task::{Context, Poll},
};

use super::Connection;
use crate::{client_stream::ClientStream, shard::outbox::SLICES_MAX, telemetry::as_f64};

impl Connection {
    /// Writes what the socket takes. An error is left for the task to find, which sees it when it reads or writes next.
    pub(super) fn write_now(&self, frame: &[u8]) -> usize {
        let Some(stream) = self.stream.get() else { return 0 };
        let written = stream.try_write(frame).unwrap_or(0);
        if stream.has_unsent() {
            self.wake();
        }
        written
    }

    /// Writes what waits, until nothing does or the socket takes no more.
    pub(super) fn poll_flush(
        &self,
        stream: &ClientStream,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let mut slot = self.outbox.borrow_mut();
        while let Some(outbox) = &mut *slot {
            if outbox.is_empty() {
                *slot = None;
                break;
            }
            if stream.poll_write_ready(cx)?.is_pending() {
                return Poll::Pending;
            }
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let filled = outbox.slices(&mut slices);
            match stream.try_write_vectored(&slices[..filled]) {
                Ok(written) => {
                    let before = outbox.data_bytes();
                    outbox.advance(written);
                    let gone = before - outbox.data_bytes();
                    self.common.metrics.outbox_bytes.decrement(as_f64(gone));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        stream.poll_flush_unsent(cx)
    }
}
