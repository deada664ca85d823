//! Changes that are made together, and the bytes that say them.

use std::ops::Range;

use bytes::{Buf, Bytes};
use lsm_tree::{AbstractTree, AnyTree, SeqNo};
use thiserror::Error;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// What stands before each stored value: its checksum, which covers the key too.
const CHECKSUM_BYTES: usize = 8;

const PUT: u8 = 1;
const REMOVE: u8 = 2;

/// Changes to keys, in order.
#[derive(Debug, Default)]
pub(super) struct Batch {
    bytes: Vec<u8>,
    /// Survives a power cut once it is committed.
    pub(super) fsync: bool,
    /// To be written to from here on, in place of the journal's file.
    #[cfg(test)]
    pub(super) replacement: Option<std::fs::File>,
}

/// Stored bytes are not what was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a stored value is damaged")]
pub(super) struct Damaged;

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// How it is said in the journal.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Keys are short: those of rooms are at most as long as the names of a namespace and a room together.
    pub(super) fn put(&mut self, key: &[u8], value: &[u8]) {
        self.bytes.push(PUT);
        self.add_length(key.len());
        self.add_length(CHECKSUM_BYTES + value.len());
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(&checksum(key, value).to_be_bytes());
        self.bytes.extend_from_slice(value);
    }

    pub(super) fn remove(&mut self, key: &[u8]) {
        self.bytes.push(REMOVE);
        self.add_length(key.len());
        self.bytes.extend_from_slice(key);
    }

    fn add_length(&mut self, length: usize) {
        // No key or value comes near 4 GiB.
        self.bytes.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    }
}

/// Makes the changes that some bytes say. They are known to be whole.
pub(super) fn apply(mut bytes: &[u8], tree: &AnyTree, seqno: SeqNo) -> Result<(), Damaged> {
    while let [kind, rest @ ..] = bytes {
        bytes = rest;
        let key_bytes = length(&mut bytes)?;
        match *kind {
            PUT => {
                let value_bytes = length(&mut bytes)?;
                let (key, rest) = bytes.split_at_checked(key_bytes).ok_or(Damaged)?;
                let (value, rest) = rest.split_at_checked(value_bytes).ok_or(Damaged)?;
                tree.insert(key, value, seqno);
                bytes = rest;
            }
            REMOVE => {
                let (key, rest) = bytes.split_at_checked(key_bytes).ok_or(Damaged)?;
                tree.remove(key, seqno);
                bytes = rest;
            }
            _ => return Err(Damaged),
        }
    }
    Ok(())
}

fn length(bytes: &mut &[u8]) -> Result<usize, Damaged> {
    bytes.try_get_u32().map(|length| length as usize).map_err(|_| Damaged)
}

/// Returns what was put at the key, if that is what is stored there.
pub(super) fn verified(key: &[u8], stored: &[u8]) -> Result<Bytes, Damaged> {
    let (expected, value) = stored.split_first_chunk().ok_or(Damaged)?;
    if checksum(key, value) != u64::from_be_bytes(*expected) {
        return Err(Damaged);
    }
    Ok(Bytes::copy_from_slice(value))
}

fn checksum(key: &[u8], value: &[u8]) -> u64 {
    xxh3_64_with_seed(value, xxh3_64(key))
}

/// All keys that begin with some bytes, which are not all 255.
pub(super) fn keys_with(prefix: &[u8]) -> Range<Vec<u8>> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            break;
        }
    }
    prefix.to_vec()..end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_verified_with_its_key() {
        let mut batch = Batch::default();
        batch.put(b"key", b"value");
        let stored = &batch.bytes()[1 + 4 + 4 + 3..];

        assert_eq!(verified(b"key", stored).unwrap(), "value");
        assert_eq!(verified(b"kez", stored), Err(Damaged));
        for at in 0..stored.len() {
            let mut flipped = stored.to_vec();
            flipped[at] ^= 4;
            assert_eq!(verified(b"key", &flipped), Err(Damaged));
            assert_eq!(verified(b"key", &stored[..at]), Err(Damaged));
        }
    }

    #[test]
    fn keys_with_a_prefix_end_where_others_begin() {
        assert_eq!(keys_with(b"a"), b"a".to_vec()..b"b".to_vec());
        assert_eq!(keys_with(b"a\xff"), b"a\xff".to_vec()..b"b".to_vec());
    }
}
