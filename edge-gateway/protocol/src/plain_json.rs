//! Messages as plain JSON, one object per WebSocket text frame, for clients without a library.
//!
//! ```text
//! client  {"event":"message","data":{"room":"a"},"id":7}
//! server  {"id":7,"data":{"position":"…"}}    or    {"id":7,"error":{"code":"…"}}
//! server  {"event":"message","data":{…}}
//! ```
//!
//! The shape is that of the NestJS WebSocket adapter, with an optional `id` that asks for an answer.
//! Either side may ask, each with ids of its own. `attachments` says how many binary frames follow a
//! message, and `{"_placeholder":true,"num":0}` in its data where they belong.

mod assembler;
mod decoder;
mod encoder;

pub use assembler::{Assembler, BinaryMessage};
pub use decoder::{Answer, DecodeMessageError, ID_BYTES_MAX, Message, Refusal, Request};
pub use encoder::{encode_answer_frames, encode_event_frames};

pub use crate::args::EncodeError;
pub use crate::event_name::EVENT_NAME_BYTES_MAX;
pub use crate::socket_io::ATTACHMENTS_MAX;
