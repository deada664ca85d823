//! One core's connections: their sockets, rooms and timers, which nothing else touches.

mod acks;
mod announce;
mod answers;
mod audience;
mod confirmations;
mod connect;
mod deadlines;
pub(crate) mod drain;
mod echo;
mod fan_out;
mod inbound;
mod instructions;
mod lag;
mod limits;
mod noted_limits;
pub(crate) mod outbox;
mod pauses;
mod plain_json;
mod rate;
mod recovery;
mod refresh;
mod revoked;
mod rooms;
mod sessions;
mod socket_io_2;
pub(crate) mod verifications;
mod wheel;
mod wire;

use std::{cell::RefCell, collections::HashMap, net::IpAddr, rc::Rc, time::Instant};

use edge_protocol::{engine_io::Heartbeat, socket_io::Assembler};
use foldhash::fast::FixedState;
use service_kit::trace::Tracer;
use slab::Slab;

use self::{
    acks::ClientAcks,
    acks::ServerAcks,
    confirmations::Confirmations,
    pauses::{Overdrawn, Pauses},
    rate::Rates,
    rooms::Rooms,
    sessions::Sessions,
    verifications::Verifications,
    wheel::{Tick, Wheel},
};
pub(crate) use self::{
    limits::Limits,
    noted_limits::ConnectionLimit,
    recovery::{
        Missed, Recoverable, Recovery, Wanted,
        claims::{self, Claim, Claimed, Found, Rest, Settled, Settlement},
        elsewhere,
    },
    rooms::UserName,
    wheel::TICK,
    wire::{JsonSession, JsonStage, Wire},
};
use crate::{
    application::Application,
    backend_link::BackendLink,
    client_handshake::{ClientHandshake, Origin},
    close_reason::CloseReason,
    connection::{Class, Common, Connection, Sent},
    namespaces::NamespaceSettings,
    revocations::Revocations,
    session_id::SessionId,
    socket::Socket,
};

/// A shard as the tasks of its thread share it. Borrowed for the length of one call, never across an await.
pub(crate) type SharedShard = Rc<RefCell<Shard>>;

/// Names a connection of this shard. A key that outlives its connection finds nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ConnectionKey {
    pub(crate) index: u32,
    pub(crate) serial: u32,
}

/// Names a socket of this shard. Valid until the socket is removed, and held only by what is updated then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct SocketKey(u32);

impl SocketKey {
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// Names one of the configured namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct NamespaceKey(u32);

impl NamespaceKey {
    pub(crate) const FIRST: Self = Self(0);

    pub(crate) fn new(index: u32) -> Self {
        Self(index)
    }

    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// Names one of the shard's links to business services.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LinkKey(pub(crate) usize);

/// Whether a connection goes on reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flow {
    Continue,
    /// Until [`Connection::resume`].
    Pause,
    Closed,
}

impl Flow {
    /// What becomes of a connection for two reasons.
    pub(crate) fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Closed, _) | (_, Self::Closed) => Self::Closed,
            (Self::Pause, _) | (_, Self::Pause) => Self::Pause,
            (Self::Continue, Self::Continue) => Self::Continue,
        }
    }
}

/// A namespace that clients may enter.
#[derive(Debug)]
pub(crate) struct Namespace {
    pub(crate) settings: NamespaceSettings,
    pub(crate) link: LinkKey,
    /// Whose pages may enter; none if all may.
    pub(crate) origins: Option<Vec<Origin>>,
}

impl Namespace {
    /// Whether a client that came from there may enter.
    pub(crate) fn admits(&self, origin: Origin) -> bool {
        origin == Origin::None
            || self.origins.as_ref().is_none_or(|origins| origins.contains(&origin))
    }
}

/// Whether a client that goes on answering pings has got what was sent to it before the last ping that it has answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hearing {
    Certain,
    /// No: pings overtake data that waits to be written, and a client that we do not read may not have been there.
    Uncertain,
    /// It will have, once it has answered the ping that is under way.
    Asked,
}

/// A connection as the shard knows it.
#[derive(Debug)]
pub(crate) struct Entry {
    serial: u32,
    /// Its Engine.IO session; plain JSON has none.
    session: Option<SessionId>,
    pub(crate) connection: Rc<Connection>,
    pub(crate) wire: Wire,
    heartbeat: Heartbeat,
    pub(crate) assembler: Assembler,
    /// Since when a packet waits for its attachments, or the connection is read again.
    pub(crate) assembling_since: Option<Instant>,
    /// While it is not read it cannot be heard.
    pauses: Pauses,
    pub(crate) noted_limits: noted_limits::NotedLimits,
    /// What the client's next pong will tell.
    hearing: Hearing,
    /// When it must have entered a namespace; none once it has.
    pub(crate) connect_by: Option<Instant>,
    /// When the first of its tokens expires.
    pub(crate) expires_at: Option<Instant>,
    /// Its client knows that the time has almost come.
    is_warned: bool,
    /// When the wheel should name it next.
    next_visit: Tick,
    rates: Rates,
    pub(crate) handshake: ClientHandshake,
}

