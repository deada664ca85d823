//! Times, put in order.

use std::time::Duration;

use crate::meter::Values;

#[derive(Debug, Default)]
pub(crate) struct Times {
    times: Vec<Duration>,
}

impl Times {
    pub(crate) fn add(&mut self, time: Duration) {
        self.times.push(time);
    }

    pub(crate) const fn len(&self) -> usize {
        self.times.len()
    }

    /// Adds the usual percentiles, in microseconds.
    pub(crate) fn tell(&mut self, values: &mut Values) {
        self.times.sort_unstable();
        for (name, permille) in [("p50_us", 500), ("p99_us", 990), ("p999_us", 999)] {
            values.insert(name.to_owned(), self.microseconds_below(permille));
        }
    }

    /// The time that so many of a thousand do not exceed; the times are in order.
    fn microseconds_below(&self, permille: usize) -> f64 {
        let place = (self.times.len() * permille).div_ceil(1000).max(1) - 1;
        self.times.get(place).map_or(f64::NAN, |time| time.as_secs_f64() * 1e6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_times_that_were_measured() {
        let mut times = Times::default();
        (1..=1000).rev().for_each(|number| times.add(Duration::from_micros(number)));
        let mut values = Values::new();

        times.tell(&mut values);

        let names: Vec<_> = values.iter().map(|(name, value)| (&**name, value.round())).collect();
        assert_eq!(names, [("p50_us", 500.0), ("p999_us", 999.0), ("p99_us", 990.0)]);
    }
}
