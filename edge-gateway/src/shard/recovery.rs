//! Brings sockets back whose connection broke: they stay in their rooms for a while, and a client that comes back in time
//! goes on as the same socket, after what it missed.
//!
//! ```text
//!  live ──connection lost──► suspended ──CONNECT with pid──► live     here: at once
//!   │                            │
//!   │                            └──claimed by another shard or edge──► gone, and there: opening ─► arriving ─► live
//!   │                                                                                  as soon as it is gone ─► suspended
//!   └──CONNECT with pid, before the loss was noticed: its old connection is closed
//! ```

mod arrival;
mod brought;
pub(crate) mod claims;
pub(crate) mod elsewhere;
mod lag;
mod log;
mod recoverable;
mod reentry;
mod surplus;

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, VecDeque},
    rc::Rc,
    time::{Duration, Instant},
};

use edge_protocol::socket_io;
use foldhash::fast::RandomState;
use proto::edge::v1::Emit;
use service_kit::trace::Span;

use self::{brought::BroughtBytes, claims::Claims, log::RecoveryLog, recoverable::Search};
pub(crate) use self::{log::Missed, recoverable::Recoverable};
use super::{
    ConnectionKey, Entry, Hearing, Namespace, NamespaceKey, Shard, SocketKey, Wire, connect,
};
use crate::{
    backend_link::{EmitCount, Moves},
    close_reason::CloseReason,
    session_id::SessionId,
    socket::{Identity, Socket, Stage},
};

/// Most sockets of a shard that wait for their clients. When there are more, the first to be given up anyway go.
const SUSPENDED_MAX: usize = 65_536;

/// How many ends of suspensions may be over that are still remembered, besides as many as are not.
const OLD_ENDS_MAX: usize = 1024;

/// What a shard needs to bring sockets back.
#[derive(Debug)]
pub(crate) struct Recovery {
    /// By namespace; none where sockets do not come back.
    logs: Vec<Option<RecoveryLog>>,
    /// The sockets that may come back, by the name that their clients know.
    by_id: HashMap<SessionId, SocketKey, RandomState>,
    /// When which suspended socket is given up. May name sockets that are not suspended any more.
    ends: BinaryHeap<Reverse<(Instant, u64)>>,
    suspended: usize,
    /// How often sockets had to go, by this edge's count, when it was last looked.
    surpluses: u64,
    /// Whether those of everybody are to be looked at.
    looks_at_all: bool,
    /// Until when sockets that came from elsewhere may be sent what they have been given there.
    doubles_until: Option<Instant>,
    /// How far back the last ping may be that the client of a broken connection has answered.
    notice: Duration,
    /// Sockets that came from elsewhere, whose clients may not have got yet what they brought.
    arrivals: VecDeque<(Instant, u64)>,
    brought: BroughtBytes,
    pub(super) claims: Claims,
}

/// What a client wants to go on with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) id: SessionId,
    /// Of the last event that it has seen; none if it has seen none.
    pub(crate) offset: Option<String>,
    /// How far the link had been brought by then.
    pub(crate) delivered: Option<EmitCount>,
}

impl Recovery {
    pub(crate) fn new(namespaces: &[Namespace], notice: Duration, claims: Claims) -> Self {
        let log = |namespace: &Namespace| {
            namespace.settings.recovery.map(|window| RecoveryLog::new(window, notice))
        };
        Self {
            logs: namespaces.iter().map(log).collect(),
            by_id: HashMap::default(),
            ends: BinaryHeap::new(),
            suspended: 0,
            surpluses: 0,
            looks_at_all: false,
            doubles_until: None,
            notice,
            arrivals: VecDeque::new(),
            brought: BroughtBytes::default(),
            claims,
        }
    }

    fn log(&self, namespace: NamespaceKey) -> Option<&RecoveryLog> {
        self.logs.get(namespace.index())?.as_ref()
    }

    fn log_mut(&mut self, namespace: NamespaceKey) -> Option<&mut RecoveryLog> {
        self.logs.get_mut(namespace.index())?.as_mut()
    }

    /// What is put behind the arguments of an event of this namespace: of one that is kept the offset that it will have, of
    /// a volatile one that of the event before it. None where nobody recovers.
    pub(crate) fn offset_of(&self, namespace: NamespaceKey, emit: &Emit) -> Option<String> {
        let log = self.log(namespace).filter(|_| emit.ask.is_none())?;
        Some(if emit.volatile { log.last_offset() } else { log.next_offset() })
    }

