//! One client in one namespace.

use std::{rc::Rc, time::Instant};

use bytes::Bytes;
use service_kit::trace::Span;

use crate::{
    capabilities::Capabilities,
    quota::Shares,
    revocations::{Point, TokenMarks},
    session_id::SessionId,
    shard::{ConnectionKey, Found, NamespaceKey, Recoverable, UserName, Wanted},
};

/// Who a socket belongs to, as the auth service said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) subject: Box<str>,
    pub(crate) issuer: Box<str>,
    /// Empty is the default tenant.
    pub(crate) tenant: Box<str>,
    /// JSON text of an object: what other users may see.
    pub(crate) profile: Bytes,
    pub(crate) expires_at_unix_ms: u64,
    /// What its user may do in rooms, for business services.
    pub(crate) capabilities: Capabilities,
    /// What a revocation may name the token by.
    pub(crate) marks: TokenMarks,
    /// The revocations that the token was held against.
    pub(crate) checked: Point,
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
    /// What it shares with its user's and its tenant's other sockets, where that is limited.
    pub(crate) shares: Option<Box<Shares>>,
    /// What it takes to come back, where the namespace lets sockets do that.
    pub(crate) recoverable: Option<Box<Recoverable>>,
    pub(crate) stage: Stage,
}

/// What its client will call a socket by, and what it wants to go on with that no edge has.
#[derive(Debug)]
pub(crate) struct Comeback {
    pub(crate) id: SessionId,
    pub(crate) wanted: Option<Wanted>,
}

/// How far a socket has come.
#[derive(Debug)]
pub(crate) enum Stage {
    /// Its business service has been asked. The span ends with the answer.
    Opening {
        span: Option<Box<Span>>,
        /// What the client said as it asked, for a business service that must be asked again: JSON text, or empty.
        auth: Bytes,
        /// What it was elsewhere, if the client has recovered its connection.
        found: Option<Box<Found>>,
        /// Where its client may come back.
        comeback: Option<Box<Comeback>>,
    },
    /// It was let in, and waits for the rest of what it missed elsewhere. Once that is here, nothing of it is there any more.
    Arriving { found: Option<Box<Found>> },
    /// It was let in.
    Live,
    /// It has lost its connection, and may come back.
    Suspended { ends_at: Instant, reason: &'static str },
}

impl Stage {
    /// Whether the socket has been let in and has not left.
    pub(crate) fn is_in(&self) -> bool {
        match self {
            Self::Opening { .. } => false,
            Self::Arriving { .. } | Self::Live | Self::Suspended { .. } => true,
        }
    }
}

impl Socket {
    /// It has lost its connection, and waits for its client.
    pub(crate) fn suspend(&mut self, ends_at: Instant, reason: &'static str) {
        self.stage = Stage::Suspended { ends_at, reason };
        if let Some(shares) = &mut self.shares {
            shares.set_waiting(true);
        }
    }

    /// Its client is there. Returns how far it had come before.
    pub(crate) fn go_on(&mut self) -> Stage {
        if let Some(shares) = &mut self.shares {
            shares.set_waiting(false);
        }
        std::mem::replace(&mut self.stage, Stage::Live)
    }
}

impl Identity {
    /// Subject, issuer and tenant: together they never change hands.
    pub(crate) fn owner(&self) -> (&str, &str, &str) {
        (&self.subject, &self.issuer, &self.tenant)
    }

    /// What its sockets are found by.
    pub(crate) fn user_name(&self) -> UserName<'_> {
        UserName { tenant: &self.tenant, subject: &self.subject }
    }

    pub(crate) fn has_expired(&self, now_unix_ms: u64) -> bool {
        self.expires_at_unix_ms <= now_unix_ms
    }
}
