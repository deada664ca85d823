//! Ends the sockets whose tokens were taken back.

use proto::auth::v1::WatchRevocationsResponse;

use super::{Namespace, Shard, connect::Entering};
use crate::{
    close_reason::CloseReason,
    namespaces::Authentication,
    revocations::Standing,
    socket::{Identity, Stage},
};

impl Shard {
    /// Whether there is a namespace that needs a token.
    pub(crate) fn verifies_tokens(&self) -> bool {
        let needs_one = |one: &Namespace| one.settings.authentication == Authentication::Token;
        self.namespaces.iter().any(needs_one)
    }

    /// Ends what runs on tokens that were taken back, with all else on the same connections.
    pub(crate) fn revoked(&mut self, answer: WatchRevocationsResponse) {
        let batch = self.revocations.tell(answer);
        if batch.is_empty() {
            return;
        }
        let concerned = self.sockets.iter().filter(|(_, socket)| {
            socket.identity.as_deref().is_some_and(|identity| batch.concerns(identity))
        });
        let concerned: Vec<u64> = concerned.map(|(_, socket)| socket.handle).collect();
        for handle in concerned {
            // The end of one socket may have been the end of another.
            let Some(key) = self.socket_by_handle(handle) else { continue };
            let Some(socket) = self.sockets.get(key.index()) else { continue };
            match socket.stage {
                // Its client has it elsewhere, where the token that it came with counts.
                Stage::Suspended { .. } if self.is_settling(handle) => {}
                Stage::Suspended { .. } => {
                    self.remove_socket(key, CloseReason::TokenRevoked.label());
                }
                Stage::Opening { .. } | Stage::Arriving { .. } | Stage::Live => {
                    self.close(socket.connection, CloseReason::TokenRevoked);
                }
            }
        }
    }

    /// Turns away a client whose token was taken back since it was verified.
    pub(super) fn unless_revoked(
        &mut self,
        entering: Entering,
        identity: Option<Identity>,
    ) -> Option<(Entering, Option<Identity>)> {
        let standing = identity.as_ref().map(|identity| self.revocations.standing(identity));
        let Entering { connection, namespace, .. } = entering;
        match standing {
            None | Some(Standing::Good) => {
                self.audit_entry(connection, identity.as_ref());
                return Some((entering, identity));
            }
            Some(Standing::Revoked) => self.reject(connection, namespace, entering.span),
            Some(Standing::Unknown) => self.cannot_verify(connection, namespace, entering.span),
        }
        None
    }
}