    /// A name for a socket of a namespace whose sockets come back.
    pub(super) fn name(&self, namespace: NamespaceKey) -> Option<SessionId> {
        self.log(namespace).map(|_| self.claims.new_id())
    }

    /// What is put behind the arguments of an event that was kept before.
    pub(crate) fn last_offset(&self, namespace: NamespaceKey) -> Option<String> {
        self.log(namespace).map(RecoveryLog::last_offset)
    }
}

impl Recovery {
    /// What tells an event apart, while sockets are here that may have been given it elsewhere.
    pub(crate) fn double_of(&self, emit: &Emit) -> Option<u64> {
        self.doubles_until?;
        (!emit.position.is_empty()).then(|| log::fingerprint(emit))
    }
}

impl Shard {
    pub(crate) fn recovers(&self, namespace: NamespaceKey) -> bool {
        self.recovery.log(namespace).is_some()
    }

    /// Keeps an event that sockets which may come back were to get.
    pub(crate) fn keep_for_recovery(
        &mut self,
        namespace: NamespaceKey,
        emit: &Emit,
        frames: bytes::Bytes,
    ) {
        let Some(log) = self.recovery.log_mut(namespace) else { return };
        let before = log.bytes();
        log.push(Instant::now(), emit, frames);
        self.common.metrics.recovery_log_bytes.moved(before, log.bytes());
    }

    /// Lets a socket that has just been accepted come back later; returns the name that its client is to know.
    pub(super) fn make_recoverable(
        &mut self,
        key: SocketKey,
        id: Option<SessionId>,
    ) -> Option<SessionId> {
        let socket = self.sockets.get_mut(key.index())?;
        let log = self.recovery.logs.get(socket.namespace.index())?.as_ref()?;
        let id = id.unwrap_or_else(|| self.recovery.claims.new_id());
        socket.recoverable = Some(Box::new(Recoverable::new(id, log.last(), Instant::now())));
        self.recovery.by_id.insert(id, key);
        Some(id)
    }

    /// Notes that a socket which may come back is in a room from now on.
    pub(super) fn note_join(&mut self, key: SocketKey, room: &str) {
        if let Some((recoverable, log)) = self.recoverable_mut(key) {
            recoverable.join(room, log.last(), log.first());
        }
    }

    /// Notes that it is in it no more.
    pub(super) fn note_leave(&mut self, key: SocketKey, room: &str) {
        if let Some((recoverable, log)) = self.recoverable_mut(key) {
            recoverable.leave(room, log.last());
        }
    }

    fn recoverable_mut(&mut self, key: SocketKey) -> Option<(&mut Recoverable, &RecoveryLog)> {
        let socket = self.sockets.get_mut(key.index())?;
        let log = self.recovery.logs.get(socket.namespace.index())?.as_ref()?;
        Some((socket.recoverable.as_mut()?, log))
    }

    /// Keeps a socket that has lost its connection; returns whether it may come back at all.
    pub(super) fn suspend(
        &mut self,
        key: SocketKey,
        reason: CloseReason,
        confirmed_at: Option<Instant>,
    ) -> bool {
        let may_come_back = !self.draining || self.recovery.claims.may_come_from_elsewhere();
        let Some(socket) = self.sockets.get_mut(key.index()) else { return false };
        let Some(log) = self.recovery.logs.get(socket.namespace.index()).and_then(Option::as_ref)
        else {
            return false;
        };
        let confirmed_at = match socket.stage {
            Stage::Live => confirmed_at,
            // It has been sent nothing yet.
            Stage::Arriving { found: None } => None,
            Stage::Opening { .. } | Stage::Arriving { .. } | Stage::Suspended { .. } => {
                return false;
            }
        };
        let Some(recoverable) = &mut socket.recoverable else { return false };
        if !reason.may_recover() || !may_come_back {
            return false;
        }
        recoverable.settle(confirmed_at);
        let ends_at = Instant::now() + log.window;
        socket.suspend(ends_at, reason.label());
        let (handle, namespace) = (socket.handle, socket.namespace);
        // What it was not given is in the recovery log, for a client that has seen nothing since.
        self.rooms.forget_lags_of(key);
        self.recovery.ends.push(Reverse((ends_at, handle)));
        self.recovery.suspended += 1;
        self.common.metrics.suspended.increment(1.0);
        if let Some(link) = self.link_of(namespace) {
            link.socket_suspended(handle, reason.label());
        }
        while self.recovery.suspended > SUSPENDED_MAX && !self.recovery.ends.is_empty() {
            self.give_up_first();
        }
        self.forget_old_ends();
        true
    }