/// One core's part of the edge.
pub(crate) struct Shard {
    application: Application,
    pub(crate) limits: Limits,
    pub(crate) common: Rc<Common>,
    pub(crate) tracer: Tracer,
    pub(crate) verifications: Verifications,
    pub(crate) revocations: Revocations,
    pub(crate) namespaces: Vec<Namespace>,
    pub(crate) ws_namespace: NamespaceKey,
    pub(crate) connections: Slab<Entry>,
    sessions: Sessions,
    pub(crate) sockets: Slab<Socket>,
    /// From the name on the link to the key.
    handles: HashMap<u64, SocketKey, FixedState>,
    pub(crate) rooms: Rooms,
    pub(crate) links: Vec<BackendLink>,
    pub(crate) client_acks: ClientAcks,
    pub(crate) server_acks: ServerAcks,
    pub(crate) recovery: Recovery,
    laggards: lag::Laggards,
    overdrawn: Overdrawn,
    confirmations: Confirmations,
    wheel: Wheel,
    due: Vec<ConnectionKey>,
    pub(crate) marks: fan_out::Marks,
    next_serial: u32,
    next_handle: u64,
    /// Set once the edge is being stopped: nobody is let in any more.
    pub(crate) draining: bool,
}

impl std::fmt::Debug for Shard {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Shard")
            .field("connections", &self.connections.len())
            .field("sockets", &self.sockets.len())
            .finish_non_exhaustive()
    }
}

/// What a shard is made of.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) application: Application,
    pub(crate) limits: Limits,
    pub(crate) common: Rc<Common>,
    pub(crate) tracer: Tracer,
    pub(crate) verifications: Verifications,
    pub(crate) namespaces: Vec<Namespace>,
    pub(crate) ws_namespace: NamespaceKey,
    pub(crate) links: Vec<BackendLink>,
    pub(crate) recovery: Recovery,
}

impl Shard {
    pub(crate) fn new(parts: Parts, now: Instant) -> Self {
        let interval = parts.limits.confirm_interval;
        let confirmations = Confirmations::new(interval, parts.namespaces.len(), now);
        Self {
            application: parts.application,
            rooms: Rooms::new(parts.namespaces.len()),
            limits: parts.limits,
            common: parts.common,
            tracer: parts.tracer,
            verifications: parts.verifications,
            revocations: Revocations::default(),
            namespaces: parts.namespaces,
            ws_namespace: parts.ws_namespace,
            connections: Slab::new(),
            sessions: Sessions::default(),
            sockets: Slab::new(),
            handles: HashMap::default(),
            links: parts.links,
            client_acks: ClientAcks::default(),
            server_acks: ServerAcks::default(),
            recovery: parts.recovery,
            laggards: lag::Laggards::default(),
            overdrawn: Overdrawn::default(),
            confirmations,
            wheel: Wheel::new(now),
            due: Vec::new(),
            marks: fan_out::Marks::default(),
            next_serial: 0,
            next_handle: 0,
            draining: false,
        }
    }

    /// Takes in a connection whose WebSocket handshake is done, and lets it go at once when the edge is being stopped.
    pub(crate) fn adopt(
        &mut self,
        connection: &Rc<Connection>,
        wire: Wire,
        session: Option<SessionId>,
        handshake: ClientHandshake,
    ) -> ConnectionKey {
        let now = Instant::now();
        self.next_serial = self.next_serial.wrapping_add(1);
        if self.application == Application::Echo {
            connection.set_entered();
        }
        let connect_by = now + self.limits.connect_timeout;
        let entry = Entry {
            serial: self.next_serial,
            session,
            connection: Rc::clone(connection),
            heartbeat: wire.heartbeat(now, &self.limits),
            wire,
            assembler: Assembler::default(),
            assembling_since: None,
            pauses: Pauses::default(),
            noted_limits: noted_limits::NotedLimits::default(),
            hearing: Hearing::Certain,
            connect_by: Some(connect_by),
            expires_at: None,
            is_warned: false,
            next_visit: self.wheel.tick_at(connect_by),
            rates: Rates::new(now),
            handshake,
        };
        let index = self.connections.insert(entry);
        let key = ConnectionKey {
            index: u32::try_from(index).unwrap_or(u32::MAX),
            serial: self.next_serial,
        };
        if let Some(session) = session {
            self.sessions.insert(session, key);
        }
        self.common.metrics.connections.increment(1.0);
        self.schedule(key);
        if self.draining {
            self.close(key, CloseReason::ShuttingDown);
        }
        key
    }

    pub(crate) fn entry(&mut self, key: ConnectionKey) -> Option<&mut Entry> {
        self.connections.get_mut(key.index as usize).filter(|entry| entry.serial == key.serial)
    }

