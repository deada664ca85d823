//! How a client enters a namespace: token, identity, the business service's answer.

mod auth;
mod shares;
mod turned_away;

use std::{
    rc::Rc,
    time::{Duration, Instant},
};

use edge_protocol::{
    plain_json::Request,
    socket_io::{self, v2},
};
use service_kit::{
    clock,
    trace::{Span, SpanKind, traceparent_of},
};

pub(super) use self::auth::Auth;
pub(crate) use self::auth::Entering;
use super::{
    ConnectionKey, Flow, Found, JsonStage, NamespaceKey, Shard, SocketKey, Wire,
    verifications::Connect,
};
use crate::{
    auth::VerifyTokenError,
    backend_link,
    close_reason::CloseReason,
    error_answer::ErrorAnswer,
    namespaces::Authentication,
    session_id::{self, SessionId},
    socket::{Comeback, Identity, Socket, Stage},
    telemetry,
};

impl Shard {
    pub(crate) fn connect_requested(
        &mut self,
        key: ConnectionKey,
        path: &str,
        auth: Option<&str>,
    ) -> Flow {
        let Some(namespace) = self.namespace(path) else {
            self.common.metrics.connected("unknown_namespace");
            self.forget_namespace(key, path);
            self.send(key, socket_io::encode_connect_error_frame(path, "Invalid namespace", None));
            return self.flow(key);
        };
        if !self.admits(key, namespace) {
            self.common.metrics.connected("origin_not_allowed");
            self.forget_namespace(key, path);
            let data = Some(&b"{\"code\":\"origin_not_allowed\"}"[..]);
            self.send_connect_error(key, path, "Forbidden", data);
            return self.flow(key);
        }
        match self.enter(key, namespace, auth.and_then(Auth::token), auth) {
            Flow::Continue => self.wait_for_room(key, namespace),
            flow @ (Flow::Pause | Flow::Closed) => flow,
        }
    }

    fn admits(&mut self, key: ConnectionKey, namespace: NamespaceKey) -> bool {
        let origin = self.entry(key).map(|entry| entry.handshake.origin).unwrap_or_default();
        self.namespaces.get(namespace.index()).is_some_and(|one| one.admits(origin))
    }

    /// Begins with a plain JSON client: with the token of its handshake, or without one where none is needed. All others
    /// are waited for.
    pub(crate) fn json_opened(&mut self, key: ConnectionKey, token: Option<String>) -> Flow {
        if token.is_none() && self.authentication_of(self.ws_namespace) == Authentication::Token {
            return Flow::Continue;
        }
        self.enter_json(key, token, None)
    }

    /// The first message of a plain JSON client must bring its token.
    pub(crate) fn json_auth_requested(
        &mut self,
        key: ConnectionKey,
        request: &Request<'_>,
    ) -> Flow {
        let auth_id = request.id.map(|id| id.as_bytes().into());
        let auth = request.data.filter(|_| request.event == "auth");
        let token = auth.and_then(Auth::token);
        if let Some(Wire::PlainJson(session)) = self.entry(key).map(|entry| &mut entry.wire) {
            session.auth_id = auth_id;
        }
        self.enter_json(key, token, auth)
    }

    /// Lets in a plain JSON client. Until it is in, it is not read.
    fn enter_json(
        &mut self,
        key: ConnectionKey,
        token: Option<String>,
        auth: Option<&str>,
    ) -> Flow {
        if let Some(Wire::PlainJson(session)) = self.entry(key).map(|entry| &mut entry.wire) {
            session.stage = JsonStage::Verifying;
        }
        if !self.admits(key, self.ws_namespace) {
            self.common.metrics.connected("origin_not_allowed");
            self.answer_auth(key, &ErrorAnswer::refused());
            return self.closed(key, CloseReason::TokenRejected);
        }
        match self.enter(key, self.ws_namespace, token, auth) {
            Flow::Continue => self.pause(key),
            flow @ (Flow::Pause | Flow::Closed) => flow,
        }
    }

