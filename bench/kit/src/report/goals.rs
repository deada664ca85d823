//! The ratios that are aimed at, and whether a run has reached them.

use crate::{measure::Measure, results::Results, server::Kind};

/// A figure of Sockeye: less is better.
#[derive(Debug)]
pub(crate) struct Goal {
    pub(crate) what: &'static str,
    measure: Measure,
    value: &'static str,
    /// What it is divided by.
    beside: Option<(Measure, Kind)>,
    unit: &'static str,
    pub(crate) floor: Option<f64>,
    pub(crate) goal: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Reached,
    FloorOnly,
    NotMet,
    NotMeasured,
}

impl Verdict {
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::Reached => "goal reached",
            Self::FloorOnly => "floor met",
            Self::NotMet => "**not met**",
            Self::NotMeasured => "not measured",
        }
    }
}

impl Goal {
    const fn ratio(
        what: &'static str,
        measure: Measure,
        beside: (Measure, Kind),
        floor: Option<f64>,
        goal: Option<f64>,
    ) -> Self {
        Self { what, measure, value: "cpu_us", beside: Some(beside), unit: "", floor, goal }
    }

    const fn plain(
        what: &'static str,
        (measure, value): (Measure, &'static str),
        unit: &'static str,
        floor: Option<f64>,
        goal: Option<f64>,
    ) -> Self {
        Self { what, measure, value, beside: None, unit, floor, goal }
    }

    pub(crate) fn result(&self, results: &Results) -> Option<f64> {
        let value = results.value(self.measure, Kind::Sockeye, self.value)?.median;
        match self.beside {
            None => Some(value),
            Some((measure, server)) => {
                Some(value / results.value(measure, server, self.value)?.median)
            }
        }
    }

    pub(crate) fn show(&self, value: Option<f64>) -> String {
        value.map_or_else(
            || "–".to_owned(),
            |value| format!("{}{}", super::chart::figure(value), self.unit),
        )
    }

    /// Judges a result.
    pub(crate) fn verdict(&self, result: Option<f64>) -> Verdict {
        let Some(result) = result else { return Verdict::NotMeasured };
        let is_within = |bound: Option<f64>| bound.is_none_or(|bound| result <= bound);
        if is_within(self.goal) && is_within(self.floor) {
            Verdict::Reached
        } else if self.floor.is_some() && is_within(self.floor) {
            Verdict::FloorOnly
        } else {
            Verdict::NotMet
        }
    }
}

pub(crate) const GOALS: [Goal; 19] = [
    Goal::ratio(
        "fan-out, 1 in flight: CPU per delivery, beside socketioxide",
        Measure::Fanout1,
        (Measure::Fanout1, Kind::Socketioxide),
        Some(1.0 / 1.5),
        Some(1.0 / 1.9),
    ),
    Goal::ratio(
        "the same, beside Socket.IO on Node",
        Measure::Fanout1,
        (Measure::Fanout1, Kind::SocketIo),
        Some(1.0 / 2.0),
        Some(1.0 / 2.4),
    ),
    Goal::ratio(
        "the same, beside a bare loop of `send`",
        Measure::Fanout1,
        (Measure::Fanout1, Kind::SendLoop),
        None,
        Some(1.1),
    ),
    Goal::ratio(
        "fan-out, 64 in flight, beside socketioxide",
        Measure::Fanout64,
        (Measure::Fanout64, Kind::Socketioxide),
        Some(1.0 / 4.0),
        Some(1.0 / 6.0),
    ),
    Goal::ratio(
        "rooms of 10, one message in flight in each, beside socketioxide",
        Measure::Rooms,
        (Measure::Rooms, Kind::Socketioxide),
        Some(0.8),
        Some(0.55),
    ),
    Goal::ratio(
        "echo with ack through edge and chat service, beside socketioxide in one process",
        Measure::Echo,
        (Measure::Echo, Kind::Socketioxide),
        Some(1.1),
        Some(0.77),
    ),
    Goal::ratio(
        "the same, beside NestJS",
        Measure::Echo,
        (Measure::Echo, Kind::Nestjs),
        Some(0.5),
        Some(0.25),
    ),
    Goal::plain(
        "latency added by the chat service, 1 in flight, p50",
        (Measure::Hop, "added_p50_us"),
        " µs",
        Some(150.0),
        Some(80.0),
    ),
    Goal::plain(
        "memory per idle connection in a room: edge",
        (Measure::Idle, "resident_bytes.edge"),
        " B",
        Some(3072.0),
        Some(1229.0),
    ),
    Goal::plain(
        "the same: chat service",
        (Measure::Idle, "resident_bytes.chat"),
        " B",
        Some(1024.0),
        Some(410.0),
    ),
    Goal::plain(
        "kept per connection 2 s after broadcasts of 30 KB, all processes",
        (Measure::Burst, "resident_bytes"),
        " B",
        Some(1024.0),
        Some(64.0),
    ),
    Goal::ratio(
        "CPU per idle connection, beside socketioxide",
        Measure::Idle,
        (Measure::Idle, Kind::Socketioxide),
        Some(0.6),
        None,
    ),
    Goal::plain("the same, per second", (Measure::Idle, "cpu_us"), " µs", None, Some(0.35)),
    Goal::ratio(
        "connect, authenticate, join: CPU of all processes, beside socketioxide",
        Measure::Churn,
        (Measure::Churn, Kind::Socketioxide),
        Some(1.0),
        Some(0.5),
    ),
    Goal::ratio(
        "tracing at 1/1024 beside tracing compiled out, fan-out",
        Measure::Fanout1,
        (Measure::Fanout1, Kind::SockeyeUntraced),
        Some(1.03),
        Some(1.01),
    ),
    Goal::ratio(
        "tracing at 1/1024 beside tracing compiled out, echo",
        Measure::Echo,
        (Measure::Echo, Kind::SockeyeUntraced),
        Some(1.03),
        Some(1.01),
    ),
    Goal::plain(
        "link: what the chat service spends on an event, handling it included",
        (Measure::Link, "cpu_us.chat"),
        " µs",
        Some(1.0),
        Some(0.4),
    ),
    Goal::plain(
        "memory per idle connection at several edges: all processes",
        (Measure::Edges, "resident_bytes"),
        " B",
        Some(4096.0),
        Some(1639.0),
    ),
    Goal::ratio(
        "growth: CPU per delivery with many connections beside few",
        Measure::Large,
        (Measure::Small, Kind::Sockeye),
        Some(1.3),
        Some(1.1),
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_is_judged_by_both_bounds() {
        let goal = &GOALS[0];

        let verdicts = [0.5, 0.6, 0.7].map(|result| goal.verdict(Some(result)));

        assert_eq!(verdicts, [Verdict::Reached, Verdict::FloorOnly, Verdict::NotMet]);
        assert_eq!(goal.verdict(None), Verdict::NotMeasured);
    }

    #[test]
    fn without_a_floor_only_the_goal_counts() {
        let goal = &GOALS[2];

        assert_eq!(goal.verdict(Some(1.0)), Verdict::Reached);
        assert_eq!(goal.verdict(Some(1.2)), Verdict::NotMet);
    }
}
