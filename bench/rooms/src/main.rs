//! Measures, against a running system of one process: how many messages per second are acknowledged and how long that takes,
//! how long it takes to give many clients at once what they missed, and what idle rooms cost.

mod acknowledged;
mod client;
mod idle;
mod replay;
mod system;

use std::{io::Write, path::PathBuf};

use clap::{Parser, Subcommand};

use self::{acknowledged::Acknowledged, idle::Idle, replay::Replay, system::Durability};

#[derive(Debug, Parser)]
struct Cli {
    /// The binary to measure.
    #[arg(long, default_value = "target/release/sockeye")]
    sockeye: PathBuf,
    /// What an acknowledged message survives; each is measured in its turn.
    #[arg(long, value_delimiter = ',', default_value = "memory,disk,disk+fsync")]
    durability: Vec<Durability>,
    /// Where the data directories are made. It should be on the disk that is meant.
    #[arg(long, default_value = "target")]
    folder: PathBuf,
    #[command(subcommand)]
    measure: Measure,
}

#[derive(Debug, Subcommand)]
enum Measure {
    /// Messages acknowledged per second, and how long an acknowledgement takes.
    Acknowledged(Acknowledged),
    /// How long it takes until all of many clients, who come back at the same time, have what they missed.
    Replay(Replay),
    /// Memory and disk that many rooms cost in which nothing happens any more.
    Idle(Idle),
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let mut out = std::io::stdout();
    for durability in &cli.durability {
        let mut system = system::System::start(&cli.sockeye, *durability, &cli.folder).await?;
        let line = match &cli.measure {
            Measure::Acknowledged(measure) => measure.run(&system).await?,
            Measure::Replay(measure) => measure.run(&system).await?,
            Measure::Idle(measure) => measure.run(&mut system).await?,
        };
        writeln!(out, "{durability:<10} {line}")?;
        system.stop().await?;
    }
    Ok(())
}
