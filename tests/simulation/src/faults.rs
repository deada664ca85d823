//! What is done to the system, and when: a plan that follows from the seed.

use std::time::Duration;

use turmoil::Sim;

use crate::{
    client::EDGES,
    disk_errors::{self, DiskError},
    history::History,
    hosts::Skew,
    random::Random,
    storage::Durability,
};

/// How long a client's connection may still end because of a fault that is over: silence has to be noticed.
const AFTERMATH: Duration = Duration::from_secs(10);

/// How long after a fault an edge may still be without its service: it pings a silent one after 2 s, gives it 3 s more, and
/// is up to a second late with its next attempt. After that it may be told that the service was restarted.
const LINK_AFTERMATH: Duration = Duration::from_secs(7);

/// How long a chat service has to start before its disk may fail: one that finds such a disk does not start at all.
const START_TIME: Duration = Duration::from_millis(100);

/// How much room a full disk has at most: a message takes some 200 bytes.
const DISK_ROOM_BYTES_MAX: u64 = 500;

/// How far wall clocks are moved at most.
const SKEW_MS_MAX: u64 = 3_600_000;

/// One way in which something is broken for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The process is killed, and started again.
    Down { host: String },
    /// The chat service's machine loses its power: nobody hears of it, and the disk has what it has.
    PowerCut,
    /// The chat service's disk fails, until the process is started again with one that does not.
    DiskFails { how: DiskError },
    /// What is sent between two hosts is lost.
    Cut { a: String, b: String },
    /// What is sent one way is lost.
    OneWay { from: String, to: String },
    /// What is sent between two hosts comes later, all of it.
    Held { a: String, b: String },
    /// What is sent between two hosts takes long, each piece another time.
    Slow { a: String, b: String },
    /// A wall clock is wrong.
    Skewed { host: usize, skew_ms: i64 },
}

#[derive(Debug, Clone)]
pub(crate) struct Fault {
    pub(crate) kind: Kind,
    pub(crate) from: Duration,
    pub(crate) until: Duration,
    begun: bool,
    ended: bool,
}

/// The plan.
#[derive(Debug)]
pub(crate) struct Faults {
    list: Vec<Fault>,
}

/// The hosts that services run on; their clocks can be wrong.
pub(crate) fn service_hosts() -> Vec<String> {
    let edges = (0..EDGES).map(|edge| format!("edge-{edge}"));
    edges.chain(["chat".to_owned(), "auth".to_owned()]).collect()
}

/// The hosts that clients run on.
pub(crate) const CLIENT_HOSTS: [&str; 2] = ["clients-0", "clients-1"];

impl Faults {
    /// Makes a plan for the time from `from` to `until`, after which nothing is broken.
    pub(crate) fn plan(random: &mut Random, from: Duration, until: Duration) -> Self {
        let span_ms = u64::try_from((until - from).as_millis()).unwrap_or(u64::MAX);
        let mut list: Vec<Fault> = Vec::new();
        for _ in 0..random.between(2, 9) {
            let start = from + Duration::from_millis(random.below(span_ms));
            if random.one_in(6) {
                swizzle(random, start, &mut list);
                continue;
            }
            let kind = draw(random);
            let length = match &kind {
                Kind::Down { .. } | Kind::PowerCut | Kind::DiskFails { .. } => {
                    random.between(50, 6000)
                }
                Kind::Cut { .. } | Kind::OneWay { .. } => random.between(100, 12_000),
                Kind::Held { .. } | Kind::Slow { .. } => random.between(100, 5000),
                Kind::Skewed { .. } => random.between(1000, 10_000),
            };
            list.push(Fault::new(kind, start, start + Duration::from_millis(length)));
        }
        for fault in &mut list {
            fault.until = fault.until.min(until);
        }
        // One at a time breaks a host or a link: the end of the first would be the end of the second as well.
        list.sort_by_key(|fault| fault.from);
        let mut kept: Vec<Fault> = Vec::new();
        for fault in list {
            let needs_start = matches!(fault.kind, Kind::DiskFails { .. });
            let pause = if needs_start { START_TIME } else { Duration::ZERO };
            let is_apart = |other: &Fault| {
                other.until + pause < fault.from || !other.kind.concerns_the_same(&fault.kind)
            };
            if kept.iter().all(is_apart) {
                kept.push(fault);
            }
        }
        Self { list: kept }
    }

