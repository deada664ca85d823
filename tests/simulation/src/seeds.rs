//! Runs many seeds at once, each in a process of its own: what one leaves behind cannot change the next.

use std::{
    env,
    io::{self, Write},
    ops::Range,
    process::{Command, Output},
    sync::Mutex,
    thread,
};

use clap::ValueEnum;

use crate::{
    checker::Tally,
    mutation::Mutation,
    run::{self, Outcome},
};

/// Runs a seed in this process and prints its outcome. Tells whether every promise holds.
pub(crate) fn run_here(seed: u64, mutation: Option<Mutation>, prints: bool) -> bool {
    let Outcome { trace, faults, elapsed, tally, violations } = run::run(seed, mutation, prints);
    let Tally { connections, acked, delivered, recovered, gaps, unavailable } = tally;
    let mut text = format!(
        "seed {seed} trace {trace:016x} simulated {}s faults {faults} connections {connections} acked {acked} \
         delivered {delivered} recovered {recovered} gaps {gaps} unavailable {unavailable}\n",
        elapsed.as_secs()
    );
    for violation in &violations {
        text.push_str(&format!("seed {seed} VIOLATION {violation}\n"));
    }
    io::stdout().lock().write_all(text.as_bytes()).ok();
    violations.is_empty()
}

/// Runs seeds in processes of their own; prints the outcome of those that break a promise, and the sum of all.
pub(crate) fn run_all(seeds: Range<u64>, jobs: Option<usize>, mutation: Option<Mutation>) -> bool {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let state = Mutex::new(State { seeds, sums: Vec::new(), failed: Vec::new() });
    thread::scope(|scope| {
        for _ in 0..jobs.unwrap_or(cores) {
            scope.spawn(|| {
                while let Some(seed) = take(&state) {
                    let outcome = run_in_a_process(seed, mutation);
                    add(&state, seed, outcome);
                }
            });
        }
    });
    let State { sums, failed, .. } = state.into_inner().unwrap_or_else(|error| error.into_inner());
    let mut text = String::from("all");
    for (name, sum) in sums {
        text.push_str(&format!(" {name} {sum}"));
    }
    text.push_str(&format!("\n{} seeds broke a promise: {failed:?}\n", failed.len()));
    io::stdout().lock().write_all(text.as_bytes()).ok();
    failed.is_empty()
}

struct State {
    seeds: Range<u64>,
    /// The numbers of the outcomes, by their names.
    sums: Vec<(String, u64)>,
    failed: Vec<u64>,
}

fn take(state: &Mutex<State>) -> Option<u64> {
    state.lock().unwrap_or_else(|error| error.into_inner()).seeds.next()
}

fn run_in_a_process(seed: u64, mutation: Option<Mutation>) -> io::Result<Output> {
    let mut command = Command::new(env::current_exe()?);
    command.args(["--quiet", "--seed", &seed.to_string()]);
    let mutation = mutation.and_then(|mutation| mutation.to_possible_value());
    if let Some(mutation) = mutation {
        command.args(["--mutation", mutation.get_name()]);
    }
    command.output()
}

fn add(state: &Mutex<State>, seed: u64, outcome: io::Result<Output>) {
    let mut state = state.lock().unwrap_or_else(|error| error.into_inner());
    let (holds, text) = match outcome {
        Ok(output) => {
            let printed = [output.stdout, output.stderr].concat();
            (output.status.success(), String::from_utf8_lossy(&printed).into_owned())
        }
        Err(error) => (false, format!("{error}\n")),
    };
    let words: Vec<&str> = text.lines().next().unwrap_or_default().split(' ').collect();
    for pair in words.chunks_exact(2).skip(2) {
        let [name, value] = pair else { continue };
        let value: u64 = value.trim_end_matches('s').parse().unwrap_or(0);
        match state.sums.iter_mut().find(|(known, _)| known == name) {
            Some((_, sum)) => *sum += value,
            None => state.sums.push(((*name).to_owned(), value)),
        }
    }
    if !holds {
        state.failed.push(seed);
        let again = format!("again with: cargo run --package simulation -- --seed {seed}\n");
        io::stdout().lock().write_all((text + &again).as_bytes()).ok();
    }
}
