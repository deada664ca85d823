//! Owns the rooms that fall to it: takes one command after the other, and so gives each room one order.
//!
//! Commands are taken in batches. What comes of a batch is let out when the log has committed what the batch appended: one
//! wait for the disk serves them all, and nobody ever hears of an entry that the log does not keep. Where much comes of a
//! batch, it is let out in parts.

mod catch_up;
mod command;
mod deliveries;
mod effects;
mod events;
mod exclusions;
mod fan_out;
mod membership;
mod presence;
mod queries;
mod refill;
mod refreshed;
mod relay;

use std::{collections::HashMap, future, sync::Arc, time::Duration};

use service_kit::{clock, trace::Tracer};
use smallvec::SmallVec;
use tokio::{
    sync::mpsc,
    time::{self, Instant, MissedTickBehavior},
};

use self::{catch_up::Group, deliveries::Followed, effects::Effects, presence::Agenda};
pub(crate) use self::{
    command::{
        BanPage, Bans, CatchUp, Command, Delivered, DeliveredPage, DeliveredTo, DeliveredUser,
        Departure, History, KeepOut, Presence, Present, Publish, Published, PutOut, Query, Refill,
        Restore, RoomSummary, Rooms,
    },
    exclusions::KeepOutError,
    presence::PresenceTerms,
    relay::LatestOf,
};
use crate::{
    edge_link::Outbox,
    exclusions::{ExclusionBounds, Exclusions},
    namespaces::Namespaces,
    retained::Retained,
    room::Room,
    room_key::RoomKey,
    room_log::{LogFailed, RoomLog, Standings},
    socket::{LinkKey, Socket, SocketKey},
    socket_registry::SocketRegistry,
    telemetry::Metrics,
};

/// How many commands are taken from the queue at once.
const BATCH_COMMANDS_MAX: usize = 256;

/// How often logs are searched for what is too old. Reading and appending look for themselves.
const EXPIRE_INTERVAL: Duration = Duration::from_secs(30);

/// Most bytes of entries in one answer to a client, and in one page of what restored sockets missed.
pub(crate) const PAGE_BYTES_MAX: usize = 256 * 1024;

#[derive(Debug)]
pub(crate) struct Worker<L> {
    log: L,
    /// Those with members.
    rooms: HashMap<RoomKey, Room>,
    links: HashMap<LinkKey, Link>,
    effects: Effects,
    agenda: Agenda,
    followed: Followed,
    tracer: Tracer,
    metrics: Metrics,
    expose_trace_ids: bool,
    namespaces: Arc<Namespaces>,
    retained: Retained,
    exclusions: Exclusions,
    registry: SocketRegistry,
}

/// What every worker is given, besides its log.
#[derive(Debug, Clone)]
pub(crate) struct WorkerSettings {
    pub(crate) tracer: Tracer,
    pub(crate) metrics: Metrics,
    pub(crate) expose_trace_ids: bool,
    pub(crate) presence: PresenceTerms,
    pub(crate) namespaces: Arc<Namespaces>,
    /// Most bytes of latest values of its rooms together.
    pub(crate) retained_bytes_max: usize,
    /// Most users that are followed, one in two of its rooms counted twice.
    pub(crate) followed_users_max: usize,
    pub(crate) exclusions: ExclusionBounds,
    /// The sockets of all links.
    pub(crate) registry: SocketRegistry,
}

/// What this worker knows of a life of a link.
#[derive(Debug)]
struct Link {
    outbox: Outbox,
    /// The rooms of its sockets, as far as they fall to this worker.
    sockets: foldhash::HashMap<u64, Stay>,
    /// The rooms in which its sockets do not stand at the end of the log. What is logged there meanwhile is not sent but
    /// read from the log in its turn, so that it comes in order and once.
    catching_up: HashMap<RoomKey, Vec<Group>>,
}

/// A socket and its rooms.
#[derive(Debug)]
struct Stay {
    socket: Arc<Socket>,
    /// Most are in one.
    rooms: SmallVec<[RoomKey; 1]>,
}

impl<L: RoomLog> Worker<L> {
    pub(crate) fn new(log: L, settings: WorkerSettings) -> Self {
        let WorkerSettings { tracer, metrics, expose_trace_ids, presence, .. } = settings;
        let (rooms, links, effects) = (HashMap::new(), HashMap::new(), Effects::default());
        let agenda = Agenda::new(presence);
        let (namespaces, retained) =
            (settings.namespaces, Retained::new(settings.retained_bytes_max));
        let kept = log.standings().map_or(0, Standings::count);
        let unlisted = deliveries::unlisted_at_start(log.standings(), clock::unix_ms());
        let followed = Followed::new(kept, settings.followed_users_max, unlisted);
        let mut worker = Self {
            log,
            rooms,
            links,
            effects,
            agenda,
            followed,
            tracer,
            metrics,
            expose_trace_ids,
            namespaces,
            retained,
            exclusions: Exclusions::new(settings.exclusions),
            registry: settings.registry,
        };
        worker.load_exclusions();
        worker
    }

