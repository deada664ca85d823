//! Times, put in order.

use std::time::Duration;

#[derive(Debug, Default)]
pub struct Times {
    times: Vec<Duration>,
}

impl Times {
    pub fn add(&mut self, time: Duration) {
        self.times.push(time);
    }

    pub fn extend(&mut self, other: Self) {
        self.times.extend(other.times);
    }

    pub const fn len(&self) -> usize {
        self.times.len()
    }

    pub const fn is_empty(&self) -> bool {
        self.times.is_empty()
    }

    /// Milliseconds that so many of a thousand do not exceed; not a number if there are no times.
    pub fn permille(&mut self, permille: usize) -> f64 {
        self.times.sort_unstable();
        let place = (self.times.len() * permille).div_ceil(1000).max(1) - 1;
        self.times.get(place).map_or(f64::NAN, |time| time.as_secs_f64() * 1000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_times_that_were_measured() {
        let mut times = Times::default();
        (1..=1000).rev().for_each(|number| times.add(Duration::from_millis(number)));

        let found = [1, 500, 990, 999, 1000].map(|permille| times.permille(permille).round());

        assert_eq!(found, [1.0, 500.0, 990.0, 999.0, 1000.0]);
        assert!(Times::default().permille(500).is_nan());
    }
}
