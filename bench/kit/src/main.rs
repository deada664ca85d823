//! Measures Sockeye beside other servers, in one run on one machine.

mod client;
mod cores;
mod machine;
mod measure;
mod meter;
mod otlp_sink;
mod process;
mod profile;
mod report;
mod results;
mod run;
mod server;

use std::path::PathBuf;

use clap::Parser;

use self::{measure::Hold, results::Results, run::Run};

#[derive(Debug, Parser)]
#[command(about)]
enum Cli {
    /// Measures, and writes what was measured and a report of it.
    #[command(args_override_self = true)]
    Run(Run),
    /// Writes the report of a run anew.
    Report {
        /// The folder of the run.
        folder: PathBuf,
    },
    /// Keeps clients connected until its input ends.
    #[command(hide = true)]
    Hold(Hold),
    /// Sends whatever arrives to all who are connected.
    #[command(hide = true)]
    Relay,
}

fn main() -> anyhow::Result<()> {
    match Cli::parse() {
        Cli::Run(run) => run.run(),
        Cli::Report { folder } => report::write(&Results::read(&folder)?, &folder),
        Cli::Hold(hold) => hold.run(),
        Cli::Relay => server::relay(),
    }
}
