//! What must hold of what is read back from the disk, for the fuzzer.

use super::{journal, record};

pub(crate) fn stored_entry(data: &[u8]) {
    record::fuzzing::check(data);
}

pub(crate) fn room_journal(data: &[u8]) {
    journal::fuzzing::check(data);
}
