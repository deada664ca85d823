//! Clients whose socket no edge has any more: the business service may know it.

use proto::edge::v1::{Recoverability, Reentry, SocketOpened};

use super::{Recovery, Shard, Wanted, claims::Found};
use crate::{
    backend_link::EmitCount,
    session_id::SessionId,
    shard::NamespaceKey,
    socket::{Comeback, Stage},
};

impl Wanted {
    /// What a business service can tell from it, which may know the socket when no edge has it.
    fn reentry(&self) -> Option<Reentry> {
        let has_seen_nothing = self.offset.is_none();
        let delivered = self.delivered.or_else(|| has_seen_nothing.then(EmitCount::default))?;
        let EmitCount { memory, count: delivered } = delivered;
        Some(Reentry { key: self.id.hashed(), memory, delivered })
    }
}

impl Recovery {
    /// What a business service is to know of a socket that is called so.
    fn recoverability(&self, namespace: NamespaceKey, id: SessionId) -> Option<Recoverability> {
        let window = self.log(namespace)?.window;
        let window_ms = window.as_millis().try_into().unwrap_or(u64::MAX);
        Some(Recoverability { key: id.hashed(), window_ms })
    }
}

impl Shard {
    /// Says what it takes to bring a socket back on another edge, and what its client had on one that is lost.
    pub(in crate::shard) fn add_comeback(
        &self,
        namespace: NamespaceKey,
        (found, comeback): (Option<&Found>, Option<&Comeback>),
        opened: &mut SocketOpened,
    ) {
        let id = found.map(Found::id).or(comeback.map(|comeback| comeback.id));
        self.add_recoverability(namespace, id, opened);
        let wanted = comeback.and_then(|comeback| comeback.wanted.as_ref());
        if opened.recoverability.is_some() {
            opened.reentry = wanted.and_then(Wanted::reentry);
        }
    }

    pub(in crate::shard) fn add_recoverability(
        &self,
        namespace: NamespaceKey,
        id: Option<SessionId>,
        opened: &mut SocketOpened,
    ) {
        let link = self.namespaces.get(namespace.index()).map(|one| one.link);
        let remembers = link.and_then(|link| self.links.get(link.0)?.delivered()).is_some();
        opened.recoverability =
            id.filter(|_| remembers).and_then(|id| self.recovery.recoverability(namespace, id));
    }

    /// The business service lets a socket in as the one that its client has asked for.
    pub(in crate::shard) fn recalled(&mut self, handle: u64, public_id: &str) {
        let key = self.socket_by_handle(handle);
        let socket = key.and_then(|key| self.sockets.get_mut(key.index()));
        if let Some(socket) = socket
            && let Stage::Opening { comeback: Some(comeback), .. } = &mut socket.stage
            && let Some(wanted) = comeback.wanted.take()
        {
            comeback.id = wanted.id;
            socket.public_id = public_id.into();
            self.common.metrics.recovered("recalled");
            self.accepted(handle);
        }
    }
}
