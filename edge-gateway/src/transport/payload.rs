//! Puts what waits for a poll into the body of its answer, as the client's version of Engine.IO has it.

use bytes::Bytes;
use edge_protocol::engine_io::{
    payload::{Payload, PushFramesError},
    v3,
};

/// How a client that polls is sent many packets at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PayloadForm {
    V4,
    /// The frames must have the client's own form for bytes.
    V3,
}

impl PayloadForm {
    /// The packets in whole frames, as one body.
    pub(crate) fn body(self, frames: &[Bytes]) -> v3::payload::Body {
        match self {
            Self::V4 => {
                let mut payload = Payload::new();
                for frames in frames {
                    note(payload.push(frames));
                }
                v3::payload::Body::Text(payload.into_body())
            }
            Self::V3 => {
                let mut payload = v3::payload::Payload::new();
                for frames in frames {
                    note(payload.push(frames));
                }
                payload.into_body()
            }
        }
    }
}

fn note(pushed: Result<(), PushFramesError>) {
    if let Err(error) = pushed {
        tracing::warn!(%error, "a business service sent what cannot be put into a poll's answer");
    }
}