    /// Clients that are cut and come back again and again leave nothing behind.
    fn forget_old_ends(&mut self) {
        if self.recovery.ends.len() < 2 * self.recovery.suspended + OLD_ENDS_MAX {
            return;
        }
        let (handles, sockets) = (&self.handles, &self.sockets);
        self.recovery.ends.retain(|Reverse((at, handle))| {
            let socket = handles.get(handle).and_then(|key| sockets.get(key.index()));
            socket.is_some_and(
                |socket| matches!(socket.stage, Stage::Suspended { ends_at, .. } if ends_at == *at),
            )
        });
    }

    /// Forgets that a socket may come back.
    pub(super) fn forget_recoverable(&mut self, key: SocketKey, socket: &Socket) {
        if let Some(recoverable) = &socket.recoverable
            && self.recovery.by_id.get(&recoverable.id) == Some(&key)
        {
            self.recovery.by_id.remove(&recoverable.id);
        }
    }

    /// Gives up the sockets whose clients have not come back in time, and forgets old events.
    pub(super) fn expire_recovery(&mut self, now: Instant) {
        while let Some(Reverse((at, _))) = self.recovery.ends.peek()
            && *at <= now
        {
            self.give_up_first();
        }
        self.give_up_surplus();
        self.give_up_anybodys_surplus();
        let gauge = &self.common.metrics.recovery_log_bytes;
        for log in self.recovery.logs.iter_mut().flatten() {
            let before = log.bytes();
            log.expire(now);
            gauge.moved(before, log.bytes());
        }
        if self.recovery.doubles_until.is_some_and(|at| at <= now) {
            self.recovery.doubles_until = None;
        }
        self.settle_arrivals(now);
        self.expire_claims(now);
    }

    /// Forgets what sockets brought from elsewhere, once their clients have got it for certain.
    fn settle_arrivals(&mut self, now: Instant) {
        let notice = self.recovery.notice;
        let is_time = |(at, _): &mut (Instant, u64)| now.duration_since(*at) > notice;
        while let Some((_, handle)) = self.recovery.arrivals.pop_front_if(is_time) {
            let Some(key) = self.socket_by_handle(handle) else { continue };
            let Some(socket) = self.sockets.get(key.index()) else { continue };
            if !matches!(socket.stage, Stage::Live) {
                // It is settled as it is suspended, and again when its client has been back for so long.
                continue;
            }
            let connection = self.connections.get(socket.connection.index as usize);
            let confirmed_at = self.confirmed_at(connection);
            let recoverable = self.sockets.get_mut(key.index());
            let recoverable = recoverable.and_then(|socket| socket.recoverable.as_mut());
            if recoverable.is_some_and(|recoverable| !recoverable.settle(confirmed_at)) {
                self.recovery.arrivals.push_back((now, handle));
            }
        }
    }

    fn give_up_first(&mut self) {
        let Some(Reverse((at, handle))) = self.recovery.ends.pop() else { return };
        let Some(key) = self.socket_by_handle(handle) else { return };
        let Some(socket) = self.sockets.get(key.index()) else { return };
        if let Stage::Suspended { ends_at, reason, .. } = socket.stage
            && ends_at == at
        {
            self.common.metrics.recovered("given_up");
            self.remove_socket(key, reason);
        }
    }

