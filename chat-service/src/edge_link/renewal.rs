//! Sockets whose clients have brought another token.

use std::{collections::VecDeque, sync::Arc};

use super::{
    frame::{EventKind, Renewed, Resumed},
    instructions::Instructions,
    life::Life,
    links::LinkSettings,
    outbox::Ticket,
    planned::Planned,
};
use crate::worker::Command;

impl Life {
    pub(super) fn refresh(
        &self,
        (handle, seq): (u64, u64),
        who: Renewed,
        settings: &LinkSettings,
        planned: &mut VecDeque<Planned>,
    ) {
        let mut ticket = self.outbox.ticket(seq, Instructions::default());
        self.renew((handle, &mut ticket), who, settings, planned);
    }

    /// Has sockets that are given what they missed be given no more of what they may not look back at by tokens that wait in the
    /// backlog, from a place on. It is their turn when all was given.
    pub(super) fn narrow(
        &self,
        from: usize,
        settings: &LinkSettings,
        planned: &mut VecDeque<Planned>,
    ) {
        if self.catching_up == 0 {
            return;
        }
        for (_, event) in self.backlog.iter().skip(from) {
            let (EventKind::Refreshed { who } | EventKind::Resumed(Resumed { who, .. })) =
                &event.kind
            else {
                continue;
            };
            let Some(attached) = self.sockets.get(&event.socket) else { continue };
            // What cannot be read ends the connection in its turn.
            let shared = settings.capabilities.share(who.capabilities.clone());
            let Ok(capabilities) = shared else { continue };
            for worker in attached.workers.iter() {
                let socket = Arc::clone(&attached.socket);
                let ticket = self.outbox.extra_ticket();
                let command = Command::SocketNarrowed(ticket, socket, Arc::clone(&capabilities));
                planned.push_back(Planned { worker, command });
            }
        }
    }

    /// A socket's user may do what its new token says, and no longer what the last one said. Events that came before are with the
    /// workers already, so each worker learns of it behind them.
    pub(super) fn renew(
        &self,
        (handle, ticket): (u64, &mut Ticket),
        who: Renewed,
        settings: &LinkSettings,
        planned: &mut VecDeque<Planned>,
    ) {
        // One that is gone is owed nothing.
        let Some(attached) = self.sockets.get(&handle) else { return };
        let socket = &attached.socket;
        let Renewed { tenant, subject, issuer, capabilities } = who;
        let user = &socket.user;
        if (&*tenant, &*subject, &*issuer) != (user.tenant(), user.subject(), user.issuer()) {
            tracing::error!("edge has a socket change hands");
            return ticket.instructions.close(handle);
        }
        let capabilities = match settings.capabilities.share(capabilities) {
            Ok(capabilities) => capabilities,
            Err(error) => {
                tracing::error!(%error, "edge has a socket with an unusable identity");
                return ticket.instructions.close(handle);
            }
        };
        if socket.set_capabilities(capabilities) {
            for worker in attached.workers.iter() {
                let command = Command::SocketRefreshed(ticket.another(), Arc::clone(socket));
                planned.push_back(Planned { worker, command });
            }
        }
    }
}
