//! Finds out how far clients have got what their rooms' logs gave them, for business services that want to know.
//!
//! Whoever answers a ping, or polls again, has got what was sent before. So nothing is noted per recipient when something is
//! sent: the room is, and once in a while its members are asked where they stand.

use std::{
    collections::{HashMap, HashSet},
    rc::Rc,
    time::{Duration, Instant},
};

use edge_protocol::{engine_io::PING_TEXT_FRAME, websocket::PING_FRAME};
use foldhash::fast::FixedState;
use proto::edge::v1::{Delivered, Welcome};

use super::{ConnectionKey, LinkKey, NamespaceKey, Shard, SocketKey, Wire, rooms::RoomKey};
use crate::socket::Stage;

/// Most sockets in one report.
const REPORTED_SOCKETS_MAX: usize = 4096;

/// See the module.
#[derive(Debug)]
pub(super) struct Confirmations {
    /// Most often that a client is asked.
    interval: Duration,
    next_round_at: Instant,
    /// By namespace: whether its business service wants to know.
    wanted: Vec<bool>,
    /// Rooms whose members were given something since the last round.
    rooms: HashSet<RoomKey, FixedState>,
    /// Clients that were given something by themselves, or could not be asked in the last round.
    owing: HashSet<ConnectionKey, FixedState>,
    /// Clients that have been asked and have not answered.
    asked: HashMap<ConnectionKey, Asked, FixedState>,
    /// Not yet reported.
    arrived: HashMap<Place, Vec<u64>, FixedState>,
}

/// A question that is under way.
#[derive(Debug)]
struct Asked {
    /// There is a ping before it that was not answered.
    is_second: bool,
    /// What the answer stands for.
    given: Vec<Given>,
}

/// How far a socket has been given a room's log.
#[derive(Debug)]
struct Given {
    handle: u64,
    place: Place,
}

/// A place in a room's log, as texts that many have in common.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Place {
    namespace: NamespaceKey,
    room: Rc<str>,
    position: Rc<str>,
}

impl Confirmations {
    pub(super) fn new(interval: Duration, namespaces: usize, now: Instant) -> Self {
        Self {
            interval,
            next_round_at: now,
            wanted: vec![false; namespaces],
            rooms: HashSet::default(),
            owing: HashSet::default(),
            asked: HashMap::default(),
            arrived: HashMap::default(),
        }
    }

    fn is_wanted(&self, namespace: NamespaceKey) -> bool {
        self.wanted.get(namespace.index()).copied().unwrap_or_default()
    }

    fn note_arrived(&mut self, given: Vec<Given>) {
        for Given { handle, place } in given {
            self.arrived.entry(place).or_default().push(handle);
        }
    }

    /// Forgets a connection that has ended: what is not known to have arrived is not reported.
    pub(super) fn forget(&mut self, connection: ConnectionKey) {
        self.owing.remove(&connection);
        self.asked.remove(&connection);
    }
}

impl Shard {
    /// A business service says of which of its namespaces it wants to know.
    pub(super) fn want_confirmations(&mut self, link: LinkKey, welcome: &Welcome) {
        for (namespace, wanted) in self.namespaces.iter().zip(&mut self.confirmations.wanted) {
            if namespace.link == link {
                *wanted = welcome.delivery_reports.contains(&namespace.settings.path);
            }
        }
    }

    /// The members of a room were given something of its log.
    pub(super) fn note_given(&mut self, namespace: NamespaceKey, room: &str) {
        if self.confirmations.is_wanted(namespace)
            && let Some(room) = self.rooms.key_of(namespace, room)
        {
            self.confirmations.rooms.insert(room);
        }
    }

    /// One socket was.
    pub(super) fn note_given_to(&mut self, key: SocketKey) {
        if let Some(socket) = self.sockets.get(key.index())
            && self.confirmations.is_wanted(socket.namespace)
        {
            self.confirmations.owing.insert(socket.connection);
        }
    }

    /// A business service that starts anew may not have kept what its predecessor was told, and there may be no message for
    /// long: whoever is here is asked in the next round.
    pub(super) fn ask_all(&mut self, link: LinkKey) {
        let sockets = self.sockets.iter().map(|(_, socket)| socket);
        let wanted = sockets.filter(|socket| {
            self.belongs_to(link, socket) && self.confirmations.is_wanted(socket.namespace)
        });
        let connections: Vec<ConnectionKey> = wanted.map(|socket| socket.connection).collect();
        self.confirmations.owing.extend(connections);
    }

    /// Asks whoever was given something, if it is time to, and reports what has arrived.
    pub(super) fn see_to_confirmations(&mut self, now: Instant) {
        let is_due = now >= self.confirmations.next_round_at;
        if is_due && !(self.confirmations.rooms.is_empty() && self.confirmations.owing.is_empty()) {
            self.confirmations.next_round_at = now + self.confirmations.interval;
            self.ask_for_confirmations();
        }
        if !self.confirmations.arrived.is_empty() {
            self.report_arrived();
        }
    }

