//! One client in one namespace.

use std::rc::Rc;

use bytes::Bytes;
use service_kit::trace::Span;

use crate::shard::{ConnectionKey, NamespaceKey, Rate};

/// Who a socket belongs to, as the auth service said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) subject: Box<str>,
    pub(crate) issuer: Box<str>,
    /// JSON text of an object: what other users may see.
    pub(crate) profile: Bytes,
    pub(crate) expires_at_unix_ms: u64,
}

/// An authenticated client in a namespace, or on its way into one.
#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) connection: ConnectionKey,
    pub(crate) namespace: NamespaceKey,
    /// What this socket is called on the link to its business service.
    pub(crate) handle: u64,
    /// What other clients may call it.
    pub(crate) public_id: Box<str>,
    /// None in a namespace that takes clients without a token.
    pub(crate) identity: Option<Rc<Identity>>,
    /// Its allowance, where the namespace has one of its own.
    pub(crate) rate: Option<Box<Rate>>,
    pub(crate) stage: Stage,
}

/// How far a socket has come.
#[derive(Debug)]
pub(crate) enum Stage {
    /// Its business service has been asked. The span ends with the answer.
    Opening {
        span: Option<Box<Span>>,
        /// What the client said as it asked, for a business service that must be asked again: JSON text, or empty.
        auth: Bytes,
    },
    /// It was let in.
    Live,
}
