//! What the candidates have in common: entries of rooms in, pages of rooms out.

use std::path::Path;

use anyhow::{Result, ensure};
use xxhash_rust::xxh3::xxh3_64;

/// One entry of a room. Its value says by itself whether it is what was written.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) room: u64,
    pub(crate) offset: u64,
    pub(crate) value: Vec<u8>,
}

/// A store that could hold rooms' logs.
pub(crate) trait Store: Sized {
    const NAME: &'static str;

    fn open(directory: &Path) -> Result<Self>;

    /// Adds entries at the ends of their rooms, and with `fsync` makes them survive a power cut; without, the death of
    /// the process.
    fn append(&mut self, entries: &[Entry], fsync: bool) -> Result<()>;

    /// The values of a room's entries from an offset on.
    fn read(&self, room: u64, from: u64, count: usize) -> Result<Vec<Vec<u8>>>;

    /// Where a room ends.
    fn end(&self, room: u64) -> Result<Option<u64>>;

    /// Writes what is still in memory to where it stays.
    fn settle(&mut self) -> Result<()>;
}

const BODY: [u8; 200] = [b'x'; 200];

impl Entry {
    pub(crate) fn new(room: u64, offset: u64) -> Self {
        let mut value = Vec::with_capacity(8 + 16 + BODY.len());
        value.extend_from_slice(&[0; 8]);
        value.extend_from_slice(&key(room, offset));
        value.extend_from_slice(&BODY);
        let sum = xxh3_64(&value[8..]);
        value[..8].copy_from_slice(&sum.to_be_bytes());
        Self { room, offset, value }
    }
}

pub(crate) fn key(room: u64, offset: u64) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&room.to_be_bytes());
    key[8..].copy_from_slice(&offset.to_be_bytes());
    key
}

/// Fails unless a value is the one that was written for that entry.
pub(crate) fn check(value: &[u8], room: u64, offset: u64) -> Result<()> {
    ensure!(value == Entry::new(room, offset).value, "served something else");
    Ok(())
}
