//! What a client shares with the others of its user and tenant as it enters a namespace.

use service_kit::audit::Decision;

use super::{Entering, finish};
use crate::{
    close_reason::CloseReason,
    error_answer::ErrorAnswer,
    quota::{Party, TooManySockets},
    shard::{ConnectionKey, Found, NamespaceKey, Shard, Wire},
    socket::Identity,
};

impl Shard {
    /// Asks the namespace's business service to let the client in, if its user and its tenant may have one more socket.
    pub(in crate::shard) fn open(
        &mut self,
        mut entering: Entering,
        identity: Option<Identity>,
        found: Option<Box<Found>>,
    ) {
        if let Some(identity) = &identity {
            let limits = &self.limits.identities;
            match limits.enter(identity, found.is_some(), std::time::Instant::now()) {
                Ok(shares) => entering.shares = shares,
                Err(TooManySockets(party)) => return self.too_many_sockets(entering, party),
            }
        }
        self.give_up_surplus();
        self.open_within_limits(entering, identity, found);
    }

    fn too_many_sockets(&mut self, entering: Entering, party: Party) {
        let Entering { connection: key, namespace, span, .. } = entering;
        finish(span, "rate_limited");
        self.common.metrics.connected("rate_limited");
        self.common.metrics.limit_hits.sockets(party).increment(1);
        self.audit_refused_entry(key, Decision::Denied, "rate_limited");
        self.tell_too_many_sockets(key, namespace);
    }

    fn tell_too_many_sockets(&mut self, key: ConnectionKey, namespace: NamespaceKey) {
        let path = self.path_of(namespace);
        match self.entry(key).map(|entry| &entry.wire) {
            Some(Wire::SocketIo(_) | Wire::SocketIo2(_)) => {
                self.forget_namespace(key, &path);
                let data = ErrorAnswer::too_many_sockets().connect_error_data();
                self.send_connect_error(key, &path, "Too many sockets", Some(data.as_bytes()));
            }
            Some(Wire::PlainJson(_)) => {
                self.answer_auth(key, &ErrorAnswer::too_many_sockets());
                self.close(key, CloseReason::RateLimited);
            }
            None => {}
        }
    }
}
