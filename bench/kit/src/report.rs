//! Tells what was measured: a page with tables and charts.

mod chart;
mod goals;
mod page;

use std::{fs, path::Path};

use crate::results::Results;

/// Writes the page and its charts beside the results.
pub(crate) fn write(results: &Results, folder: &Path) -> anyhow::Result<()> {
    for measure in results.measures() {
        if let Some(chart) = chart::draw(results, measure) {
            fs::write(folder.join(chart::file(measure)), chart)?;
        }
    }
    Ok(fs::write(folder.join("report.md"), page::text(results)?)?)
}