    pub(crate) async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let mut batch = Vec::with_capacity(BATCH_COMMANDS_MAX);
        // Not before the edges had the time to say which rooms are in use.
        let settled_at = self.agenda.settled_at().max(Instant::now());
        let mut expire = time::interval_at(settled_at + EXPIRE_INTERVAL, EXPIRE_INTERVAL);
        expire.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                count = commands.recv_many(&mut batch, BATCH_COMMANDS_MAX) => {
                    if count == 0 {
                        return;
                    }
                    for command in batch.drain(..) {
                        self.handle(command, clock::unix_ms()).await;
                        if self.effects.are_many() {
                            self.commit().await;
                            self.effects.wait_for_links().await;
                        }
                    }
                    self.commit().await;
                }
                () = sleep_until(self.next_at()) => {
                    let now = Instant::now();
                    if self.agenda.next_at().is_some_and(|at| at <= now) {
                        self.handle_due(now);
                    }
                    self.save_deliveries(now);
                    self.commit().await;
                }
                _ = expire.tick() => {
                    self.expire_deliveries(clock::unix_ms()).await;
                    self.expire_exclusions(clock::unix_ms());
                    self.commit().await;
                    let rooms = &self.rooms;
                    self.log.expire(clock::unix_ms(), |room| rooms.contains_key(room)).await;
                }
            }
        }
    }

    /// When something is due next.
    fn next_at(&self) -> Option<Instant> {
        [self.agenda.next_at(), self.followed.save_at].into_iter().flatten().min()
    }

    /// Lets out what came of the batch.
    async fn commit(&mut self) {
        match self.log.commit().await {
            Ok(()) => {
                self.effects.release();
                self.retained.confirm();
            }
            Err(LogFailed) => {
                self.effects.discard();
                self.retained.forget_unconfirmed();
            }
        }
        self.followed.drop_emptied();
    }

    async fn handle(&mut self, command: Command, now_ms: u64) {
        match command {
            Command::Client(event, request) => self.handle_client(event, *request, now_ms).await,
            Command::Restore(restore) => self.handle_restore(*restore, now_ms).await,
            Command::SocketClosed(ticket, socket, departure) => {
                self.handle_socket_closed((ticket, socket), departure, now_ms);
            }
            Command::SocketSuspended(ticket, socket) => {
                self.handle_suspended(ticket, socket, now_ms);
            }
            Command::SocketMoved(ticket, socket, room) => {
                self.handle_moved(ticket, &socket, room, now_ms).await;
            }
            Command::SocketLeft(ticket, socket, room) => {
                self.handle_left_elsewhere(ticket, &socket, &room, now_ms).await;
            }
            Command::SocketResumed(ticket, socket) => {
                self.handle_resumed(ticket, socket, now_ms).await;
            }
            Command::SocketRefreshed(ticket, socket) => {
                self.handle_refreshed(ticket, &socket, now_ms).await;
            }
            Command::SocketNarrowed(ticket, socket, capabilities) => {
                self.handle_narrowed((ticket, &socket), &capabilities, now_ms).await;
            }
            Command::CatchUp(catch_up) => self.handle_catch_up(*catch_up, now_ms).await,
            Command::Refill(refill) => self.handle_refill(*refill, now_ms).await,
            Command::Delivered(delivered) => self.handle_delivered(*delivered, now_ms).await,
            Command::LinkGone(link) => self.handle_link_gone(link, now_ms),
            Command::Query(query) => self.handle_query(*query, now_ms).await,
        }
    }

    fn is_member(&self, room: &RoomKey, socket: SocketKey) -> bool {
        self.rooms.get(room).is_some_and(|room| room.contains(socket))
    }

    /// The room, with members or about to have one.
    fn room(&mut self, key: &RoomKey) -> &mut Room {
        self.rooms.entry(key.clone()).or_insert_with(|| {
            self.metrics.rooms.increment(1);
            Room::new(self.agenda.list_max())
        })
    }

    /// Forgets the room if nobody is left.
    fn drop_if_empty(&mut self, key: &RoomKey) {
        if self.rooms.get(key).is_some_and(Room::is_empty) {
            self.rooms.remove(key);
            self.metrics.rooms.decrement(1);
        }
    }
}

impl Link {
    fn new(outbox: &Outbox) -> Self {
        let (sockets, catching_up) = (foldhash::HashMap::default(), HashMap::new());
        Self { outbox: outbox.clone(), sockets, catching_up }
    }

    /// Notes that a socket is in a room.
    fn note_membership(&mut self, socket: &Arc<Socket>, key: &RoomKey) {
        let stay = self.sockets.entry(socket.key.handle);
        let stay =
            stay.or_insert_with(|| Stay { socket: Arc::clone(socket), rooms: SmallVec::new() });
        stay.rooms.push(key.clone());
    }

    /// Notes that a socket is no longer in a room.
    fn forget_membership(&mut self, socket: SocketKey, key: &RoomKey) {
        let Some(Stay { rooms, .. }) = self.sockets.get_mut(&socket.handle) else { return };
        rooms.retain(|room| room != key);
        if rooms.is_empty() {
            self.sockets.remove(&socket.handle);
        }
        self.leave_catching_up(socket, key);
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => time::sleep_until(deadline).await,
        None => future::pending().await,
    }
}

#[cfg(test)]
mod tests;