    pub(super) fn authentication_of(&self, namespace: NamespaceKey) -> Authentication {
        let namespace = self.namespaces.get(namespace.index());
        namespace.map_or(Authentication::Token, |one| one.settings.authentication)
    }

    /// Finds out who the client is, unless the business service does that, and then asks the business service.
    fn enter(
        &mut self,
        key: ConnectionKey,
        namespace: NamespaceKey,
        token: Option<String>,
        auth: Option<&str>,
    ) -> Flow {
        let Some(entry) = self.entry(key) else { return Flow::Closed };
        let parent = entry.handshake.traceparent.as_deref().copied();
        let mut span = self.tracer.start(telemetry::SPAN_CONNECT, SpanKind::Server, parent);
        if let (Some(span), Some(namespace)) = (&mut span, self.namespaces.get(namespace.index())) {
            span.set("messaging.system", "sockeye");
            span.set("messaging.destination.name", namespace.settings.path.clone());
        }
        let span = span.map(Box::new);
        match (self.authentication_of(namespace), token) {
            (Authentication::Token, Some(token)) => {
                let entering = self.entering((key, namespace), auth, span);
                self.verifications.start(Connect { entering, token });
            }
            (Authentication::Token, None) => self.reject(key, namespace, span),
            (Authentication::None, _) => {
                let entering = self.entering((key, namespace), auth, span);
                self.admitted(entering, None);
            }
        }
        self.flow(key)
    }

    /// Goes on with a client of whom it is known who it is: with the socket that it had, or with a new one.
    pub(super) fn admitted(&mut self, entering: Entering, identity: Option<Identity>) {
        let waits = self.waits_for_claim(entering, identity);
        let stands = waits.and_then(|(entering, identity)| self.unless_revoked(entering, identity));
        let Some((mut entering, identity)) = stands else { return };
        let place = (entering.connection, entering.namespace);
        if let Some(wanted) = self.wanted_by_reader(place.0, entering.wanted.take()) {
            match self.recover(place, identity.as_ref(), &wanted, entering.span.take()) {
                Ok(()) => return,
                Err(span) => entering.span = span,
            }
            return self.claim_elsewhere(entering, identity, wanted);
        }
        self.open(entering, identity, None);
    }

    pub(super) fn verified(
        &mut self,
        connect: Connect,
        outcome: Result<Identity, VerifyTokenError>,
    ) {
        let is_wanted = self.verifications.finished(&connect);
        let Connect { entering, .. } = connect;
        if !is_wanted {
            return finish(entering.span, "withdrawn");
        }
        let Entering { connection, namespace, .. } = entering;
        let outcome = match outcome {
            Ok(identity) => return self.admitted(entering, Some(identity)),
            Err(error) => error,
        };
        let span = entering.span;
        match outcome {
            VerifyTokenError::Rejected => self.reject(connection, namespace, span),
            VerifyTokenError::Unavailable => self.cannot_verify(connection, namespace, span),
        }
    }

