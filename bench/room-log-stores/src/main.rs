//! Compares stores that a room log on disk could stand on: rates, memory, and what they make of damage.

mod damage;
mod measure;
mod store;
mod with_fjall;
mod with_journal;
mod with_redb;

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::{store::Store, with_fjall::Fjall, with_journal::Journal, with_redb::Redb};

/// Compares stores for the room log. Without a subcommand, measures and damages all of them.
#[derive(Debug, Parser)]
struct Cli {
    /// Where the stores are made. On the kind of disk that is meant, not in memory.
    #[arg(long, default_value = "target/room-log-stores")]
    directory: PathBuf,
    #[command(subcommand)]
    step: Option<Step>,
}

#[derive(Debug, Clone, Copy, Subcommand)]
enum Step {
    /// Appends in groups, with and without fsync; reads 1000 entries, warm and cold.
    Rates,
    /// Memory, size and time to open with 100,000 rooms.
    Idle,
    /// Flips a bit, at many places.
    Damage,
    /// Appends without fsync until it is killed, in a child.
    Kill,
    /// The child of `kill`.
    #[command(hide = true)]
    Victim { candidate: usize },
    /// The child of `idle`.
    #[command(hide = true)]
    Reopen { candidate: usize },
}

fn main() -> Result<()> {
    let Cli { directory, step } = Cli::parse();
    std::fs::create_dir_all(&directory)?;
    match step {
        Some(child @ (Step::Victim { candidate } | Step::Reopen { candidate })) => {
            let candidates = [run_for::<Fjall>, run_for::<Redb>, run_for::<Journal>];
            candidates[candidate](child, &directory, candidate)
        }
        Some(step) => run(step, &directory),
        None => [Step::Rates, Step::Idle, Step::Damage, Step::Kill]
            .into_iter()
            .try_for_each(|step| run(step, &directory)),
    }
}

fn run(step: Step, directory: &Path) -> Result<()> {
    run_for::<Fjall>(step, directory, 0)?;
    run_for::<Redb>(step, directory, 1)?;
    run_for::<Journal>(step, directory, 2)
}

fn run_for<S: Store>(step: Step, directory: &Path, candidate: usize) -> Result<()> {
    match step {
        Step::Rates => measure::rates::<S>(directory),
        Step::Idle => measure::idle::<S>(directory, candidate),
        Step::Damage => damage::flip_bits::<S>(directory),
        Step::Kill => damage::kill::<S>(directory, candidate),
        Step::Victim { .. } => damage::be_killed::<S>(directory),
        Step::Reopen { .. } => measure::reopen::<S>(directory),
    }
}
