//! Goes through all that is to be measured, in rounds: each round measures everything once of each server in turn.

use std::{
    io::{self, Write},
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context, ensure};
use clap::Args;

use crate::{
    cores::Cores,
    machine::Machine,
    measure::{Measure, Scale},
    otlp_sink::OtlpSink,
    report,
    results::{Failure, Results, Sample},
    server::{Kind, Programs, Start},
};

#[derive(Debug, Args)]
pub(crate) struct Run {
    /// How much of everything.
    #[arg(long, value_enum, default_value = "quick")]
    scale: Scale,
    /// How often everything is measured.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// What is measured.
    #[arg(long, value_enum, value_delimiter = ',', default_value = ALL_MEASURES)]
    measures: Vec<Measure>,
    /// Of which servers.
    #[arg(long, value_enum, value_delimiter = ',', default_value = ALL_SERVERS)]
    servers: Vec<Kind>,
    /// How often idle clients are pinged, in milliseconds; 25 s with `--scale full` and else
    /// 5 s if nothing is said.
    #[arg(long, value_name = "MS")]
    ping_interval: Option<u64>,
    /// Gives so many of the cores to the clients alone, and the others to the servers: without it, all
    /// share all.
    #[arg(long, value_name = "COUNT")]
    client_cores: Option<usize>,
    /// Also tell what the servers are at while they are measured, which takes `perf` and some of their time.
    #[arg(long)]
    profile: bool,
    /// Where the results are written.
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    #[command(flatten)]
    programs: Programs,
}

const ALL_MEASURES: &str = "fanout1,fanout16,fanout64,fanout256,paced,rooms,echo,hop,idle,burst,waves,churn,storm,mixed,small,large,link,edges";
const ALL_SERVERS: &str = "sockeye,sockeye-untraced,sockeye-json,sockeye-polling,socketioxide,socketioxide-polling,socket-io,socket-io-polling,nestjs,tungstenite,send-loop";

impl Run {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let machine = Machine::describe()?;
        // Before there are other threads, which would have all cores.
        let cores = self.client_cores.map(Cores::divide).transpose()?;
        let spans = OtlpSink::start()?;
        let otlp_endpoint = spans.endpoint();
        let ping_interval =
            self.ping_interval.map(Duration::from_millis).or(self.scale.ping_interval());
        let start = Start {
            programs: &self.programs,
            otlp_endpoint: &otlp_endpoint,
            ping_interval,
            cores,
            is_profiled: self.profile,
        };
        let mut results = Results::new(machine, self.scale, self.rounds);
        results.ping_interval_ms = ping_interval.map(|interval| interval.as_millis() as u64);
        results.client_cores = self.client_cores;
        for round in 1..=self.rounds {
            for measure in &self.measures {
                for kind in self.servers.iter().filter(|kind| measure.is_for(**kind)) {
                    self::measure((round, *measure, *kind), &start, &mut results)?;
                }
            }
            // What there is so far is there, although a later round be stopped.
            results.spans = spans.spans();
            results.write(&self.out)?;
            report::write(&results, &self.out)?;
        }
        ensure!(results.failures.is_empty(), "{} measures have failed", results.failures.len());
        Ok(())
    }
}

/// Does one run, and keeps what came of it.
fn measure(
    (round, measure, kind): (usize, Measure, Kind),
    start: &Start<'_>,
    results: &mut Results,
) -> anyhow::Result<()> {
    let mut out = io::stdout();
    match measure.run(kind, results.scale, start) {
        Ok(values) => {
            let cpu = values.get("cpu_us").map(|cpu| format!("{cpu:.2} us/{}", measure.unit()));
            let memory =
                values.get("resident_bytes").map(|bytes| format!("{bytes:.0} B/connection"));
            let added = values.get("added_p50_us").map(|added| format!("{added:.1} us added"));
            let figures: Vec<_> = [cpu, memory, added].into_iter().flatten().collect();
            let (title, name) = (measure.title(), kind.name());
            writeln!(out, "{round}  {title}: {name}: {}", figures.join(", "))?;
            results.samples.push(Sample { round, measure, server: kind, values });
        }
        Err(error) => {
            let error = format!("{error:#}");
            writeln!(out, "{round}  FAILED: {error}")?;
            results.failures.push(Failure { round, measure, server: kind, error });
        }
    }
    out.flush().context("standard output")
}
