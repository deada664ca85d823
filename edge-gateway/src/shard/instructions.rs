//! Carries out what a business service says.

use std::collections::HashSet;

use foldhash::fast::FixedState;
use proto::edge::v1::{BackendFrame, Emit, Instruction, Join, instruction::Kind};
use smallvec::SmallVec;

use super::{LinkKey, Shard, SocketKey};
use crate::{
    backend_link::{SequenceError, bytes_of},
    close_reason::CloseReason,
};

impl Shard {
    /// Carries out a frame as one group.
    pub(crate) fn apply(
        &mut self,
        link: LinkKey,
        frame: BackendFrame,
    ) -> Result<(), SequenceError> {
        let is_new = match self.links.get_mut(link.0) {
            Some(link) if frame.seq > 0 => link.accept_frame(frame.seq, payload_bytes(&frame))?,
            _ => true,
        };
        if is_new {
            let repeats = repeats(&frame.instructions);
            for (instruction, is_followed) in frame.instructions.into_iter().zip(repeats) {
                self.common.gathering.set(is_followed);
                self.carry_out(link, instruction);
            }
            self.common.gathering.finish();
        }
        if let Some(link) = self.links.get_mut(link.0) {
            link.handle_ack(frame.ack)?;
        }
        self.go_on_with_claims(link);
        self.resume_waiting(link);
        Ok(())
    }

    fn carry_out(&mut self, link: LinkKey, instruction: Instruction) {
        match instruction.kind {
            Some(Kind::Accept(accept)) => self.accepted(accept.socket),
            Some(Kind::Recall(recall)) => self.recalled(recall.socket, &recall.socket_id),
            Some(Kind::Refuse(refuse)) => {
                self.refused(refuse.socket, &refuse.message, &refuse.data);
            }
            Some(Kind::Join(join)) => self.join(&join),
            Some(Kind::Leave(leave)) => {
                for socket in self.live_sockets(&leave.sockets) {
                    let namespace = self.sockets.get(socket.index()).map(|socket| socket.namespace);
                    if let Some(namespace) = namespace {
                        self.rooms.leave(namespace, socket, &leave.room);
                        self.note_no_lag(socket);
                        self.note_leave(socket, &leave.room);
                    }
                }
            }
            Some(Kind::Emit(emit)) => {
                if let Some(link) = self.links.get_mut(link.0).filter(|_| !emit.position.is_empty())
                {
                    link.note_logged();
                }
                self.emit(link, &instruction.traceparent, &emit);
            }
            Some(Kind::Refill(refill)) => self.refill(&refill),
            Some(Kind::Acknowledge(ack)) => self.acknowledge(&ack),
            Some(Kind::Handled(handled)) => {
                if let Some(link) = self.links.get_mut(link.0) {
                    link.note_handled(&handled.event_id);
                }
            }
            Some(Kind::Disconnect(disconnect)) => {
                for socket in self.live_sockets(&disconnect.sockets) {
                    self.disconnected(socket, disconnect.close_connection);
                }
            }
            Some(Kind::Close(close)) => {
                // Also of sockets that were not let in: it is how a client is told to try again.
                for handle in close.sockets {
                    let socket = self.socket_by_handle(handle);
                    let socket = socket.and_then(|socket| self.sockets.get(socket.index()));
                    // A suspended socket has none.
                    if let Some(connection) = socket.map(|socket| socket.connection) {
                        self.close(connection, CloseReason::ClosedByBackend);
                    }
                }
            }
            None => self.bad_instruction("an instruction of an unknown kind"),
        }
    }

    fn join(&mut self, join: &Join) {
        if join.room.is_empty() || join.room.len() > ROOM_BYTES_MAX {
            return self.bad_instruction("join with a room name of a wrong length");
        }
        for socket in self.live_sockets(&join.sockets) {
            let namespace = self.sockets.get(socket.index()).map(|socket| socket.namespace);
            if let Some(namespace) = namespace {
                self.stand_at(namespace, socket, &join.room, &join.position);
                self.note_join(socket, &join.room);
            }
        }
    }

    /// The sockets of these handles that are still there. An instruction for one that has just gone is ordinary.
    fn live_sockets(&self, handles: &[u64]) -> Vec<SocketKey> {
        let keys = handles.iter().filter_map(|handle| self.socket_by_handle(*handle));
        let is_live =
            |key: &SocketKey| self.sockets.get(key.index()).is_some_and(|one| one.stage.is_in());
        keys.filter(is_live).collect()
    }
}

/// Which of a frame's instructions are emits to a room that a later one of the frame is for too.
fn repeats(instructions: &[Instruction]) -> SmallVec<[bool; 16]> {
    let mut repeats = SmallVec::from_elem(false, instructions.len());
    if let [] | [_] = instructions {
        return repeats;
    }
    let mut later = HashSet::with_hasher(FixedState::default());
    for (instruction, repeat) in instructions.iter().zip(&mut repeats).rev() {
        if let Some(Kind::Emit(Emit { audience: Some(audience), .. })) = &instruction.kind {
            let rooms = audience.rooms.first().map(String::as_str);
            let key = rooms.or_else(|| audience.everyone.then_some(""));
            *repeat = key.is_some_and(|room| !later.insert((&*audience.namespace, room)));
        }
    }
    repeats
}

/// What a frame's instructions carry.
fn payload_bytes(frame: &BackendFrame) -> usize {
    let instructions = frame.instructions.iter();
    let bytes = instructions.map(|instruction| match &instruction.kind {
        Some(Kind::Emit(emit)) => emit.args.len() + bytes_of(&emit.attachments),
        Some(Kind::Refill(refill)) => {
            refill.events.iter().map(|emit| emit.args.len() + bytes_of(&emit.attachments)).sum()
        }
        Some(Kind::Acknowledge(ack)) => ack.args.len() + bytes_of(&ack.attachments),
        Some(
            Kind::Accept(_)
            | Kind::Recall(_)
            | Kind::Refuse(_)
            | Kind::Join(_)
            | Kind::Leave(_)
            | Kind::Handled(_)
            | Kind::Disconnect(_)
            | Kind::Close(_),
        )
        | None => 0,
    });
    bytes.sum()
}

/// Longest room name of the contract.
const ROOM_BYTES_MAX: usize = 256;
