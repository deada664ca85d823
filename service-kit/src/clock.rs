//! Reads the wall clock, in the one place that may.

use std::time::{SystemTime, UNIX_EPOCH};

/// Returns the milliseconds since the Unix epoch, and 0 while the clock stands before it.
#[expect(clippy::disallowed_methods, reason = "this is the place that the ban points to")]
pub fn unix_ms() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_stands_in_this_century() {
        let start_of_2025 = 1_735_689_600_000;
        let start_of_2100 = 4_102_444_800_000;

        assert!((start_of_2025..start_of_2100).contains(&unix_ms()));
    }
}