    fn entry_of(&self, key: ConnectionKey) -> Option<&Entry> {
        self.connections.get(key.index as usize).filter(|entry| entry.serial == key.serial)
    }

    /// Where a connection's client is, if that is kept.
    pub(crate) fn address_of(&self, key: ConnectionKey) -> Option<IpAddr> {
        self.entry_of(key)?.handshake.address()
    }

    pub(crate) fn socket_by_handle(&self, handle: u64) -> Option<SocketKey> {
        self.handles.get(&handle).copied()
    }

    pub(crate) fn namespace(&self, path: &str) -> Option<NamespaceKey> {
        let index = self.namespaces.iter().position(|namespace| namespace.settings.path == path)?;
        Some(NamespaceKey(u32::try_from(index).ok()?))
    }

    pub(crate) fn path_of(&self, namespace: NamespaceKey) -> String {
        self.namespaces
            .get(namespace.index())
            .map_or_else(String::new, |one| one.settings.path.clone())
    }

    pub(crate) fn link_of(&mut self, namespace: NamespaceKey) -> Option<&mut BackendLink> {
        let link = self.namespaces.get(namespace.index())?.link;
        self.links.get_mut(link.0)
    }

    /// Gives a new socket its names and takes it in.
    pub(crate) fn insert_socket(&mut self, make: impl FnOnce(u64) -> Socket) -> SocketKey {
        self.next_handle += 1;
        let handle = self.next_handle;
        let key = SocketKey(u32::try_from(self.sockets.insert(make(handle))).unwrap_or(u32::MAX));
        self.handles.insert(handle, key);
        self.common.metrics.sockets.increment(1.0);
        key
    }

    /// Ends a socket and tells its business service.
    pub(crate) fn remove_socket(&mut self, key: SocketKey, reason: &'static str) {
        let rooms = self.rooms_wanted_of(key);
        let Some(socket) = self.drop_socket(key) else { return };
        if let Some(link) = self.link_of(socket.namespace) {
            let unheard_of = !socket.stage.is_in() && link.take_back_opened(socket.handle);
            if !unheard_of {
                link.socket_closed(socket.handle, reason, rooms);
            }
        }
    }

    /// The rooms a socket is in, where its business service wants to know them when it ends.
    fn rooms_wanted_of(&self, key: SocketKey) -> Vec<String> {
        let namespace = self.sockets.get(key.index()).map(|socket| socket.namespace);
        let namespace = namespace.and_then(|namespace| self.namespaces.get(namespace.index()));
        let link = namespace.and_then(|namespace| self.links.get(namespace.link.0));
        if !link.is_some_and(BackendLink::wants_rooms_on_close) {
            return Vec::new();
        }
        self.rooms.rooms_of(key).map(|(room, _)| room.to_owned()).collect()
    }

    /// Ends a socket that its business service does not know or want.
    pub(crate) fn drop_socket(&mut self, key: SocketKey) -> Option<Socket> {
        let socket = self.sockets.try_remove(key.index())?;
        self.handles.remove(&socket.handle);
        self.rooms.remove(key);
        self.common.metrics.sockets.decrement(1.0);
        self.end_suspension(&socket.stage);
        self.forget_recoverable(key, &socket);
        self.client_acks.forget(socket.handle);
        self.finish_server_acks_of(key);
        self.go_on_without(socket.connection);
        Some(socket)
    }

    /// Ends a connection: its sockets leave, and its task writes what waits and closes it.
    pub(crate) fn close(&mut self, key: ConnectionKey, reason: CloseReason) {
        if self.entry(key).is_none() {
            return;
        }
        self.audit_close(key, reason);
        let entry = self.connections.remove(key.index as usize);
        let confirmed_at = self.confirmed_at(Some(&entry));
        for socket in entry.wire.sockets() {
            if self.suspend(socket, reason, confirmed_at) {
                // Nobody waits for the answer of a client that is gone.
                self.finish_server_acks_of(socket);
            } else {
                self.remove_socket(socket, reason.label());
            }
        }
        self.confirmations.forget(key);
        self.common.metrics.connections.decrement(1.0);
        self.common.metrics.closed(reason);
        tracing::debug!(reason = reason.label(), "connection closed");
        entry.connection.close(reason);
        if let Some(session) = entry.session {
            self.sessions.close(session, entry.connection, reason);
        }
    }

    /// Sends a control frame; a client that has not even room for that is gone.
    pub(crate) fn send_control(&mut self, key: ConnectionKey, frame: &[u8]) {
        let Some(entry) = self.entry(key) else { return };
        if entry.connection.send_control(frame) == Sent::Overflow {
            self.close(key, CloseReason::SlowConsumer);
        }
    }

    /// Sends a frame that only this client gets.
    pub(crate) fn send(&mut self, key: ConnectionKey, frame: Vec<u8>) {
        let Some(entry) = self.entry(key) else { return };
        if entry.connection.send(&frame.into(), Class::Required) == Sent::Overflow {
            self.close(key, CloseReason::SlowConsumer);
        }
    }
}
