//! Draws a bar for each server: what one unit of a measure has cost, with the spread of the rounds.

use std::fmt::Write;

use crate::{
    measure::Measure,
    results::{Results, Spread},
    server::Kind,
};

const WIDTH: f64 = 760.0;
const NAMES: f64 = 210.0;
const FIGURES: f64 = 90.0;
const ROW: f64 = 30.0;
const HEAD: f64 = 40.0;

pub(crate) fn file(measure: Measure) -> String {
    format!("{}.svg", format!("{measure:?}").to_lowercase())
}

/// What the bars of a measure are of, and in which unit.
pub(crate) fn subject(measure: Measure) -> (&'static str, String) {
    if matches!(measure, Measure::Burst | Measure::Waves) {
        ("resident_bytes", "bytes per connection".to_owned())
    } else if measure == Measure::Paced {
        ("p99_us", "µs until delivered, p99".to_owned())
    } else if measure == Measure::Hop {
        ("added_p50_us", "µs added by the business service, p50".to_owned())
    } else {
        ("cpu_us", format!("µs of CPU per {}", measure.unit()))
    }
}

pub(crate) fn draw(results: &Results, measure: Measure) -> Option<String> {
    let (value, unit) = subject(measure);
    let bars: Vec<(Kind, Spread)> = results
        .servers(measure)
        .into_iter()
        .filter_map(|server| Some((server, results.value(measure, server, value)?)))
        .collect();
    let longest = bars.iter().map(|(_, spread)| spread.most).fold(0.0, f64::max);
    if longest <= 0.0 {
        return None;
    }
    svg(measure.title(), &unit, &bars, longest).ok()
}

fn svg(
    title: &str,
    unit: &str,
    bars: &[(Kind, Spread)],
    longest: f64,
) -> Result<String, std::fmt::Error> {
    let height = HEAD + ROW * bars.len() as f64 + 10.0;
    let length = |value: f64| (value / longest).clamp(0.0, 1.0) * (WIDTH - NAMES - FIGURES);
    let mut svg = String::new();
    writeln!(
        svg,
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="13">"#
    )?;
    writeln!(svg, r#"<rect width="100%" height="100%" fill="white"/>"#)?;
    writeln!(svg, r#"<text x="10" y="24" font-weight="bold">{title}: {unit}</text>"#)?;
    for (row, (server, spread)) in bars.iter().enumerate() {
        let top = HEAD + ROW * row as f64;
        let middle = top + ROW / 2.0;
        let colour = if server.is_ours() { "#d1495b" } else { "#6c7a89" };
        let (end, least, most) = (length(spread.median), length(spread.least), length(spread.most));
        let name = server.name();
        writeln!(
            svg,
            r#"<text x="{}" y="{}" text-anchor="end">{name}</text>"#,
            NAMES - 8.0,
            middle + 4.0
        )?;
        writeln!(
            svg,
            r#"<rect x="{NAMES}" y="{}" width="{end:.1}" height="{}" fill="{colour}"/>"#,
            top + 4.0,
            ROW - 8.0
        )?;
        let (from, to) = (NAMES + least, NAMES + most);
        writeln!(svg, r#"<path d="M{from:.1} {middle}H{to:.1}" stroke="black"/>"#)?;
        writeln!(
            svg,
            r#"<text x="{:.1}" y="{}">{}</text>"#,
            to + 6.0,
            middle + 4.0,
            figure(spread.median)
        )?;
    }
    writeln!(svg, "</svg>")?;
    Ok(svg)
}

/// Three digits that count.
pub(crate) fn figure(value: f64) -> String {
    let decimals = match value.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 1.0 => 2,
        _ => 3,
    };
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_as_long_as_its_share_of_the_longest() {
        let spread = |median| Spread { least: median, median, most: median };
        let bars = [(Kind::Sockeye, spread(5.0)), (Kind::SocketIo, spread(10.0))];

        let svg = svg("Fan-out", "µs", &bars, 10.0).unwrap();

        assert!(svg.contains(r#"width="230.0""#) && svg.contains(r#"width="460.0""#), "{svg}");
        assert!(svg.contains("Socket.IO (Node)") && svg.contains("5.00"), "{svg}");
    }

    #[test]
    fn figures_have_three_digits() {
        let figures = [1234.5, 12.345, 1.2345, 0.012345].map(figure);

        assert_eq!(figures, ["1234", "12.3", "1.23", "0.012"]);
    }
}
