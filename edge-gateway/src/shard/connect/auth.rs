//! What the edge reads of the `auth` with which a client asks to enter a namespace.

use bytes::Bytes;
use serde::Deserialize;
use service_kit::trace::Span;

use crate::{
    backend_link::EmitCount,
    client_handshake::without,
    namespaces::Authentication,
    quota::Shares,
    request::TOKEN_BYTES_MAX,
    session_id::SessionId,
    shard::{ConnectionKey, NamespaceKey, Shard, Wanted, Wire},
};

/// What the edge reads of a client's `auth`; all else in it is the client's affair.
#[derive(Deserialize)]
pub(in crate::shard) struct Auth {
    token: Option<String>,
}

impl Auth {
    /// The token in the JSON text of an `auth`, if the auth service would look at it.
    pub(in crate::shard) fn token(auth: &str) -> Option<String> {
        let token = serde_json::from_str::<Self>(auth).ok()?.token;
        token.filter(|token| token.len() <= TOKEN_BYTES_MAX)
    }
}

/// What a client says of the socket that it had before.
#[derive(Deserialize)]
struct RecoveryAuth {
    pid: String,
    offset: Option<String>,
}

impl Wanted {
    pub(super) fn parse(auth: &str) -> Option<Self> {
        let RecoveryAuth { pid, offset } = serde_json::from_str(auth).ok()?;
        let offset = offset.filter(|offset| offset.len() <= OFFSET_BYTES_MAX);
        let (offset, delivered) = match offset.as_deref().map(EmitCount::split_off) {
            Some((own, delivered)) => (Some(own.to_owned()), delivered),
            None => (None, None),
        };
        Some(Self { id: SessionId::parse(&pid)?, offset, delivered })
    }
}

/// Longest offset that is looked at; ours are shorter.
const OFFSET_BYTES_MAX: usize = 64;

/// A client on its way into a namespace.
#[derive(Debug)]
pub(crate) struct Entering {
    pub(crate) connection: ConnectionKey,
    pub(crate) namespace: NamespaceKey,
    /// What the client said, as far as its business service is told: JSON text of an object, or empty.
    pub(super) auth: Bytes,
    pub(in crate::shard) wanted: Option<Wanted>,
    /// What its socket will share with its user's and its tenant's others.
    pub(super) shares: Option<Box<Shares>>,
    pub(in crate::shard) span: Option<Box<Span>>,
}

impl Shard {
    /// What a client's `auth` says, for the edge and for the business service.
    pub(super) fn entering(
        &self,
        (connection, namespace): (ConnectionKey, NamespaceKey),
        auth: Option<&str>,
        span: Option<Box<Span>>,
    ) -> Entering {
        let recovers = self.recovers(namespace);
        let entry = self.connections.get(connection.index as usize);
        let may_recover =
            recovers && entry.is_some_and(|entry| matches!(entry.wire, Wire::SocketIo(_)));
        let wanted = auth.filter(|_| may_recover).and_then(Wanted::parse);
        let secrets: &[&str] = match (self.authentication_of(namespace), recovers) {
            (Authentication::Token, true) => &["token", "pid", "offset"],
            (Authentication::Token, false) => &["token"],
            (Authentication::None, true) => &["pid", "offset"],
            (Authentication::None, false) => &[],
        };
        let auth = match auth {
            Some(auth) if secrets.is_empty() => Bytes::copy_from_slice(auth.as_bytes()),
            Some(auth) => without(secrets, auth),
            None => Bytes::new(),
        };
        Entering { connection, namespace, auth, wanted, shares: None, span }
    }
}
