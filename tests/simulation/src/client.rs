//! A client: one user on one device, who wants to be in some rooms, says things there, and comes back after each break.

mod asked;
mod connection;
mod reading;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    rc::Rc,
    time::Duration,
};

use tokio::time;

use self::connection::Connection;
use crate::{
    determinism,
    history::{History, Phase, Position, Seen},
    mutation::Tampering,
    random::Random,
};

/// How many edges there are to connect to.
pub(crate) const EDGES: usize = 2;

/// The rooms that there are.
pub(crate) const ROOMS: [&str; 3] = ["attic", "cellar", "garden"];

/// How long a client waits before it tries again.
const PAUSE_MS: (u64, u64) = (20, 800);

/// How long a token lasts.
const LIFETIME_MS: (u64, u64) = (3000, 12_000);

/// A message that has not been acknowledged.
#[derive(Debug, Clone)]
struct Unsaid {
    room: String,
    id: String,
    /// It is on its way on the present connection.
    is_under_way: bool,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Client {
    number: usize,
    user: String,
    history: Rc<History>,
    random: Random,
    edge: usize,
    wanted: BTreeSet<String>,
    /// The last of each room that it has been given, wherever it can go on from there.
    positions: BTreeMap<String, Position>,
    unsaid: VecDeque<Unsaid>,
    said: u64,
    /// What it has done of the last two phases, by room.
    last_words: BTreeSet<String>,
    answered: BTreeSet<String>,
    round: u64,
    tampering: Tampering,
}

impl Client {
    pub(crate) fn new(
        number: usize,
        user: String,
        history: Rc<History>,
        tampering: Tampering,
        mut random: Random,
    ) -> Self {
        let mut wanted: BTreeSet<String> = BTreeSet::new();
        while wanted.is_empty() {
            let chosen = ROOMS.iter().filter(|_| random.below(10) < 7);
            wanted = chosen.map(|room| (*room).to_owned()).collect();
        }
        let edge = usize::from(random.one_in(2));
        Self {
            number,
            user,
            history,
            random,
            edge,
            wanted,
            positions: BTreeMap::new(),
            unsaid: VecDeque::new(),
            said: 0,
            last_words: BTreeSet::new(),
            answered: BTreeSet::new(),
            round: 0,
            tampering,
        }
    }

    /// Runs for as long as the simulation does.
    pub(crate) async fn run(mut self) {
        loop {
            let edge = self.edge;
            let expires = self.draw_expiry();
            if let Some(connection) = Connection::open(&self, edge, expires).await {
                self.history.note(self.number, Seen::Connected { edge, expires });
                let closed = connection.run(&mut self).await;
                self.history.note(self.number, closed);
            } else if self.random.one_in(2) {
                self.edge = (self.edge + 1) % EDGES;
            }
            for unsaid in &mut self.unsaid {
                unsaid.is_under_way = false;
            }
            self.set_done(false);
            let pause = self.random.between(PAUSE_MS.0, PAUSE_MS.1);
            time::sleep(Duration::from_millis(pause)).await;
        }
    }

    /// Is connected for as long as the simulation runs, and does nothing that anybody hears of.
    pub(crate) async fn stow_away(mut self) {
        loop {
            let expires = self.draw_expiry();
            if let Some(connection) = Connection::open(&self, self.edge, expires).await {
                connection.idle().await;
            }
            time::sleep(Duration::from_millis(PAUSE_MS.1)).await;
        }
    }

    /// When its next token ends. Those of the end are worth their time.
    fn draw_expiry(&mut self) -> Duration {
        let lifetime_ms = match self.phase() {
            Phase::Chaos => self.random.between(LIFETIME_MS.0, LIFETIME_MS.1),
            Phase::Healed | Phase::LastWords | Phase::Questions => LIFETIME_MS.1 * 10,
        };
        determinism::elapsed() + Duration::from_millis(lifetime_ms)
    }

    fn phase(&self) -> Phase {
        self.history.phase.get()
    }

    /// Begins again with what each phase asks for.
    fn follow_phase(&mut self) {
        let round = self.history.round.get();
        if round != self.round {
            self.round = round;
            self.answered.clear();
        }
    }

    fn note(&self, seen: Seen) {
        self.history.note(self.number, seen);
    }

    fn set_done(&self, is_done: bool) {
        self.history.is_done.borrow_mut()[self.number] = is_done;
    }

    /// Makes up a message for a room.
    fn think_of(&mut self, room: &str) {
        self.said += 1;
        let id = format!("{}-{}", self.number, self.said);
        self.note(Seen::Sent { room: room.to_owned(), id: id.clone() });
        let room = room.to_owned();
        self.unsaid.push_back(Unsaid { room, id, is_under_way: false });
    }

    /// Changes its mind about a room. The last one it stays in, and those to which it still has something to say.
    fn enter_or_leave(&mut self, room: String) {
        if !self.wanted.contains(&room) {
            self.wanted.insert(room);
        } else if self.wanted.len() > 1 && self.unsaid.iter().all(|unsaid| unsaid.room != room) {
            self.wanted.remove(&room);
            // Whoever leaves of its own will does not ask for what comes after.
            self.positions.remove(&room);
        }
    }
}
