//! What happened, folded into one number: two runs that differ anywhere end with different ones.

use std::cell::Cell;

use crate::{determinism, random::mix};

thread_local! {
    static HASH: Cell<u64> = const { Cell::new(0) };
}

/// The trace of the simulation that runs on this thread.
#[derive(Debug)]
pub(crate) struct Trace;

impl Trace {
    /// Adds what a host has just read, or what a client has just seen.
    pub(crate) fn note(bytes: &[u8]) {
        let mut hash =
            HASH.get() ^ u64::try_from(determinism::elapsed().as_nanos()).unwrap_or(u64::MAX);
        hash = mix(hash ^ bytes.len() as u64);
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            hash = mix(hash ^ u64::from_le_bytes(word));
        }
        HASH.set(hash);
    }

    pub(crate) fn hash() -> u64 {
        HASH.get()
    }
}
