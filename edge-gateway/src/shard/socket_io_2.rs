//! Clients of Socket.IO 2 over Engine.IO 3: what they send and get in another form than those of today.

use std::time::Instant;

use bytes::Bytes;
use edge_protocol::{
    engine_io::v3::{PONG_TEXT_FRAME, ReceiveError, Received},
    socket_io::{Packet, Session, encode_connect_error_frame, v2},
};

use super::{ConnectionKey, Flow, Shard, SocketKey, Wire};
use crate::{
    application::Application,
    close_reason::CloseReason,
    namespaces::Authentication,
    older_handshake::{self, OlderHandshake},
};

/// The namespace that such a client is taken into without asking.
const MAIN_NAMESPACE: &str = "/";

/// A connection of such a client.
#[derive(Debug)]
pub(crate) struct OlderClient {
    pub(crate) session: Session<SocketKey>,
    pub(crate) handshake: OlderHandshake,
}

impl OlderClient {
    pub(crate) fn new(handshake: OlderHandshake) -> Self {
        Self { session: Session::new(), handshake }
    }
}

impl Shard {
    /// Takes a client that has just opened its session into the main namespace. Where that has no route, nothing is said:
    /// the client would take a refusal for one of the namespace that it is about to enter.
    pub(crate) fn enter_main_namespace(&mut self, key: ConnectionKey) -> Flow {
        let is_older = matches!(self.entry(key).map(|entry| &entry.wire), Some(Wire::SocketIo2(_)));
        if !is_older || self.namespace(MAIN_NAMESPACE).is_none() {
            return self.flow(key);
        }
        let connect = v2::Connect { namespace: MAIN_NAMESPACE, query: "" };
        self.enter_older(key, connect, Instant::now())
    }

    /// Has a client enter a namespace with the token of its query, or else with that of its handshake.
    fn enter_older(&mut self, key: ConnectionKey, connect: v2::Connect<'_>, now: Instant) -> Flow {
        let v2::Connect { namespace, query } = connect;
        let wants_token = self
            .namespace(namespace)
            .is_some_and(|namespace| self.authentication_of(namespace) == Authentication::Token);
        let token = match self.entry(key).map(|entry| &entry.wire) {
            Some(Wire::SocketIo2(client)) if wants_token => client.handshake.token.as_deref(),
            Some(_) | None => None,
        };
        let auth = older_handshake::auth(query, token);
        self.handle_packet(key, Packet::Connect { namespace, auth: auth.as_deref() }, now)
    }

    /// Whether this client speaks Engine.IO 3.
    pub(crate) fn is_older(&self, key: ConnectionKey) -> bool {
        self.entry_of(key).is_some_and(|entry| matches!(entry.wire, Wire::SocketIo2(_)))
    }

    /// Handles a packet of Engine.IO 3, from whichever transport.
    pub(crate) fn receive_engine_io_3(
        &mut self,
        key: ConnectionKey,
        received: Result<Received<'_>, ReceiveError>,
        now: Instant,
    ) -> Flow {
        match received {
            Ok(Received::Message(text)) => self.receive_socket_io_2(key, text, now),
            Ok(Received::Binary(bytes)) => {
                self.receive_bytes(key, Bytes::copy_from_slice(bytes), now)
            }
            Ok(Received::Base64(base64)) => match base64.decode(self.payload_bytes_max(key)) {
                Ok(bytes) => self.receive_bytes(key, bytes, now),
                Err(_) => self.closed(key, CloseReason::MalformedPacket),
            },
            Ok(Received::Ping) => {
                self.ping_received(key, now);
                self.send_control(key, &PONG_TEXT_FRAME);
                self.flow(key)
            }
            Ok(Received::Ignored) => Flow::Continue,
            Ok(Received::Closed) => self.closed(key, CloseReason::ClosedByClient),
            Err(_) => self.closed_untold(key),
        }
    }

    fn receive_socket_io_2(&mut self, key: ConnectionKey, text: &str, now: Instant) -> Flow {
        if self.application == Application::Echo {
            return self.echo_packet(key, text);
        }
        let is_idle = self.entry(key).is_some_and(|entry| entry.assembler.is_idle());
        match v2::Connect::decode(text).filter(|_| is_idle) {
            Some(connect) => self.enter_older(key, connect, now),
            None => self.receive_socket_io(key, text, now),
        }
    }

    /// Sends frames with bytes among them, in the form in which this client takes those.
    pub(super) fn send_with_bytes(&mut self, key: ConnectionKey, frames: Vec<u8>) {
        match self.entry(key).map(|entry| &entry.wire) {
            Some(Wire::SocketIo2(client)) => match client.handshake.binary_form.rewrite(&frames) {
                Ok(frames) => self.send(key, frames),
                Err(_) => self.common.metrics.drops.bad_instruction.increment(1),
            },
            Some(Wire::SocketIo(_) | Wire::PlainJson(_)) => self.send(key, frames),
            None => {}
        }
    }

    /// Tells a client that it is not let into a namespace.
    pub(super) fn send_connect_error(
        &mut self,
        key: ConnectionKey,
        path: &str,
        message: &str,
        data: Option<&[u8]>,
    ) {
        let frame = match self.entry(key).map(|entry| &entry.wire) {
            Some(Wire::SocketIo2(_)) => v2::encode_connect_error_frame(path, message, data),
            Some(Wire::SocketIo(_) | Wire::PlainJson(_)) | None => {
                encode_connect_error_frame(path, message, data)
            }
        };
        self.send(key, frame);
    }
}
