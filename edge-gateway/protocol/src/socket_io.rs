//! Packets of Socket.IO, protocol version 5, and the namespaces of one session.
//!
//! A packet is the text of an Engine.IO message:
//!
//! ```text
//! <type>[<namespace>,][<ack id>][<JSON>]        2/chat,7["message",{"room":"a"}]
//! ```
//!
//! Binary packets (types 5 and 6) are not supported.

mod decoder;
mod encoder;
mod session;

pub use decoder::{DecodePacketError, NAMESPACE_BYTES_MAX, Packet};
pub use encoder::{
    encode_ack_frame, encode_connect_error_frame, encode_connect_frame, encode_disconnect_frame,
    encode_event_frame,
};
pub use session::{Action, NAMESPACES_MAX, Session, Violation};

pub use crate::args::EncodeError;
pub use crate::event_name::EVENT_NAME_BYTES_MAX;
