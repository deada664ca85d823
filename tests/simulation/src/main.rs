//! Runs the whole system in one thread on simulated time, with faults, and checks what it promises.

mod bounds;
mod checker;
mod client;
mod determinism;
mod disk_errors;
mod faults;
mod gauges;
mod history;
mod hosts;
mod mutation;
mod network;
mod random;
mod run;
mod seeds;
mod storage;
mod trace;

use std::process::ExitCode;

use clap::Parser;

use crate::mutation::Mutation;

/// Runs seeds of the simulation, each in a process of its own, or one seed in this process.
#[derive(Debug, Parser)]
struct Args {
    /// Runs this seed alone and prints what happens in it.
    #[arg(long, value_name = "SEED")]
    seed: Option<u64>,

    /// How many seeds to run.
    #[arg(long, value_name = "COUNT", default_value = "300")]
    seeds: u64,

    /// The first of them.
    #[arg(long, value_name = "SEED", default_value = "1")]
    first: u64,

    /// How many run at once [default: one for each core].
    #[arg(long, value_name = "COUNT")]
    jobs: Option<usize>,

    /// Breaks the system in a way that the checker must find.
    #[arg(long, value_name = "MUTATION")]
    mutation: Option<Mutation>,

    /// Prints the outcome of the one seed, and not what happens in it.
    #[arg(long, requires = "seed")]
    quiet: bool,
}

fn main() -> ExitCode {
    let Args { seed, seeds, first, jobs, mutation, quiet } = Args::parse();
    let holds = match seed {
        Some(seed) => seeds::run_here(seed, mutation, !quiet),
        None => seeds::run_all(first..first + seeds, jobs, mutation),
    };
    if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
