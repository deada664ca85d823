//! Counts the instructions that an event takes on its way through the edge and the chat service.
//!
//! In a debug build, which is there whenever tests are run: it is for noticing that something is done once more for each
//! event or recipient, and not for what a machine can do.

mod system;

use anyhow::ensure;
use instructions::Named;

/// Timers run meanwhile, which go by the time.
const TOLERANCE: f64 = 0.08;

fn main() -> anyhow::Result<()> {
    ensure!(cfg!(debug_assertions), "the baseline is that of a debug build");
    instructions::run(env!("CARGO_MANIFEST_DIR"), &all(), TOLERANCE)
}

/// Everything that is counted.
fn all() -> [Named; 3] {
    let named = |name, times, prepare| Named { name, times, prepare };
    [
        named("event-to-120", 100, || system::fan_out(1)),
        named("16-events-to-120", 20, || system::fan_out(16)),
        named("answer", 200, system::answer),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_work_does_what_it_says() {
        let [event, events, answer] = all().map(|named| (named.prepare)()());

        // A message has more around it than its text of 100 bytes.
        assert!(event > 120 * 100, "{event} bytes");
        assert!(events > 16 * 120 * 100, "{events} bytes");
        assert_eq!(answer, "43/chat,7[{}]".len());
    }
}
