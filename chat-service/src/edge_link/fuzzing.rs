//! What must hold of what an edge sends, for the fuzzer.

use prost::Message;
use proto::edge::v1 as wire;

use super::frame::{Frame, Hello};

/// A frame begins a stream or goes on with it, and not both; nothing that it says is lost.
pub(crate) fn edge_frame(data: &[u8]) {
    let Ok(frame) = wire::EdgeFrame::decode(data) else { return };
    let event_count = frame.events.len();
    let hello = Hello::try_from(frame.clone());
    let next = Frame::try_from(frame);

    assert!(hello.is_err() || next.is_err());
    if let Ok(hello) = hello {
        assert!(!hello.link_id.is_empty() && !hello.namespaces.is_empty());
    }
    if let Ok(next) = next {
        assert_eq!(next.events.len(), event_count);
        assert!(next.seq > 0 || event_count == 0);
    }
}
