//! Runs one seed: starts the hosts, lets things break, heals them, and asks the checker.

use std::{cell::Cell, rc::Rc, time::Duration};

use tokio::task::JoinSet;
use turmoil::Sim;

use crate::{
    bounds, checker,
    client::Client,
    determinism, disk_errors,
    faults::{CLIENT_HOSTS, Faults, Kind, service_hosts},
    gauges::Gauges,
    history::{History, Phase},
    hosts::{self, Skew},
    mutation::{Mutation, Tampering},
    random::Random,
    storage::{Durability, Storage},
    trace::Trace,
};

/// How long one step of the simulation is.
const TICK: Duration = Duration::from_millis(10);

/// How long a message takes at most, where nothing is broken.
pub(crate) const LATENCY_MAX: Duration = Duration::from_millis(40);

/// When faults begin, and when all of them are over.
const CHAOS_FROM: Duration = Duration::from_secs(1);
const CHAOS_UNTIL: Duration = Duration::from_secs(14);

/// How long it may take from then on until everything has caught up: the links' keepalive has to notice what is dead,
/// 15 s, and the sockets of a link that is gone stay for its grace, 10 s.
const CATCH_UP_MAX: Duration = Duration::from_secs(40);

/// How long to wait before everybody is asked again.
const QUESTION_INTERVAL: Duration = Duration::from_secs(2);

/// How many clients there are, and the users that they speak for.
pub(crate) const CLIENTS: usize = 5;
pub(crate) const USERS: usize = 4;

/// What one seed came to.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) trace: u64,
    pub(crate) faults: usize,
    pub(crate) elapsed: Duration,
    pub(crate) tally: checker::Tally,
    pub(crate) violations: Vec<String>,
}

/// Runs a seed to its end.
pub(crate) fn run(seed: u64, mutation: Option<Mutation>, prints: bool) -> Outcome {
    // Before the process gives out the same names each time.
    let storage =
        Storage::new(seed, mutation == Some(Mutation::LyingDisk)).expect("a directory can be made");
    if mutation == Some(Mutation::SilentDisk) {
        disk_errors::be_silent();
    }
    determinism::begin(seed);
    let history = History::new(CLIENTS, prints);
    let mut faults = Faults::plan(&mut Random::new(seed, 1), CHAOS_FROM, CHAOS_UNTIL);
    let mut sim = turmoil::Builder::new()
        .rng_seed(seed)
        .enable_tokio_io()
        .simulation_duration(Duration::MAX)
        .tick_duration(TICK)
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(LATENCY_MAX)
        .tcp_capacity(512)
        .build();
    let skews: Vec<Skew> = service_hosts().iter().map(|_| Rc::new(Cell::new(0))).collect();
    let gauges = start_services(&mut sim, &skews, &storage, mutation);
    start_clients(&mut sim, seed, mutation, &history);

    let mut simulation = Simulation {
        sim,
        skews,
        gauges,
        storage,
        mutation,
        random: Random::new(seed, 2),
        history: Rc::clone(&history),
    };
    let failure = simulation.play(&mut faults);

    let events = history.events.borrow();
    let durability = simulation.durability();
    let mut verdict = checker::check(&events, &faults, durability);
    verdict.violations.extend(failure);
    Outcome {
        trace: Trace::hash(),
        faults: faults.len(),
        elapsed: simulation.sim.elapsed(),
        tally: verdict.tally,
        violations: verdict.violations,
    }
}

fn start_services(
    sim: &mut Sim<'_>,
    skews: &[Skew],
    storage: &Storage,
    mutation: Option<Mutation>,
) -> Vec<(String, Gauges)> {
    let mut all_gauges = Vec::new();
    let history_count_max = if mutation == Some(Mutation::ShortLog) { 1 } else { 1000 };
    let mut args = storage.args();
    args.push(format!("--chat-history-count-max={history_count_max}"));
    for (host, skew) in service_hosts().into_iter().zip(skews) {
        let skew = Rc::clone(skew);
        let gauges = Gauges::default();
        all_gauges.push((host.clone(), gauges.clone()));
        match host.as_str() {
            "chat" => {
                let args = args.clone();
                sim.host(host, move || {
                    let (gauges, chat) =
                        (gauges.clone(), hosts::chat(args.clone(), Rc::clone(&skew)));
                    async move { gauges.record(chat).await }
                });
            }
            "auth" => sim.host(host, move || hosts::auth(Rc::clone(&skew), mutation)),
            _ => sim.host(host, move || {
                let (gauges, edge) = (gauges.clone(), hosts::edge(Rc::clone(&skew), mutation));
                async move { gauges.record(edge).await }
            }),
        }
    }
    all_gauges
}

