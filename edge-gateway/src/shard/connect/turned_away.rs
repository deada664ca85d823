//! What a client hears that is not let in because of its token.

use service_kit::{audit::Decision, trace::Span};

use super::finish;
use crate::{
    close_reason::CloseReason,
    error_answer::ErrorAnswer,
    shard::{ConnectionKey, NamespaceKey, Shard, Wire},
};

impl Shard {
    /// The token lets nobody in, now or later.
    pub(in crate::shard) fn reject(
        &mut self,
        key: ConnectionKey,
        namespace: NamespaceKey,
        span: Option<Box<Span>>,
    ) {
        finish(span, "rejected");
        self.common.metrics.connected("rejected");
        self.audit_refused_entry(key, Decision::Denied, "rejected");
        let path = self.path_of(namespace);
        match self.entry(key).map(|entry| &entry.wire) {
            Some(Wire::SocketIo(_) | Wire::SocketIo2(_)) => {
                self.forget_namespace(key, &path);
                let data = Some(&b"{\"code\":\"unauthorized\"}"[..]);
                self.send_connect_error(key, &path, "Unauthorized", data);
            }
            Some(Wire::PlainJson(_)) => {
                self.answer_auth(key, &ErrorAnswer::unauthorized());
                self.close(key, CloseReason::TokenRejected);
            }
            None => {}
        }
    }

    /// Nobody knows whether the token is good. An official client that is told `CONNECT_ERROR` gives up, so the transport
    /// is closed, which it takes as a reason to try again; unless that would hurt sockets that are in.
    pub(in crate::shard) fn cannot_verify(
        &mut self,
        key: ConnectionKey,
        namespace: NamespaceKey,
        span: Option<Box<Span>>,
    ) {
        finish(span, "unavailable");
        self.common.metrics.connected("unavailable");
        self.audit_refused_entry(key, Decision::Undecided, "unavailable");
        let path = self.path_of(namespace);
        let session = self.entry(key).and_then(|entry| entry.wire.session_mut());
        let has_sockets = session.is_some_and(|session| session.sockets().next().is_some());
        match self.entry(key).map(|entry| &entry.wire) {
            Some(Wire::SocketIo(_) | Wire::SocketIo2(_)) if has_sockets => {
                self.forget_namespace(key, &path);
                let data = Some(&b"{\"code\":\"unavailable\",\"retryable\":true}"[..]);
                self.send_connect_error(key, &path, "Unavailable", data);
            }
            Some(Wire::SocketIo(_) | Wire::SocketIo2(_)) => {
                self.close(key, CloseReason::Unavailable)
            }
            Some(Wire::PlainJson(_)) => {
                self.answer_auth(key, &ErrorAnswer::unavailable());
                self.close(key, CloseReason::Unavailable);
            }
            None => {}
        }
    }

    pub(super) fn answer_auth(&mut self, key: ConnectionKey, answer: &ErrorAnswer) {
        let id = match self.entry(key).map(|entry| &mut entry.wire) {
            Some(Wire::PlainJson(session)) => session.auth_id.take(),
            Some(Wire::SocketIo(_) | Wire::SocketIo2(_)) | None => None,
        };
        self.answer_json(key, id.as_deref(), answer);
    }
}
