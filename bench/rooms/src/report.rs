//! Times, put in order.

use std::time::Duration;

#[derive(Debug, Default)]
pub(crate) struct Times {
    times: Vec<Duration>,
}

impl Times {
    pub(crate) fn add(&mut self, time: Duration) {
        self.times.push(time);
    }

    pub(crate) fn extend(&mut self, other: Self) {
        self.times.extend(other.times);
    }

    pub(crate) fn len(&self) -> usize {
        self.times.len()
    }

    /// Milliseconds below which so many of a thousand lie.
    pub(crate) fn permille(&mut self, permille: usize) -> f64 {
        self.times.sort_unstable();
        let place = (self.times.len() * permille / 1000).min(self.times.len().saturating_sub(1));
        self.times.get(place).map_or(f64::NAN, |time| time.as_secs_f64() * 1000.0)
    }
}
