//! Counts the instructions that the codecs take.

mod work;

/// What other versions of the C library make of copying bytes.
const TOLERANCE: f64 = 0.03;

fn main() -> anyhow::Result<()> {
    instructions::run(env!("CARGO_MANIFEST_DIR"), &work::all(), TOLERANCE)
}
