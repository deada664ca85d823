//! Counts, under callgrind, the instructions that the codecs take, and compares them with what they took before.
//!
//! `codec-instructions check` fails where they take more or fewer than `baseline.json` says; `write` writes that file.

mod work;

use std::{
    collections::BTreeMap, env, fs, hint::black_box, io::Write, path::Path, process::Command,
};

use anyhow::{Context, bail, ensure};

use self::work::{Work, all};

/// How much a count may differ, as a part of it: what other versions of the C library make of copying bytes.
const TOLERANCE: f64 = 0.03;
/// How often a piece of work is done: the difference of the two counts has nothing of what comes before and after it.
const FEW: u32 = 1000;
const MANY: u32 = 3000;

type Counts = BTreeMap<String, f64>;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(|argument| &**argument).collect();
    let baseline = Path::new(env!("CARGO_MANIFEST_DIR")).join("baseline.json");
    match *arguments {
        ["do", name, times] => perform(name, times.parse()?),
        ["check"] => check(&serde_json::from_str(&fs::read_to_string(baseline)?)?, &count_all()?),
        ["write"] => {
            let counts = serde_json::to_string_pretty(&count_all()?)?;
            Ok(fs::write(baseline, counts + "\n")?)
        }
        _ => bail!("usage: codec-instructions check | write | do WORK TIMES"),
    }
}

fn perform(name: &str, times: u32) -> anyhow::Result<()> {
    let (_, work) = all().into_iter().find(|(known, _)| *known == name).context("no such work")?;
    let mut work: Work = work();
    for _ in 0..times {
        black_box(work());
    }
    Ok(())
}

fn count_all() -> anyhow::Result<Counts> {
    let mut counts = Counts::new();
    for (name, _) in all() {
        let each = (count(name, MANY)? - count(name, FEW)?) / f64::from(MANY - FEW);
        counts.insert(name.to_owned(), each.round());
    }
    Ok(counts)
}

/// Counts the instructions of a process that does a piece of work so many times.
fn count(name: &str, times: u32) -> anyhow::Result<f64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(env::current_exe()?)
        .args(["do", name, &times.to_string()])
        .output()
        .context("valgrind cannot be started")?;
    let log = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{log}");
    collected(&log).with_context(|| format!("callgrind tells no count: {log}"))
}

/// Finds the count in what callgrind says at the end.
fn collected(log: &str) -> Option<f64> {
    let line = log.lines().find_map(|line| line.split_once("Collected : "))?;
    line.1.trim().parse().ok()
}

fn check(baseline: &Counts, counts: &Counts) -> anyhow::Result<()> {
    let mut out = std::io::stdout();
    for (name, count) in counts {
        let before = baseline.get(name).map_or_else(|| "none".to_owned(), f64::to_string);
        writeln!(out, "{name:<24} {count:>8} instructions, baseline {before}")?;
    }
    let wrong = differing(baseline, counts);
    ensure!(
        wrong.is_empty(),
        "not within {TOLERANCE} of the baseline: {}; if that is meant, `codec-instructions write`",
        wrong.join(", ")
    );
    Ok(())
}

/// Names what takes more or fewer than it should, is new, or is gone.
fn differing<'a>(baseline: &'a Counts, counts: &'a Counts) -> Vec<&'a str> {
    let is_close = |name: &str, count: &f64| {
        baseline.get(name).is_some_and(|before| (count - before).abs() <= before * TOLERANCE)
    };
    let changed = counts.iter().filter(|(name, count)| !is_close(name, count));
    let gone = baseline.iter().filter(|(name, _)| !counts.contains_key(*name));
    changed.chain(gone).map(|(name, _)| &**name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_work_can_be_done() {
        for (name, _) in all() {
            perform(name, 2).unwrap();
        }
    }

    #[test]
    fn a_count_is_found_in_the_log() {
        assert_eq!(collected("==7== Events    : Ir\n==7== Collected : 123456\n"), Some(123_456.0));
        assert_eq!(collected("==7== Events    : Ir\n"), None);
    }

    #[test]
    fn what_differs_is_named() {
        let counts = |decode, name: &str| {
            Counts::from([("decode".to_owned(), decode), (name.to_owned(), 50.0)])
        };

        assert_eq!(differing(&counts(100.0, "x"), &counts(103.0, "x")), Vec::<&str>::new());
        assert_eq!(differing(&counts(100.0, "x"), &counts(104.0, "x")), ["decode"]);
        assert_eq!(differing(&counts(100.0, "x"), &counts(96.0, "x")), ["decode"]);
        assert_eq!(differing(&counts(100.0, "x"), &counts(100.0, "y")), ["y", "x"]);
    }
}
