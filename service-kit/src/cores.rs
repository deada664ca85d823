//! What of a machine a service takes that shares it with others.

use std::{num::NonZeroUsize, thread};

/// One thread for each two cores. Services behind edges get by with fewer than those, and a thread that has nothing to do costs those
/// that have: it looks for work that another one would do as part of what it does.
#[must_use]
pub fn half() -> usize {
    thread::available_parallelism().map_or(1, NonZeroUsize::get).div_ceil(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_cores_is_never_none() {
        let cores = thread::available_parallelism().unwrap().get();

        assert!(half() >= 1 && half() * 2 >= cores && half() <= cores);
    }
}
