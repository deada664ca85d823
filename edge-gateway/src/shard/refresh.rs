//! Tokens that are about to expire, and the new ones that clients send in time.

use std::{
    rc::Rc,
    time::{Duration, Instant},
};

use proto::edge::v1::Acknowledge;
use service_kit::audit::Decision;

use super::{ConnectionKey, Flow, Shard, SocketKey, connect::Auth, inbound::Event};
use crate::{
    auth::VerifyTokenError, error_answer::ErrorAnswer, namespaces::Authentication,
    revocations::Standing, socket::Identity,
};

/// What a client sends a new token with, in a namespace that needs one.
const REFRESH: &str = "auth:refresh";

/// What a client is told before its token expires.
const EXPIRING: &str = "auth:expiring";

/// When a client may send another token while its last one is being verified.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// A socket that has sent a new token, on its way to the auth service.
#[derive(Debug, Clone, Copy)]
pub(super) struct Refresh {
    /// The socket's handle.
    pub(super) socket: u64,
    pub(super) ack_id: Option<u64>,
}

impl Shard {
    /// Whether an event is for the edge: a new token, where tokens count.
    pub(super) fn is_refresh(&self, event: &Event<'_>) -> bool {
        event.name == REFRESH
            && self.sockets.get(event.socket.index()).is_some_and(|socket| {
                self.authentication_of(socket.namespace) == Authentication::Token
            })
    }

    /// Has a new token verified. One at a time for each socket: the auth service is not there for a client's pleasure.
    pub(super) fn refresh_requested(&mut self, key: ConnectionKey, event: &Event<'_>) -> Flow {
        let Some(socket) = self.sockets.get(event.socket.index()) else { return Flow::Continue };
        let refresh = Refresh { socket: socket.handle, ack_id: event.ack_id };
        let Some(token) = Auth::token(event.args) else {
            return self.refuse(key, event, &ErrorAnswer::unauthorized());
        };
        if !self.verifications.may_refresh(refresh) {
            return self.refuse(key, event, &ErrorAnswer::rate_limited(RETRY_AFTER));
        }
        self.wait_for_answer(refresh.socket, event, Instant::now());
        self.verifications.refresh(refresh, token);
        Flow::Continue
    }

    /// Goes on with a new token: the socket stays, and ends when that does. A token of anybody else changes nothing.
    pub(super) fn refreshed(
        &mut self,
        Refresh { socket: handle, ack_id }: Refresh,
        outcome: Result<Identity, VerifyTokenError>,
    ) {
        let Some(key) = self.socket_by_handle(handle) else { return };
        let Some(socket) = self.sockets.get(key.index()) else { return };
        let connection = socket.connection;
        let owner = socket.identity.as_deref().map(Identity::owner);
        let is_same = |identity: &Identity| owner == Some(identity.owner());
        let identity = match outcome {
            Ok(identity) if is_same(&identity) => match self.revocations.standing(&identity) {
                Standing::Good => Ok(identity),
                Standing::Revoked => Err((ErrorAnswer::unauthorized(), Decision::Denied)),
                Standing::Unknown => Err((ErrorAnswer::unavailable(), Decision::Undecided)),
            },
            Ok(_) | Err(VerifyTokenError::Rejected) => {
                Err((ErrorAnswer::unauthorized(), Decision::Denied))
            }
            Err(VerifyTokenError::Unavailable) => {
                Err((ErrorAnswer::unavailable(), Decision::Undecided))
            }
        };
        match identity {
            Ok(identity) => {
                self.audit_refresh(connection, Decision::Allowed, Some(&identity));
                let args = expires_at(&identity);
                self.identify_anew(key, identity);
                self.expire_anew(connection);
                if let Some(ack_id) = ack_id {
                    let (args, attachments) = (args.into(), Vec::new());
                    self.acknowledge(&Acknowledge { socket: handle, ack_id, args, attachments });
                }
            }
            Err((answer, decision)) => {
                let owner = self.identity_of(key);
                self.audit_refresh(connection, decision, owner.as_deref());
                self.answer_socket(handle, ack_id, &answer);
            }
        }
    }

    /// What the socket's user may do is what the new token says, as of the next event.
    fn identify_anew(&mut self, key: SocketKey, identity: Identity) {
        let Some(socket) = self.sockets.get_mut(key.index()) else { return };
        let (handle, namespace) = (socket.handle, socket.namespace);
        let identity = Rc::new(identity);
        socket.identity = Some(Rc::clone(&identity));
        if let Some(link) = self.link_of(namespace) {
            link.socket_refreshed(handle, &identity);
        }
    }

    /// Counts anew when a connection ends: with the first of its tokens.
    fn expire_anew(&mut self, connection: ConnectionKey) {
        let Some(entry) = self.entry(connection) else { return };
        entry.expires_at = None;
        for socket in entry.wire.sockets() {
            if let Some(identity) = self.identity_of(socket) {
                self.expire_with(connection, &identity);
            }
        }
    }

    /// Tells the sockets of a connection whose tokens are about to expire: the first, and those that follow as soon.
    pub(super) fn warn_of_expiry(&mut self, connection: ConnectionKey) {
        let warning = self.limits.expiry_warning.as_millis().try_into().unwrap_or(u64::MAX);
        let Some(entry) = self.entry(connection) else { return };
        entry.is_warned = true;
        let sockets = entry.wire.sockets();
        let ends = |socket| self.identity_of(socket).map(|identity| identity.expires_at_unix_ms);
        let Some(first) = sockets.iter().copied().filter_map(ends).min() else { return };
        for socket in sockets {
            let handle = self.sockets.get(socket.index()).map(|socket| socket.handle);
            if let Some((identity, handle)) = self.identity_of(socket).zip(handle)
                && identity.expires_at_unix_ms <= first.saturating_add(warning)
            {
                self.tell_socket(handle, EXPIRING, expires_at(&identity).as_bytes());
            }
        }
    }

    /// The identities of a connection's sockets.
    pub(crate) fn identities_of(
        &self,
        connection: ConnectionKey,
    ) -> impl Iterator<Item = Rc<Identity>> {
        let sockets = self.entry_of(connection).map(|entry| entry.wire.sockets());
        let sockets = sockets.unwrap_or_default();
        sockets.into_iter().filter_map(|socket| self.identity_of(socket))
    }

    fn identity_of(&self, socket: SocketKey) -> Option<Rc<Identity>> {
        self.sockets.get(socket.index())?.identity.clone()
    }
}

/// The arguments that say until when a token is good.
fn expires_at(identity: &Identity) -> String {
    format!(r#"[{{"expires_at":{}}}]"#, identity.expires_at_unix_ms)
}
