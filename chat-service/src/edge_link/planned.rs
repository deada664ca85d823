//! A command on its way from a link to a worker.

use std::sync::Arc;

use super::{links::LinkSettings, outbox::Ticket};
use crate::{
    client_view::LISTED_USERS_BYTES_MAX,
    request::Action,
    retained::ROOM_BYTES_MAX,
    socket::Socket,
    worker::{Command, Delivered, PAGE_BYTES_MAX, Refill},
    workers::{WorkerIndex, Workers},
};

/// Most bytes of a small answer, and of what a message grows by on its way out.
const SMALL_ANSWER_BYTES: usize = 1024;

#[derive(Debug)]
pub(super) struct Planned {
    pub(super) worker: WorkerIndex,
    pub(super) command: Command,
}

impl Planned {
    /// Has a socket given what it missed in a room after a position, in about so many bytes.
    pub(super) fn refill(
        socket: &Arc<Socket>,
        ticket: Ticket,
        (room, after, bytes_max): (String, String, u32),
        workers: &Workers,
    ) -> Option<Self> {
        let Some(room) = socket.room_for_edges(&room) else {
            tracing::error!("edge asks for what was missed in what is no room of the socket's");
            return None;
        };
        let worker = workers.of(&room);
        let refill = Refill { ticket, socket: Arc::clone(socket), room, after, bytes_max };
        Some(Self { worker, command: Command::Refill(Box::new(refill)) })
    }

    /// Takes a socket out of a room that it had left on another link.
    pub(super) fn give_up(
        workers: &Workers,
        ticket: &Ticket,
        socket: &Arc<Socket>,
        room: &str,
    ) -> Option<Self> {
        let Some(room) = socket.room_for_edges(room) else {
            tracing::error!("edge takes a socket out of what is no room of the socket's");
            return None;
        };
        let worker = workers.of(&room);
        ticket.outbox().leave(socket.key.handle, &room);
        let command = Command::SocketLeft(ticket.another(), Arc::clone(socket), room);
        Some(Self { worker, command })
    }

    /// Notes that the users of some sockets of one namespace have got what they were given in a room, if anybody wants to
    /// know.
    pub(super) fn delivered<'a>(
        sockets: impl Iterator<Item = &'a Socket> + Clone,
        ticket: Ticket,
        (room, position): (&str, String),
        settings: &LinkSettings,
    ) -> Option<Self> {
        // They may all be gone.
        let first = sockets.clone().next()?;
        settings.namespaces.followed_users_max(&first.namespace)?;
        let Some(room) = first.room_for_edges(room) else {
            tracing::error!("edge reports what was delivered in what is no room of the sockets'");
            return None;
        };
        let worker = settings.workers.of(&room);
        let sockets = sockets.filter(|socket| room.is_in(socket.realm()));
        let users = sockets.map(|socket| Arc::clone(&socket.user)).collect();
        let delivered = Delivered { ticket, room, position, users };
        Some(Self { worker, command: Command::Delivered(Box::new(delivered)) })
    }

    /// Keeps room in the outbox for what will come of it, as far as one can know. Done when the command is sent, not
    /// before: the room is to be taken by what is being worked on.
    pub(super) fn reserve(&mut self) {
        match &mut self.command {
            Command::Client(event, request) => {
                let profile = event.socket.user.profile().get().len();
                let answer = match &request.action {
                    Action::Presence => LISTED_USERS_BYTES_MAX,
                    Action::Join { since } => {
                        let missed = if since.is_some() { PAGE_BYTES_MAX } else { 0 };
                        let events = event.socket.events.as_ref();
                        let has_latest = events.is_some_and(|events| events.retain_any());
                        let latest = if has_latest { ROOM_BYTES_MAX } else { 0 };
                        LISTED_USERS_BYTES_MAX + latest + missed
                    }
                    Action::History { .. } => PAGE_BYTES_MAX,
                    Action::Message { text, .. } => text.get().len(),
                    Action::Declared { data, .. } => data.fields.len(),
                    Action::Leave | Action::Typing { .. } => 0,
                };
                event.ticket.expect(answer + profile + SMALL_ANSWER_BYTES);
            }
            Command::CatchUp(catch_up) => catch_up.ticket.expect(PAGE_BYTES_MAX),
            Command::Refill(refill) => {
                let bytes = refill.bytes_max();
                refill.ticket.expect(bytes + SMALL_ANSWER_BYTES);
            }
            Command::SocketClosed(ticket, ..)
            | Command::SocketSuspended(ticket, _)
            | Command::SocketResumed(ticket, _)
            | Command::SocketRefreshed(ticket, _)
            | Command::SocketNarrowed(ticket, ..)
            | Command::SocketMoved(ticket, ..)
            | Command::SocketLeft(ticket, ..) => ticket.expect(SMALL_ANSWER_BYTES),
            Command::Restore(_)
            | Command::Delivered(_)
            | Command::LinkGone(_)
            | Command::Query(_) => {}
        }
    }

    /// Whether it concerns the life of a link only as long as it lasts.
    pub(super) fn ends_with_its_life(&self) -> bool {
        match self.command {
            Command::Client(..)
            | Command::Restore(_)
            | Command::CatchUp(_)
            | Command::Refill(_)
            | Command::Delivered(_)
            | Command::SocketClosed(..)
            | Command::SocketSuspended(..)
            | Command::SocketResumed(..)
            | Command::SocketRefreshed(..)
            | Command::SocketNarrowed(..)
            | Command::SocketMoved(..)
            | Command::SocketLeft(..) => true,
            Command::LinkGone(_) | Command::Query(_) => false,
        }
    }
}