    /// A plan of one fault.
    #[cfg(test)]
    pub(crate) fn only(kind: Kind, from: Duration, until: Duration) -> Self {
        Self { list: vec![Fault::new(kind, from, until)] }
    }

    /// Ends whatever has begun.
    pub(crate) fn heal(&mut self, sim: &mut Sim<'_>, skews: &[Skew], history: &History) {
        for fault in self.list.iter_mut().filter(|fault| fault.begun && !fault.ended) {
            fault.ended = true;
            history.note_fault(&format!("healed: {:?}", fault.kind));
            fault.kind.end(sim, skews);
        }
    }

    /// Begins and ends what is due; returns what has begun.
    pub(crate) fn apply(
        &mut self,
        sim: &mut Sim<'_>,
        skews: &[Skew],
        history: &History,
    ) -> Vec<Kind> {
        let mut begun = Vec::new();
        let now = sim.elapsed();
        for fault in &mut self.list {
            if fault.begun && !fault.ended && fault.until <= now {
                fault.ended = true;
                history.note_fault(&format!("over: {:?}", fault.kind));
                fault.kind.end(sim, skews);
            }
        }
        for fault in &mut self.list {
            if !fault.begun && fault.from <= now {
                fault.begun = true;
                history.note_fault(&format!("fault: {:?}", fault.kind));
                fault.kind.begin(sim, skews);
                begun.push(fault.kind.clone());
            }
        }
        begun
    }

    /// Whether a connection between these may have ended, or been silent, at this time.
    pub(crate) fn excuse(&self, edge: usize, clients: &str, at: Duration) -> bool {
        let edge = format!("edge-{edge}");
        self.list.iter().any(|fault| {
            let is_near = fault.from <= at && at <= fault.until + AFTERMATH;
            is_near && fault.kind.breaks(&edge, clients)
        })
    }

    /// Whether an edge may have had the time wrong when it let a client in that hears of it now.
    pub(crate) fn is_skewed(&self, edge: usize, at: Duration) -> bool {
        self.list.iter().any(|fault| {
            let is_near = fault.from <= at && at <= fault.until + AFTERMATH;
            is_near && matches!(fault.kind, Kind::Skewed { host, .. } if host == edge)
        })
    }

    /// Whether an edge may have been without its service at this time, or the service without its disk, and so may have
    /// refused an event. A service without its disk refuses messages only.
    pub(crate) fn excuse_refusal(&self, edge: usize, event: &str, at: Duration) -> bool {
        let edge = format!("edge-{edge}");
        self.list.iter().any(|fault| {
            let is_reading = matches!(fault.kind, Kind::DiskFails { .. }) && event != "message";
            let from = if is_reading { fault.until } else { fault.from };
            let is_near = from <= at && at <= fault.until + LINK_AFTERMATH;
            is_near && fault.kind.cuts_off(&edge)
        })
    }