    /// Finds the socket that a client wants to go on with, and what it has missed. It must be its own: the same namespace,
    /// subject, issuer and tenant.
    fn find_recoverable(
        &self,
        namespace: NamespaceKey,
        owner: Option<(&str, &str, &str)>,
        wanted: &Wanted,
    ) -> Result<(SocketKey, Vec<Missed>), &'static str> {
        let key = self.recovery.by_id.get(&wanted.id).copied().ok_or("unknown")?;
        let socket = self.sockets.get(key.index()).ok_or("unknown")?;
        let known = socket.identity.as_deref().map(Identity::owner);
        if socket.namespace != namespace || known != owner {
            return Err("unknown");
        }
        // One that is about to be given up for others may not become one too many by coming back.
        if self.is_surplus(socket) {
            return Err("unknown");
        }
        let confirmed_at = match socket.stage {
            Stage::Suspended { .. } | Stage::Arriving { found: None } => None,
            Stage::Live => {
                self.confirmed_at(self.connections.get(socket.connection.index as usize))
            }
            Stage::Opening { .. } | Stage::Arriving { .. } => return Err("unknown"),
        };
        let missed = self.missed_by(socket, wanted.offset.as_deref(), confirmed_at);
        Ok((key, missed.ok_or("gap")?))
    }

    fn missed_by(
        &self,
        socket: &Socket,
        offset: Option<&str>,
        confirmed_at: Option<Instant>,
    ) -> Option<Vec<Missed>> {
        let log = self.recovery.log(socket.namespace)?;
        let recoverable = socket.recoverable.as_ref()?;
        let confirmed_at = recoverable.confirmed_at(confirmed_at);
        recoverable.missed(&Search::of(socket, log, confirmed_at), offset)
    }

    /// Until when the client of a connection has got for certain what was sent to it: whoever answers a ping has read what
    /// was sent before. None if nothing is certain, or where the clock does not reach back so far.
    pub(super) fn confirmed_at(&self, entry: Option<&Entry>) -> Option<Instant> {
        entry.filter(|entry| entry.hearing == Hearing::Certain)?;
        Instant::now().checked_sub(self.recovery.notice)
    }

    /// Lets a client go on with a socket that is on this shard. Returns its connect's span if that cannot be.
    pub(super) fn recover(
        &mut self,
        (connection, namespace): (ConnectionKey, NamespaceKey),
        identity: Option<&Identity>,
        wanted: &Wanted,
        span: Option<Box<Span>>,
    ) -> Result<(), Option<Box<Span>>> {
        let found = self.find_recoverable(namespace, identity.map(Identity::owner), wanted);
        let Ok((socket, missed)) = found else { return Err(span) };
        let path = self.path_of(namespace);
        let is_wanted = self.entry(connection).is_some_and(|entry| match &mut entry.wire {
            Wire::SocketIo(session) => session.opening(&path, socket),
            Wire::SocketIo2(_) | Wire::PlainJson(_) => false,
        });
        if !is_wanted {
            // The client has left again meanwhile.
            connect::finish(span, "withdrawn");
            return Ok(());
        }
        self.suspend_elsewhere(socket);
        let Some(known) = self.sockets.get_mut(socket.index()) else { return Err(span) };
        known.identity = identity.cloned().map(Rc::new);
        let stage = known.go_on();
        known.connection = connection;
        let (handle, namespace) = (known.handle, known.namespace);
        self.end_suspension(&stage);
        connect::finish(span, "recovered");
        if let Some(link) = self.link_of(namespace) {
            link.socket_resumed(handle, identity, Moves::default());
        }
        self.go_on(socket, &missed);
        Ok(())
    }

    /// A client that comes back before we have noticed that it was gone: its old connection is of no use to anybody.
    pub(super) fn suspend_elsewhere(&mut self, socket: SocketKey) {
        let known = self.sockets.get(socket.index());
        if let Some(Socket {
            stage: Stage::Live | Stage::Arriving { found: None },
            connection,
            ..
        }) = known
        {
            let connection = *connection;
            self.close(connection, CloseReason::Replaced);
        }
    }

    /// Gives a recovered socket what it missed, then tells its client that it is connected, as the reference server does:
    /// an official client keeps events until then.
    pub(super) fn go_on(&mut self, key: SocketKey, missed: &[Missed]) {
        let Some(socket) = self.sockets.get_mut(key.index()) else { return };
        if let Some(recoverable) = &mut socket.recoverable {
            let now = Instant::now();
            recoverable.came(now, missed);
            if recoverable.has_brought() {
                self.recovery.arrivals.push_back((now, socket.handle));
            }
        }
        let (connection, namespace) = (socket.connection, socket.namespace);
        let (identity, public_id) = (socket.identity.clone(), socket.public_id.clone());
        let id = socket.recoverable.as_ref().map(|recoverable| recoverable.id.to_string());
        let path = self.path_of(namespace);
        self.note_given_to(key);
        let Some(entry) = self.entry(connection) else { return };
        let Wire::SocketIo(session) = &mut entry.wire else { return };
        session.connected(&path, key);
        entry.set_entered();
        for one in missed {
            entry.connection.send_missed(&one.frames);
        }
        let frame = socket_io::encode_connect_frame(&path, &public_id, id.as_deref());
        entry.connection.send_missed(&frame.into());
        self.common.metrics.recovered("recovered");
        self.common.metrics.connected("recovered");
        if let Some(identity) = identity {
            self.expire_with(connection, &identity);
        }
    }
}
