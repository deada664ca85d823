//! Counts, under callgrind, the instructions that pieces of work take, and compares them with what they took before.

use std::{
    collections::BTreeMap, env, fs, hint::black_box, io::Write, path::Path, process::Command,
};

use anyhow::{Context, bail, ensure};

/// How often a piece of work is done before it is counted: what is done once has been done then.
const WARM_UPS: u32 = 3;

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

type Counts = BTreeMap<String, f64>;

/// Something that is done again and again. It returns a number that depends on all of it.
pub type Work = Box<dyn FnMut() -> usize>;

/// A piece of work under its name.
#[expect(missing_debug_implementations, reason = "a function has nothing to tell")]
pub struct Named {
    /// What it is called in the baseline and on the command line.
    pub name: &'static str,
    /// How often it is done to be counted.
    pub times: u32,
    /// Makes it ready. What that takes is not counted.
    pub prepare: fn() -> Work,
}

/// A text frame (RFC 6455) as a client sends it.
#[must_use]
pub fn client_frame(text: &str) -> Vec<u8> {
    let mut frame = vec![0x81];
    match u8::try_from(text.len()) {
        Ok(len) if len < 126 => frame.push(0x80 | len),
        _ => {
            frame.push(0x80 | 126);
            frame.extend((text.len() as u16).to_be_bytes());
        }
    }
    frame.extend(MASK);
    frame.extend(text.bytes().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// Runs a program that counts these pieces of work: `check` compares them with `baseline.json` of the package in `folder`, and
/// fails where one differs by more than `tolerance`, a part of it; `write` writes that file.
///
/// # Errors
///
/// When a count differs from its baseline, Valgrind is not there, or the command line is wrong.
pub fn run(folder: &str, work: &[Named], tolerance: f64) -> anyhow::Result<()> {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(|argument| &**argument).collect();
    let baseline = Path::new(folder).join("baseline.json");
    match *arguments {
        ["do", name, count] => perform(work, name, count.parse()?),
        ["check"] => {
            let counts = count_all(work)?;
            let baseline = serde_json::from_str(&fs::read_to_string(baseline)?)?;
            check(&baseline, &counts, tolerance)
        }
        ["write"] => {
            let counts = serde_json::to_string_pretty(&count_all(work)?)?;
            Ok(fs::write(baseline, counts + "\n")?)
        }
        _ => bail!("usage: check | write | do WORK TIMES"),
    }
}

fn perform(work: &[Named], name: &str, times: u32) -> anyhow::Result<()> {
    let named = work.iter().find(|named| named.name == name).context("no such work")?;
    let mut work = (named.prepare)();
    for _ in 0..WARM_UPS {
        black_box(work());
    }
    counted_by_callgrind(&mut work, times);
    Ok(())
}

/// Callgrind knows it by its name.
#[inline(never)]
fn counted_by_callgrind(work: &mut Work, times: u32) {
    for _ in 0..times {
        black_box(work());
    }
}

fn count_all(work: &[Named]) -> anyhow::Result<Counts> {
    let mut counts = Counts::new();
    for Named { name, times, .. } in work {
        let each = count(name, *times)? / f64::from(*times);
        counts.insert((*name).to_owned(), each.round());
    }
    Ok(counts)
}

/// Counts the instructions of a piece of work that is done so many times in a process of its own, and of nothing around it.
fn count(name: &str, times: u32) -> anyhow::Result<f64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg("--toggle-collect=*counted_by_callgrind*")
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

fn check(baseline: &Counts, counts: &Counts, tolerance: f64) -> anyhow::Result<()> {
    let mut out = std::io::stdout();
    for (name, count) in counts {
        let before = baseline.get(name).map_or_else(|| "none".to_owned(), f64::to_string);
        writeln!(out, "{name:<24} {count:>10} instructions, baseline {before}")?;
    }
    let wrong = differing(baseline, counts, tolerance);
    ensure!(
        wrong.is_empty(),
        "not within {tolerance} of the baseline: {}; if that is meant, run it with `write`",
        wrong.join(", ")
    );
    Ok(())
}

/// Names what takes more or fewer than it should, is new, or is gone.
fn differing<'a>(baseline: &'a Counts, counts: &'a Counts, tolerance: f64) -> Vec<&'a str> {
    let is_close = |name: &str, count: &f64| {
        baseline.get(name).is_some_and(|before| (count - before).abs() <= before * tolerance)
    };
    let changed = counts.iter().filter(|(name, count)| !is_close(name, count));
    let gone = baseline.iter().filter(|(name, _)| !counts.contains_key(*name));
    changed.chain(gone).map(|(name, _)| &**name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

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

        assert_eq!(differing(&counts(100.0, "x"), &counts(103.0, "x"), 0.03), Vec::<&str>::new());
        assert_eq!(differing(&counts(100.0, "x"), &counts(104.0, "x"), 0.03), ["decode"]);
        assert_eq!(differing(&counts(100.0, "x"), &counts(96.0, "x"), 0.03), ["decode"]);
        assert_eq!(differing(&counts(100.0, "x"), &counts(100.0, "y"), 0.03), ["y", "x"]);
    }
}
