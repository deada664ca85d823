//! The page itself, in Markdown.

use std::fmt::{Error, Write};

use super::{chart, goals::GOALS};
use crate::{measure::Measure, profile::At, results::Results, server::Kind};

/// Columns that are shown where a measure has them.
const COLUMNS: [(&str, &str); 15] = [
    ("clients", "clients"),
    ("cpu_us", "CPU µs"),
    ("user_us", "of it user µs"),
    ("cpu_us.edge", "edge µs"),
    ("cpu_us.chat", "chat µs"),
    ("cpu_us.auth", "auth µs"),
    ("resident_bytes", "resident B"),
    ("proportional_bytes", "proportional B"),
    ("resident_bytes.edge", "edge B"),
    ("resident_bytes.chat", "chat B"),
    ("added_p50_us", "added µs"),
    ("per_second", "per second"),
    ("p50_us", "p50 µs"),
    ("p99_us", "p99 µs"),
    ("p999_us", "p999 µs"),
];

/// Those that a server may be.
const PROCESSES: [&str; 4] = ["edge", "chat", "auth", "server"];

pub(crate) fn text(results: &Results) -> Result<String, Error> {
    let mut page = String::new();
    head(&mut page, results)?;
    goals(&mut page, results)?;
    for measure in results.measures() {
        section(&mut page, results, measure)?;
    }
    failures(&mut page, results)?;
    Ok(page)
}

fn head(page: &mut String, results: &Results) -> Result<(), Error> {
    let machine = &results.machine;
    writeln!(page, "# Sockeye beside its peers\n")?;
    writeln!(
        page,
        "{} rounds at scale `{:?}`, begun {} with commit `{}`. {}, {} cores, {:.0} GiB, Linux {}, {}, Node {}; load {} at the \
         beginning. Medians, with the least and the most of the rounds behind them. Idle clients are pinged every {} s. {} spans were exported.\n",
        results.rounds,
        results.scale,
        machine.began_at,
        machine.commit,
        machine.processor,
        machine.cores,
        machine.memory_gib,
        machine.kernel,
        machine.rustc,
        machine.node,
        machine.load,
        results.ping_interval_ms.unwrap_or(25_000) as f64 / 1000.0,
        results.spans,
    )?;
    if let Some(cores) = results.client_cores {
        let others = machine.cores.saturating_sub(cores);
        writeln!(page, "Servers had {others} of the cores to themselves, and clients {cores}.\n")?;
    }
    Ok(())
}

fn goals(page: &mut String, results: &Results) -> Result<(), Error> {
    writeln!(page, "## Ratios\n\n| measure | result | floor | goal | |\n|---|---:|---:|---:|---|")?;
    for goal in &GOALS {
        let result = goal.result(results);
        let (shown, verdict) = (goal.show(result), goal.verdict(result).text());
        let (floor, aim) = (goal.show(goal.floor), goal.show(goal.goal));
        writeln!(page, "| {} | {shown} | {floor} | {aim} | {verdict} |", goal.what)?;
    }
    writeln!(page)
}

fn section(page: &mut String, results: &Results, measure: Measure) -> Result<(), Error> {
    let title = measure.title();
    writeln!(page, "## {title}\n")?;
    if !matches!(measure, Measure::Burst | Measure::Waves | Measure::Hop) {
        writeln!(page, "CPU is per {}.\n", measure.unit())?;
    }
    let (value, _) = chart::subject(measure);
    let servers = results.servers(measure);
    if servers.iter().any(|server| results.value(measure, *server, value).is_some()) {
        writeln!(page, "![{title}]({})\n", chart::file(measure))?;
    }
    let has =
        |name: &str| servers.iter().any(|server| results.value(measure, *server, name).is_some());
    let is_told = |name: &str| has(name) && (name != "per_second" || measure.has_rate());
    let columns: Vec<_> = COLUMNS.iter().filter(|(name, _)| is_told(name)).collect();
    let heads: Vec<_> = columns.iter().map(|(_, head)| *head).collect();
    writeln!(page, "| | {} |\n|---|{}", heads.join(" | "), "---:|".repeat(heads.len()))?;
    for server in &servers {
        let cells: Vec<_> =
            columns.iter().map(|(name, _)| cell(results, measure, *server, name)).collect();
        writeln!(page, "| {} | {} |", server.name(), cells.join(" | "))?;
    }
    writeln!(page)?;
    profile(page, results, measure)
}

/// What the processes were at, where that was looked at.
fn profile(page: &mut String, results: &Results, measure: Measure) -> Result<(), Error> {
    let value = |server, process, at: At| {
        results.value(measure, server, &format!("profile_us.{process}.{}", at.name()))
    };
    let mut rows = Vec::new();
    for server in results.servers(measure) {
        for process in PROCESSES {
            let parts = At::ALL.map(|at| value(server, process, at));
            if parts.iter().any(Option::is_some) {
                let cells =
                    parts.map(|part| part.map_or(0.0, |part| part.median)).map(chart::figure);
                rows.push(format!("| {}: {process} | {} |", server.name(), cells.join(" | ")));
            }
        }
    }
    if rows.is_empty() {
        return Ok(());
    }
    let heads = At::ALL.map(At::name);
    writeln!(page, "What its CPU is spent on, in µs:\n")?;
    writeln!(page, "| | {} |\n|---|{}", heads.join(" | "), "---:|".repeat(heads.len()))?;
    rows.iter().try_for_each(|row| writeln!(page, "{row}"))?;
    writeln!(page)
}

fn cell(results: &Results, measure: Measure, server: Kind, name: &str) -> String {
    let Some(spread) = results.value(measure, server, name) else { return String::new() };
    let [least, median, most] = [spread.least, spread.median, spread.most].map(chart::figure);
    if least == most { median } else { format!("{median} ({least}–{most})") }
}

fn failures(page: &mut String, results: &Results) -> Result<(), Error> {
    if results.failures.is_empty() {
        return Ok(());
    }
    writeln!(page, "## What could not be measured\n")?;
    for failure in &results.failures {
        writeln!(page, "- round {}: {}", failure.round, failure.error)?;
    }
    Ok(())
}
