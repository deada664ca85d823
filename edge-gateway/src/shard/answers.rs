//! Answers to clients, in the form of what each of them speaks.

use bytes::Bytes;
use edge_protocol::{plain_json, socket_io};
use proto::edge::v1::Acknowledge;

use super::{ConnectionKey, Shard, Wire};
use crate::{error_answer::ErrorAnswer, socket::Stage};

impl Shard {
    /// Gives a client the answer to its event, if it still waits for one.
    pub(crate) fn acknowledge(&mut self, answer: &Acknowledge) {
        let Acknowledge { socket: handle, ack_id, args, attachments } = answer;
        let Some(ack) = self.client_acks.take((*handle, *ack_id)) else { return };
        self.common.metrics.link_seconds.record(ack.asked_at.elapsed());
        let Some((connection, namespace)) = self.live_socket(*handle) else { return };
        let Some(path) = self.namespaces.get(namespace).map(|one| &one.settings.path) else {
            return;
        };
        let encode = |args: &[u8], attachments: &[Bytes]| match &ack.json_id {
            Some(id) => plain_json::encode_answer_frames(id, args, attachments),
            None => socket_io::encode_ack_frames(path, *ack_id, args, attachments),
        };
        let frames = encode(args, attachments).or_else(|_| {
            self.common.metrics.drops.bad_instruction.increment(1);
            // An answer that cannot be passed on is none, but the client waits for one.
            encode(ErrorAnswer::unavailable().ack_args().as_bytes(), &[])
        });
        match frames {
            Ok(frames) if attachments.is_empty() => self.send(connection, frames),
            Ok(frames) => self.send_with_bytes(connection, frames),
            Err(_) => {}
        }
    }

    /// Tells a client of an error: as the answer to its event, or as an `exception` where it asked for none.
    pub(crate) fn answer_socket(&mut self, handle: u64, ack_id: Option<u64>, answer: &ErrorAnswer) {
        if let Some(ack_id) = ack_id {
            if self.client_acks.is_waiting((handle, ack_id)) {
                return self.acknowledge(&Acknowledge {
                    socket: handle,
                    ack_id,
                    args: answer.ack_args().into(),
                    attachments: Vec::new(),
                });
            }
            // Refused before anything waited for it.
            let Some((connection, namespace)) = self.live_socket(handle) else { return };
            let Some(path) = self.namespaces.get(namespace).map(|one| &one.settings.path) else {
                return;
            };
            if let Ok(frame) =
                socket_io::encode_ack_frame(path, ack_id, answer.ack_args().as_bytes())
            {
                self.send(connection, frame);
            }
            return;
        }
        self.tell_socket(handle, "exception", answer.exception_args().as_bytes());
    }

    /// Sends a client an event of the edge's own.
    pub(super) fn tell_socket(&mut self, handle: u64, event: &str, args: &[u8]) {
        let Some((connection, namespace)) = self.live_socket(handle) else { return };
        match self.entry(connection).map(|entry| &entry.wire) {
            Some(Wire::PlainJson(_)) => self.send_json_event(connection, event, args),
            Some(Wire::SocketIo(_) | Wire::SocketIo2(_)) => {
                let Some(path) = self.namespaces.get(namespace).map(|one| &one.settings.path)
                else {
                    return;
                };
                if let Ok(frame) = socket_io::encode_event_frame(path, event, args, None) {
                    self.send(connection, frame);
                }
            }
            None => {}
        }
    }

    /// Tells a plain JSON client of an error: as the answer to its request, or as an `exception` where it has no id.
    pub(crate) fn answer_json(
        &mut self,
        key: ConnectionKey,
        id: Option<&[u8]>,
        answer: &ErrorAnswer,
    ) {
        match id {
            Some(id) => self.send_json_answer(key, id, answer.ack_args().as_bytes(), &[]),
            None => self.send_json_event(key, "exception", answer.exception_args().as_bytes()),
        }
    }

    pub(crate) fn send_json_answer(
        &mut self,
        key: ConnectionKey,
        id: &[u8],
        args: &[u8],
        attachments: &[Bytes],
    ) {
        match plain_json::encode_answer_frames(id, args, attachments) {
            Ok(frames) => self.send(key, frames),
            Err(_) => self.common.metrics.drops.bad_instruction.increment(1),
        }
    }

    pub(crate) fn send_json_event(&mut self, key: ConnectionKey, event: &str, args: &[u8]) {
        match plain_json::encode_event_frames(event, args, None, &[]) {
            Ok(frame) => self.send(key, frame),
            Err(_) => self.common.metrics.drops.bad_instruction.increment(1),
        }
    }

    fn live_socket(&self, handle: u64) -> Option<(ConnectionKey, usize)> {
        let socket = self.sockets.get(self.socket_by_handle(handle)?.index())?;
        matches!(socket.stage, Stage::Live).then_some((socket.connection, socket.namespace.index()))
    }
}