    fn ask_for_confirmations(&mut self) {
        let owing = std::mem::take(&mut self.confirmations.owing);
        let rooms = std::mem::take(&mut self.confirmations.rooms);
        let mut given: HashMap<ConnectionKey, Vec<Given>, FixedState> = HashMap::default();
        for connection in &owing {
            given.insert(*connection, self.given_to(*connection));
        }
        for room in rooms {
            for (connection, one) in self.given_in(room) {
                if !owing.contains(&connection) {
                    given.entry(connection).or_default().push(one);
                }
            }
        }
        for (connection, given) in given {
            self.ask_for_confirmation(connection, given);
        }
    }

    /// How far the sockets of a connection were given the logs of their rooms.
    fn given_to(&mut self, connection: ConnectionKey) -> Vec<Given> {
        let sockets = self.entry(connection).map(|entry| entry.wire.sockets()).unwrap_or_default();
        let mut given = Vec::new();
        for key in sockets {
            let Some(socket) = self.sockets.get(key.index()) else { continue };
            let namespace = socket.namespace;
            if !self.confirmations.is_wanted(namespace) || !matches!(socket.stage, Stage::Live) {
                continue;
            }
            let rooms = self.rooms.rooms_of(key).filter(|(_, position)| !position.is_empty());
            given.extend(rooms.map(|(room, position)| {
                let place = Place { namespace, room: room.into(), position: position.into() };
                Given { handle: socket.handle, place }
            }));
        }
        given
    }

    /// How far the members of a room were given its log, and on which connections.
    fn given_in(&self, room: RoomKey) -> Vec<(ConnectionKey, Given)> {
        let Some((namespace, room, members)) = self.rooms.standings(room) else {
            return Vec::new();
        };
        let mut last: Rc<str> = "".into();
        let given = members.filter_map(|(key, position)| {
            let socket = self.sockets.get(key.index())?;
            if position.is_empty() || !matches!(socket.stage, Stage::Live) {
                return None;
            }
            if *last != *position {
                last = position.into();
            }
            let place = Place { namespace, room: Rc::clone(room), position: Rc::clone(&last) };
            Some((socket.connection, Given { handle: socket.handle, place }))
        });
        given.collect()
    }

    /// Asks a client, or notes that it is to be asked later: while something waits to be written a ping would overtake it.
    fn ask_for_confirmation(&mut self, key: ConnectionKey, given: Vec<Given>) {
        if given.is_empty() {
            return;
        }
        let is_asked = self.confirmations.asked.contains_key(&key);
        let Some(entry) = self.entry(key) else { return };
        if is_asked || entry.connection.is_behind() {
            self.confirmations.owing.insert(key);
            return;
        }
        if let Some(polling) = entry.connection.polling_state() {
            // It polls again only when it has read the answer to its last poll.
            if polling.is_polled.get() {
                self.confirmations.note_arrived(given);
            } else {
                self.confirmations.owing.insert(key);
            }
            return;
        }
        // The older ones ping by themselves, and take only pings of the WebSocket.
        let (ping, is_second): (&[u8], bool) = match entry.wire {
            Wire::SocketIo(_) => (&PING_TEXT_FRAME, entry.heartbeat.is_pong_awaited()),
            Wire::PlainJson(_) => (&PING_FRAME, entry.heartbeat.is_pong_awaited()),
            Wire::SocketIo2(_) => (&PING_FRAME, false),
        };
        self.confirmations.asked.insert(key, Asked { is_second, given });
        self.send_control(key, ping);
    }

    /// A pong has come. Returns whether it answers what the client was asked here, and no ping of its heartbeat.
    pub(super) fn is_confirmation(&mut self, key: ConnectionKey) -> bool {
        let Some(asked) = self.confirmations.asked.get_mut(&key) else { return false };
        if std::mem::take(&mut asked.is_second) {
            return false;
        }
        if let Some(Asked { given, .. }) = self.confirmations.asked.remove(&key) {
            self.confirmations.note_arrived(given);
        }
        true
    }

    fn report_arrived(&mut self) {
        for (place, sockets) in std::mem::take(&mut self.confirmations.arrived) {
            let Place { namespace, room, position } = place;
            let Some(link) = self.link_of(namespace) else { continue };
            if link.is_full() {
                // They are asked again.
                for handle in sockets {
                    if let Some(key) = self.socket_by_handle(handle) {
                        self.note_given_to(key);
                    }
                }
                continue;
            }
            for sockets in sockets.chunks(REPORTED_SOCKETS_MAX) {
                let (room, position) = (room.as_ref().to_owned(), position.as_ref().to_owned());
                link.report_delivery(Delivered { sockets: sockets.to_vec(), room, position });
            }
        }
    }
}
