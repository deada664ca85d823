//! Carries out what a business service says.

use std::collections::HashSet;

use foldhash::fast::FixedState;
use proto::edge::v1::{BackendFrame, Emit, Instruction, Join, Leave, instruction::Kind};
use smallvec::SmallVec;

use super::{LinkKey, Shard, SocketKey};
use crate::{
    backend_link::{SequenceError, payload_bytes},
    close_reason::CloseReason,
};

impl Shard {
    /// Carries out what has come at once. What several instructions send to the same clients is written together, behind the
    /// last of them; returns whether that was most of it.
    pub(crate) fn apply(
        &mut self,
        link: LinkKey,
        frames: Vec<BackendFrame>,
    ) -> Result<bool, SequenceError> {
        let mut instructions = Vec::new();
        let mut acks = SmallVec::<[u64; 8]>::new();
        let mut sequence = Ok(());
        for frame in frames {
            match self.accept_frame(link, &frame) {
                Ok(is_new) => {
                    acks.push(frame.ack);
                    if is_new && instructions.is_empty() {
                        instructions = frame.instructions;
                    } else if is_new {
                        instructions.extend(frame.instructions);
                    }
                }
                Err(error) => {
                    sequence = Err(error);
                    break;
                }
            }
        }
        let is_shared = self.carry_out_all(link, &instructions);
        if let Some(link) = self.links.get_mut(link.0) {
            acks.into_iter().try_for_each(|ack| link.handle_ack(ack))?;
        }
        sequence?;
        self.go_on_with_claims(link);
        self.resume_waiting(link);
        Ok(is_shared)
    }

    /// Whether the instructions of a frame are to be carried out.
    fn accept_frame(&mut self, link: LinkKey, frame: &BackendFrame) -> Result<bool, SequenceError> {
        match self.links.get_mut(link.0) {
            Some(link) if frame.seq > 0 => link.accept_frame(frame.seq, payload_bytes(frame)),
            _ => Ok(true),
        }
    }

    /// Returns whether half of the emits, at least, were to a room that another one was for too.
    fn carry_out_all(&mut self, link: LinkKey, instructions: &[Instruction]) -> bool {
        let mut rest = instructions;
        let repeats = repeats(instructions);
        let repeated = repeats.iter().filter(|is_followed| **is_followed).count();
        let mut repeats = repeats.into_iter();
        while let Some(next) = rest.first() {
            let is_followed = repeats.next().unwrap_or(false);
            let mut count = if is_followed { self.emit_burst(link, rest) } else { 0 };
            if count == 0 {
                self.common.gathering.set(is_followed);
                self.carry_out(link, next);
                count = 1;
            }
            repeats.by_ref().take(count - 1).for_each(drop);
            rest = rest.get(count..).unwrap_or_default();
        }
        self.common.gathering.finish();
        let is_emit = |one: &&Instruction| matches!(one.kind, Some(Kind::Emit(_)));
        repeated > 0 && instructions.iter().filter(is_emit).count() <= 2 * repeated
    }

    pub(super) fn carry_out(&mut self, link: LinkKey, instruction: &Instruction) {
        match &instruction.kind {
            Some(Kind::Accept(accept)) => self.accepted(accept.socket),
            Some(Kind::Recall(recall)) => self.recalled(recall.socket, &recall.socket_id),
            Some(Kind::Refuse(refuse)) => {
                self.refused(refuse.socket, &refuse.message, &refuse.data);
            }
            Some(Kind::Join(join)) => self.join(join),
            Some(Kind::Leave(leave)) => self.leave(leave),
            Some(Kind::Emit(emit)) => {
                self.note_position(link, emit);
                self.emit(link, &instruction.traceparent, emit);
            }
            Some(Kind::Refill(refill)) => self.refill(refill),
            Some(Kind::Acknowledge(ack)) => self.acknowledge(ack),
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
                for handle in &close.sockets {
                    let socket = self.socket_by_handle(*handle);
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

    /// Counts an emit with a position.
    pub(super) fn note_position(&mut self, link: LinkKey, emit: &Emit) {
        if let Some(link) = self.links.get_mut(link.0).filter(|_| !emit.position.is_empty()) {
            link.note_logged();
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

    fn leave(&mut self, leave: &Leave) {
        for handle in &leave.sockets {
            self.forget_claimed_membership(*handle, &leave.room);
        }
        for socket in self.live_sockets(&leave.sockets) {
            let namespace = self.sockets.get(socket.index()).map(|socket| socket.namespace);
            if let Some(namespace) = namespace {
                self.rooms.leave(namespace, socket, &leave.room);
                self.note_no_lag(socket);
                self.note_leave(socket, &leave.room);
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

/// Which of these instructions are emits to a room that a later one of them is for too.
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
            let part = (&*audience.namespace, &*audience.tenant);
            *repeat = key.is_some_and(|room| !later.insert((part, room)));
        }
    }
    repeats
}

/// Longest room name of the contract.
const ROOM_BYTES_MAX: usize = 512;