    fn open_within_limits(
        &mut self,
        entering: Entering,
        identity: Option<Identity>,
        found: Option<Box<Found>>,
    ) {
        let Entering { connection: key, namespace, auth, wanted, shares, span } = entering;
        let Some(terms) = self.namespaces.get(namespace.index()).map(|one| &one.settings) else {
            return;
        };
        let Some(entry) = self.connections.get(key.index as usize) else { return };
        if entry.serial != key.serial {
            return;
        }
        let path = terms.path.clone();
        let mut handshake = entry.handshake.for_backend(&terms.handshake, auth.clone());
        if identity.is_some() {
            // Where a Socket.IO 2 client has its token, which is for the edge and the auth service alone.
            handshake.query.retain(|field| field.name != "token");
        }
        let traceparent = traceparent_of(span.as_deref());
        let public_id: Box<str> = match &found {
            Some(found) => found.claimed.public_id.as_str().into(),
            None => session_id::random().into(),
        };
        let mut opened = backend_link::opened(&path, &public_id, identity.as_ref());
        opened.handshake = Some(handshake);
        if let Some(found) = &found {
            opened.recovered = true;
            opened.memberships = found.claimed.memberships.clone();
        }
        let may_come_back = found.is_none() && matches!(entry.wire, Wire::SocketIo(_));
        let id = self.recovery.name(namespace).filter(|_| may_come_back);
        let comeback = id.map(|id| Box::new(Comeback { id, wanted }));
        self.add_comeback(namespace, (found.as_deref(), comeback.as_deref()), &mut opened);
        let identity = identity.map(Rc::new);
        let stage = Stage::Opening { span, auth, found, comeback };

        let socket = self.insert_socket(|handle| Socket {
            connection: key,
            namespace,
            handle,
            public_id,
            identity,
            shares,
            recoverable: None,
            stage,
        });
        let is_wanted = self.entry(key).is_some_and(|entry| match &mut entry.wire {
            Wire::SocketIo(session) => session.opening(&path, socket),
            Wire::SocketIo2(client) => client.session.opening(&path, socket),
            Wire::PlainJson(session) => {
                session.stage = JsonStage::Opening(socket);
                true
            }
        });
        if !is_wanted {
            // The client has left the namespace meanwhile.
            self.drop_socket(socket);
            return;
        }
        let handle = self.sockets.get(socket.index()).map_or(0, |socket| socket.handle);
        if let Some(link) = self.link_of(namespace) {
            link.socket_opened(handle, traceparent, opened);
        }
    }

    /// The business service lets a socket in, unless it took longer for that than the token lasts.
    pub(crate) fn accepted(&mut self, handle: u64) {
        let Some(key) = self.socket_by_handle(handle) else { return };
        let Some(socket) = self.sockets.get_mut(key.index()) else { return };
        let Stage::Opening { span, found, comeback, .. } = &mut socket.stage else {
            return self.common.metrics.drops.bad_instruction.increment(1);
        };
        if socket.identity.as_ref().is_some_and(|one| one.has_expired(clock::unix_ms())) {
            let connection = socket.connection;
            return self.close(connection, CloseReason::TokenExpired);
        }
        let (span, found, id) = (span.take(), found.take(), comeback.take().map(|one| one.id));
        socket.stage = Stage::Live;
        let (connection, namespace) = (socket.connection, socket.namespace);
        let (identity, public_id) = (socket.identity.clone(), socket.public_id.clone());
        finish(span, "accepted");
        self.common.metrics.connected("accepted");
        self.rooms.enter(namespace, key, identity.as_deref().map(Identity::user_name));
        if let Some(found) = found {
            return self.begin_arrival(key, namespace, found);
        }
        self.greet((connection, namespace), (key, id), &public_id);
        if let Some(identity) = identity {
            self.expire_with(connection, &identity);
        }
    }

    /// Has a connection end when the token does that let it in.
    pub(super) fn expire_with(&mut self, connection: ConnectionKey, identity: &Identity) {
        let lifetime = identity.expires_at_unix_ms.saturating_sub(clock::unix_ms());
        // Farther ahead than a clock can tell is as good as never.
        if let Some(at) = Instant::now().checked_add(Duration::from_millis(lifetime)) {
            self.expire_at(connection, at);
        }
    }

