//! Packets of Socket.IO, protocol version 5, and the namespaces of one session. [`v2`] has what
//! differs for clients of Socket.IO 2.
//!
//! A packet is the text of an Engine.IO message:
//!
//! ```text
//! <type>[<namespace>,][<ack id>][<JSON>]        2/chat,7["message",{"room":"a"}]
//! ```
//!
//! A binary packet says how many attachments follow it, each a message of its own, and in its JSON
//! where they belong:
//!
//! ```text
//! <type><attachments>-[<namespace>,][<ack id>]<JSON>    51-/chat,["image",{"_placeholder":true,"num":0}]
//! ```

mod assembler;
mod decoder;
mod encoder;
mod session;

pub mod v2;

pub use assembler::{AssembleError, Assembler, BinaryPacket};
pub use decoder::{ATTACHMENTS_MAX, DecodePacketError, NAMESPACE_BYTES_MAX, Packet};
pub use encoder::{
    encode_ack_frame, encode_ack_frames, encode_connect_error_frame, encode_connect_frame,
    encode_disconnect_frame, encode_event_frame, encode_event_frames,
    encode_recoverable_event_frames,
};
pub use session::{Action, NAMESPACES_MAX, Session, Violation};

pub use crate::args::EncodeError;
pub use crate::event_name::EVENT_NAME_BYTES_MAX;
