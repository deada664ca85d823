//! What was measured, as it is kept.

use std::{collections::BTreeSet, fs, path::Path};

use serde::{Deserialize, Serialize};

use crate::{
    machine::Machine,
    measure::{Measure, Scale},
    meter::Values,
    server::Kind,
};

const FILE: &str = "results.json";

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Results {
    pub(crate) machine: Machine,
    pub(crate) scale: Scale,
    pub(crate) rounds: usize,
    /// How often idle clients were pinged; 25 s, if nothing stands here.
    pub(crate) ping_interval_ms: Option<u64>,
    /// How many of the cores were the clients' alone; nothing, if all shared all.
    pub(crate) client_cores: Option<usize>,
    /// How many spans the services have exported.
    pub(crate) spans: u64,
    pub(crate) samples: Vec<Sample>,
    pub(crate) failures: Vec<Failure>,
}

/// One run of one measure.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Sample {
    pub(crate) round: usize,
    pub(crate) measure: Measure,
    pub(crate) server: Kind,
    pub(crate) values: Values,
}

/// One run that has measured nothing, and why.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Failure {
    pub(crate) round: usize,
    pub(crate) measure: Measure,
    pub(crate) server: Kind,
    pub(crate) error: String,
}

/// The middle of the rounds, and their ends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Spread {
    pub(crate) least: f64,
    pub(crate) median: f64,
    pub(crate) most: f64,
}

impl Results {
    pub(crate) const fn new(machine: Machine, scale: Scale, rounds: usize) -> Self {
        Self {
            machine,
            scale,
            rounds,
            ping_interval_ms: None,
            client_cores: None,
            spans: 0,
            samples: Vec::new(),
            failures: Vec::new(),
        }
    }

    pub(crate) fn read(folder: &Path) -> anyhow::Result<Self> {
        Ok(serde_json::from_str(&fs::read_to_string(folder.join(FILE))?)?)
    }

    pub(crate) fn write(&self, folder: &Path) -> anyhow::Result<()> {
        fs::create_dir_all(folder)?;
        Ok(fs::write(folder.join(FILE), serde_json::to_string_pretty(self)? + "\n")?)
    }

    /// All that was measured, in the order of the measures.
    pub(crate) fn measures(&self) -> BTreeSet<Measure> {
        self.samples.iter().map(|sample| sample.measure).collect()
    }

    pub(crate) fn servers(&self, measure: Measure) -> BTreeSet<Kind> {
        let samples = self.samples.iter().filter(|sample| sample.measure == measure);
        samples.map(|sample| sample.server).collect()
    }

    /// A value of all rounds.
    pub(crate) fn value(&self, measure: Measure, server: Kind, name: &str) -> Option<Spread> {
        let is_it = |sample: &&Sample| sample.measure == measure && sample.server == server;
        let samples = self.samples.iter().filter(is_it);
        Spread::of(samples.filter_map(|sample| sample.values.get(name).copied()).collect())
    }
}

impl Spread {
    pub(crate) fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_unstable_by(f64::total_cmp);
        let middle = values.len() / 2;
        let upper = *values.get(middle)?;
        let median =
            if values.len() % 2 == 1 { upper } else { f64::midpoint(values[middle - 1], upper) };
        Some(Self { least: *values.first()?, median, most: *values.last()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_in_the_middle() {
        assert_eq!(Spread::of(vec![]), None);
        let odd = Spread::of(vec![9.0, 1.0, 2.0]);
        assert_eq!(odd, Some(Spread { least: 1.0, median: 2.0, most: 9.0 }));
        let even = Spread::of(vec![4.0, 1.0, 2.0, 9.0]);
        assert_eq!(even, Some(Spread { least: 1.0, median: 3.0, most: 9.0 }));
    }
}