    fn greet(
        &mut self,
        (connection, namespace): (ConnectionKey, NamespaceKey),
        (socket, id): (SocketKey, Option<SessionId>),
        public_id: &str,
    ) {
        let path = self.path_of(namespace);
        let Some(entry) = self.entry(connection) else { return };
        entry.set_entered();
        match &mut entry.wire {
            Wire::SocketIo(session) => {
                session.connected(&path, socket);
                let id = self.make_recoverable(socket, id).map(|id| id.to_string());
                let frame = socket_io::encode_connect_frame(&path, public_id, id.as_deref());
                self.send(connection, frame);
            }
            Wire::SocketIo2(client) => {
                client.session.connected(&path, socket);
                self.send(connection, v2::encode_connect_frame(&path));
            }
            Wire::PlainJson(session) => {
                session.stage = JsonStage::Live(socket);
                let auth_id = session.auth_id.take();
                let args = format!("[{{\"socket\":\"{public_id}\"}}]");
                self.send_json_event(connection, "connected", args.as_bytes());
                if let Some(id) = auth_id {
                    self.send_json_answer(connection, &id, args.as_bytes(), &[]);
                }
                self.resume(connection);
            }
        }
    }

    /// The business service does not let a socket in.
    pub(crate) fn refused(&mut self, handle: u64, message: &str, data: &[u8]) {
        let Some(key) = self.socket_by_handle(handle) else { return };
        let Some(socket) = self.sockets.get_mut(key.index()) else { return };
        let Stage::Opening { span, .. } = &mut socket.stage else {
            return self.common.metrics.drops.bad_instruction.increment(1);
        };
        finish(span.take(), "refused");
        self.end_elsewhere(key);
        let Some(socket) = self.sockets.get(key.index()) else { return };
        let (connection, namespace) = (socket.connection, socket.namespace);
        self.common.metrics.connected("refused");
        let path = self.path_of(namespace);
        self.forget_namespace(connection, &path);
        self.drop_socket(key);
        match self.entry(connection).map(|entry| &entry.wire) {
            Some(Wire::SocketIo(_) | Wire::SocketIo2(_)) => {
                let data = Some(data).filter(|data| !data.is_empty());
                self.send_connect_error(connection, &path, message, data);
            }
            Some(Wire::PlainJson(_)) => {
                self.answer_auth(connection, &ErrorAnswer::refused());
                self.close(connection, CloseReason::TokenRejected);
            }
            None => {}
        }
    }

    /// Takes a socket out of its namespace because its business service says so, and has its connection closed too if that
    /// is asked for.
    pub(crate) fn disconnected(&mut self, key: SocketKey, close_connection: bool) {
        let Some(socket) = self.sockets.get(key.index()) else { return };
        let (connection, namespace) = (socket.connection, socket.namespace);
        let path = self.path_of(namespace);
        self.end_elsewhere(key);
        if self.disconnected_on_its_way(key, close_connection) {
            self.drop_socket(key);
        } else {
            self.remove_socket(key, "server_disconnect");
        }
        match self.entry(connection).map(|entry| &entry.wire) {
            Some(Wire::SocketIo(_) | Wire::SocketIo2(_)) => {
                self.forget_namespace(connection, &path);
                self.send(connection, socket_io::encode_disconnect_frame(&path));
                if close_connection {
                    self.close(connection, CloseReason::ClosedByBackend);
                }
            }
            // Its one namespace is all that a plain JSON connection is for.
            Some(Wire::PlainJson(_)) => self.close(connection, CloseReason::DisconnectedByBackend),
            None => {}
        }
    }

    pub(super) fn forget_namespace(&mut self, key: ConnectionKey, path: &str) {
        if let Some(session) = self.entry(key).and_then(|entry| entry.wire.session_mut()) {
            session.refused(path);
        }
    }
}

/// Ends a connect's span, and says in the log how it went.
pub(super) fn finish(span: Option<Box<Span>>, outcome: &'static str) {
    let trace_id = span.as_ref().map(|span| span.context().trace_id());
    tracing::debug!(outcome, trace.id = trace_id.map(tracing::field::display), "connect ended");
    if let Some(mut span) = span {
        span.set("sockeye.outcome", outcome);
        if outcome == "unavailable" {
            span.fail(outcome);
        }
    }
}