    /// When some of the logs was lost.
    pub(crate) fn losses(&self, durability: Durability) -> impl Iterator<Item = Duration> {
        let kill = Kind::Down { host: "chat".to_owned() };
        self.list.iter().filter_map(move |fault| {
            let is_power_cut = fault.kind == Kind::PowerCut;
            // Where the disk fails, the process goes on until then.
            let has_failed_disk = matches!(fault.kind, Kind::DiskFails { .. });
            let lost_at = if has_failed_disk { fault.until } else { fault.from };
            let is_lost = match durability {
                Durability::Memory => fault.kind == kill || has_failed_disk || is_power_cut,
                Durability::Disk => is_power_cut,
                Durability::DiskFsync => false,
            };
            is_lost.then_some(lost_at)
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }
}

impl Fault {
    fn new(kind: Kind, from: Duration, until: Duration) -> Self {
        Self { kind, from, until, begun: false, ended: false }
    }
}

impl Kind {
    fn begin(&self, sim: &mut Sim<'_>, skews: &[Skew]) {
        match self {
            Self::Down { host } => sim.crash(host.as_str()),
            Self::PowerCut => {
                // What the system sends for a process that is killed, it does not send here.
                let others: Vec<String> = (0..EDGES).map(|edge| format!("edge-{edge}")).collect();
                others.iter().for_each(|edge| sim.partition("chat", edge.as_str()));
                sim.crash("chat");
                others.iter().for_each(|edge| sim.repair("chat", edge.as_str()));
            }
            Self::DiskFails { how } => disk_errors::set(Some(*how)),
            Self::Cut { a, b } => sim.partition(a.as_str(), b.as_str()),
            Self::OneWay { from, to } => sim.partition_oneway(from.as_str(), to.as_str()),
            Self::Held { a, b } => sim.hold(a.as_str(), b.as_str()),
            Self::Slow { a, b } => {
                let latency = Duration::from_millis(1500);
                sim.set_link_max_message_latency(a.as_str(), b.as_str(), latency);
            }
            Self::Skewed { host, skew_ms } => skews[*host].set(*skew_ms),
        }
    }

    fn end(&self, sim: &mut Sim<'_>, skews: &[Skew]) {
        match self {
            Self::Down { host } => sim.bounce(host.as_str()),
            Self::PowerCut => sim.bounce("chat"),
            Self::DiskFails { .. } => {
                disk_errors::set(None);
                sim.crash("chat");
                sim.bounce("chat");
            }
            Self::Cut { a, b } => sim.repair(a.as_str(), b.as_str()),
            Self::OneWay { from, to } => sim.repair_oneway(from.as_str(), to.as_str()),
            Self::Held { a, b } => sim.release(a.as_str(), b.as_str()),
            Self::Slow { a, b } => {
                let latency = crate::run::LATENCY_MAX;
                sim.set_link_max_message_latency(a.as_str(), b.as_str(), latency);
            }
            Self::Skewed { host, .. } => skews[*host].set(0),
        }
    }

    fn link(&self) -> Option<(&str, &str)> {
        match self {
            Self::Cut { a, b } | Self::Held { a, b } | Self::Slow { a, b } => Some((a, b)),
            Self::OneWay { from, to } => Some((from, to)),
            Self::Down { .. } | Self::PowerCut | Self::DiskFails { .. } | Self::Skewed { .. } => {
                None
            }
        }
    }

    fn breaks(&self, edge: &str, other: &str) -> bool {
        match self {
            Self::Down { host } => host == edge,
            Self::PowerCut | Self::DiskFails { .. } | Self::Skewed { .. } => false,
            Self::Cut { .. } | Self::Held { .. } | Self::Slow { .. } | Self::OneWay { .. } => {
                self.link().is_some_and(|(a, b)| [a, b].contains(&edge) && [a, b].contains(&other))
            }
        }
    }

    /// Whether an edge cannot reach the chat service.
    fn cuts_off(&self, edge: &str) -> bool {
        match self {
            Self::Down { host } => host == "chat",
            Self::PowerCut | Self::DiskFails { .. } => true,
            Self::Skewed { .. } => false,
            Self::Cut { .. } | Self::Held { .. } | Self::Slow { .. } | Self::OneWay { .. } => {
                self.breaks(edge, "chat")
            }
        }
    }

    fn concerns_chat(&self) -> bool {
        match self {
            Self::PowerCut | Self::DiskFails { .. } => true,
            Self::Down { host } => host == "chat",
            Self::Cut { .. }
            | Self::OneWay { .. }
            | Self::Held { .. }
            | Self::Slow { .. }
            | Self::Skewed { .. } => self.link().is_some_and(|(a, b)| a == "chat" || b == "chat"),
        }
    }

    fn concerns_the_same(&self, other: &Self) -> bool {
        match (self, other) {
            // It takes the service down, and its links.
            (Self::PowerCut, _) => other.concerns_chat(),
            (_, Self::PowerCut) => self.concerns_chat(),
            // Its end is a start of the process.
            (Self::DiskFails { .. }, Self::DiskFails { .. }) => true,
            (Self::DiskFails { .. }, Self::Down { host })
            | (Self::Down { host }, Self::DiskFails { .. }) => host == "chat",
            (Self::Down { host }, Self::Down { host: other }) => host == other,
            (Self::Skewed { host, .. }, Self::Skewed { host: other, .. }) => host == other,
            _ => match (self.link(), other.link()) {
                (Some((a, b)), Some(other)) => other == (a, b) || other == (b, a),
                _ => false,
            },
        }
    }
}

fn draw(random: &mut Random) -> Kind {
    let (a, b) = draw_link(random);
    match random.below(18) {
        14 | 15 => Kind::PowerCut,
        16 | 17 => Kind::DiskFails { how: draw_disk_error(random) },
        0..3 => Kind::Down { host: "chat".to_owned() },
        3 | 4 => Kind::Down { host: format!("edge-{}", random.below(EDGES as u64)) },
        5 => Kind::Down { host: "auth".to_owned() },
        6 | 7 => Kind::Cut { a, b },
        8 | 9 if random.one_in(2) => Kind::OneWay { from: a, to: b },
        8 | 9 => Kind::OneWay { from: b, to: a },
        10 => Kind::Held { a, b },
        11 => Kind::Slow { a, b },
        _ => {
            let skew_ms = random.between(1, SKEW_MS_MAX).cast_signed();
            let host = usize::try_from(random.below(service_hosts().len() as u64)).unwrap_or(0);
            Kind::Skewed { host, skew_ms: if random.one_in(2) { skew_ms } else { -skew_ms } }
        }
    }
}

fn draw_disk_error(random: &mut Random) -> DiskError {
    if random.one_in(2) {
        return DiskError::Unsynced;
    }
    DiskError::Full { room_bytes: usize::try_from(random.below(DISK_ROOM_BYTES_MAX)).unwrap_or(0) }
}

fn links() -> Vec<(String, String)> {
    let edges: Vec<String> = (0..EDGES).map(|edge| format!("edge-{edge}")).collect();
    let others = ["chat", "auth"].into_iter().chain(CLIENT_HOSTS);
    others
        .flat_map(|other| edges.iter().map(move |edge| (other.to_owned(), edge.clone())))
        .collect()
}

fn draw_link(random: &mut Random) -> (String, String) {
    // That of an edge and the chat service is the one that matters most.
    if random.one_in(2) {
        return ("chat".to_owned(), format!("edge-{}", random.below(EDGES as u64)));
    }
    random.pick(&links()).clone()
}

/// Stops some links one after the other, and lets them go on in another order.
fn swizzle(random: &mut Random, start: Duration, list: &mut Vec<Fault>) {
    let mut chosen = links();
    random.shuffle(&mut chosen);
    chosen.truncate(usize::try_from(random.between(2, 5)).unwrap_or(2));
    let mut at = start;
    let mut begins = Vec::new();
    for link in chosen {
        begins.push((link, at));
        at += Duration::from_millis(random.between(20, 600));
    }
    random.shuffle(&mut begins);
    for ((a, b), from) in begins {
        at += Duration::from_millis(random.between(20, 600));
        list.push(Fault::new(Kind::Held { a, b }, from, at));
    }
}
