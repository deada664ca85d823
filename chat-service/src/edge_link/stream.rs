//! The two directions of one `Attach` call.

use std::{
    future,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
};

use proto::{edge::v1 as wire, encoded::Encoded};
use thiserror::Error;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tonic::{Status, Streaming};

use super::frame::FrameError;

/// How many frames may wait between the link and the transport, which has buffers of its own.
const FRAMES_MAX: usize = 4;

/// Why this side ends a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(super) enum StreamEnd {
    #[error("no hello came in time")]
    NoHello,
    #[error("a frame cannot be understood")]
    Malformed(#[source] FrameError),
    #[error("a frame is missing")]
    Hole,
    #[error("frames are confirmed that were not sent")]
    Confirmation,
    #[error("a newer stream of this link has come")]
    Replaced,
    #[error("the edge does not keep up with its instructions")]
    Overflowed,
    #[error("what was to be sent is lost, for the log has failed")]
    Lost,
    #[error("too many links")]
    TooManyLinks,
    #[error("the service shuts down")]
    ShuttingDown,
}

impl From<StreamEnd> for Status {
    fn from(end: StreamEnd) -> Self {
        let text = end.to_string();
        match end {
            StreamEnd::Malformed(error) => Self::invalid_argument(error.to_string()),
            StreamEnd::NoHello | StreamEnd::Hole | StreamEnd::Confirmation => {
                Self::invalid_argument(text)
            }
            StreamEnd::Replaced => Self::aborted(text),
            StreamEnd::Overflowed => Self::resource_exhausted(text),
            StreamEnd::Lost | StreamEnd::TooManyLinks | StreamEnd::ShuttingDown => {
                Self::unavailable(text)
            }
        }
    }
}

/// Frames from the edge.
#[derive(Debug)]
pub(super) struct Inbound {
    pub(super) frames: Streaming<wire::EdgeFrame>,
}

/// Frames to the edge.
#[derive(Debug)]
pub(super) struct Outbound {
    frames: mpsc::Sender<Encoded<wire::BackendFrame>>,
    end: Arc<OnceLock<StreamEnd>>,
}

/// What tonic sends: the frames, and then why there are no more.
#[derive(Debug)]
pub(crate) struct Outgoing {
    frames: mpsc::Receiver<Encoded<wire::BackendFrame>>,
    end: Arc<OnceLock<StreamEnd>>,
    ended: bool,
}

/// Makes the outbound direction of a stream.
pub(super) fn outbound() -> (Outbound, Outgoing) {
    let (sender, receiver) = mpsc::channel(FRAMES_MAX);
    let end = Arc::new(OnceLock::new());
    let outgoing = Outgoing { frames: receiver, end: Arc::clone(&end), ended: false };
    (Outbound { frames: sender, end }, outgoing)
}

impl Inbound {
    /// The next frame, or nothing when the edge or the connection is gone. May be dropped and called again.
    pub(super) async fn next(&mut self) -> Option<wire::EdgeFrame> {
        self.frames.message().await.ok().flatten()
    }
}

impl Outbound {
    pub(super) fn try_reserve(&self) -> Option<mpsc::Permit<'_, Encoded<wire::BackendFrame>>> {
        self.frames.try_reserve().ok()
    }

    /// Waits until a frame can be written, or none ever again.
    pub(super) async fn writable(&self) {
        if self.frames.reserve().await.is_err() {
            future::pending().await
        }
    }

    /// Waits until the edge or the connection is gone.
    pub(super) async fn closed(&self) {
        self.frames.closed().await;
    }

    /// Ends the stream, after the frames that were written.
    pub(super) fn end(self, end: StreamEnd) {
        self.end.get_or_init(|| end);
    }
}

impl Stream for Outgoing {
    type Item = Result<Encoded<wire::BackendFrame>, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        self.frames.poll_recv(context).map(|frame| match frame {
            Some(frame) => Some(Ok(frame)),
            None => {
                self.ended = true;
                let end = self.end.get().copied().unwrap_or(StreamEnd::ShuttingDown);
                Some(Err(end.into()))
            }
        })
    }
}