fn start_clients(sim: &mut Sim<'_>, seed: u64, mutation: Option<Mutation>, history: &Rc<History>) {
    for (place, host) in CLIENT_HOSTS.into_iter().enumerate() {
        let history = Rc::clone(history);
        sim.client(host, async move {
            let mut clients = JoinSet::new();
            for number in (place..CLIENTS).step_by(CLIENT_HOSTS.len()) {
                let user = format!("user-{}", number % USERS);
                let random = Random::new(seed, 100 + number as u64);
                let tampering = Tampering::new(mutation, Random::new(seed, 200 + number as u64));
                let client = Client::new(number, user, Rc::clone(&history), tampering, random);
                clients.spawn_local(client.run());
            }
            if place == 0 && mutation == Some(Mutation::Stowaway) {
                let (random, none) = (Random::new(seed, 3), Random::new(seed, 4));
                let tampering = Tampering::new(None, none);
                let user = "user-0".to_owned();
                let client = Client::new(CLIENTS, user, Rc::clone(&history), tampering, random);
                clients.spawn_local(client.stow_away());
            }
            // They run for as long as the simulation does: one that ends has panicked.
            match clients.join_next().await {
                Some(Err(error)) => Err(error.into()),
                Some(Ok(())) | None => Ok(()),
            }
        });
    }
}

struct Simulation<'a> {
    sim: Sim<'a>,
    skews: Vec<Skew>,
    /// By host.
    gauges: Vec<(String, Gauges)>,
    storage: Storage,
    mutation: Option<Mutation>,
    /// For what a power cut leaves.
    random: Random,
    history: Rc<History>,
}

impl Simulation<'_> {
    /// Goes through all phases; returns why it could not.
    fn play(&mut self, faults: &mut Faults) -> Option<String> {
        while self.sim.elapsed() <= CHAOS_UNTIL {
            let begun = faults.apply(&mut self.sim, &self.skews, &self.history);
            if begun.contains(&Kind::PowerCut)
                && let Err(error) = self.storage.cut_power(&mut self.random)
            {
                return Some(format!("the power cannot be cut: {error}"));
            }
            if let Err(failure) = self.step() {
                return Some(failure);
            }
        }
        faults.heal(&mut self.sim, &self.skews, &self.history);
        if self.mutation == Some(Mutation::Unhealed) {
            self.sim.partition("chat", "edge-0");
        }
        let deadline = self.sim.elapsed() + CATCH_UP_MAX;
        for phase in [Phase::Healed, Phase::LastWords, Phase::Questions] {
            if let Err(failure) = self.pass(phase, deadline) {
                return Some(failure);
            }
        }
        // What goes away by itself may still be there, and is given its time.
        loop {
            let left = bounds::left_over(&self.gauges);
            if left.is_empty() && self.is_settled(faults) {
                return None;
            }
            if self.sim.elapsed() > deadline {
                return (!left.is_empty()).then(|| format!("I7: {}", left.join(", ")));
            }
            let pause_ends = self.sim.elapsed() + QUESTION_INTERVAL;
            while self.sim.elapsed() < pause_ends {
                if let Err(failure) = self.step() {
                    return Some(failure);
                }
            }
            if let Err(failure) = self.pass(Phase::Questions, deadline + QUESTION_INTERVAL) {
                return Some(failure);
            }
        }
    }

    /// What the checker may take for granted.
    fn durability(&self) -> Durability {
        match self.mutation {
            Some(Mutation::ForgetfulLog) => Durability::DiskFsync,
            _ => self.storage.durability,
        }
    }

    fn is_settled(&self, faults: &Faults) -> bool {
        checker::is_settled(&self.history.events.borrow(), faults, self.storage.durability)
    }

    /// Goes through one phase, until every client has done what it asks for.
    fn pass(&mut self, phase: Phase, deadline: Duration) -> Result<(), String> {
        self.history.enter(phase);
        while !self.history.all_done() {
            if self.sim.elapsed() > deadline {
                let done = self.history.is_done.borrow();
                return Err(format!("I10: not all is done in phase {phase:?}: {done:?}"));
            }
            self.step()?;
        }
        Ok(())
    }

    fn step(&mut self) -> Result<(), String> {
        determinism::set_elapsed(self.sim.elapsed());
        let exceeded = bounds::exceeded(&self.gauges);
        if !exceeded.is_empty() {
            return Err(format!("I7: {}", exceeded.join(", ")));
        }
        match self.sim.step() {
            Ok(false) => Ok(()),
            Ok(true) => Err("all clients have ended".to_owned()),
            Err(error) => Err(format!("a host has failed: {error}")),
        }
    }
}
