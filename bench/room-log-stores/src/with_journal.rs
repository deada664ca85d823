//! Candidate: a journal of our own in front of `lsm-tree`, which is what fjall has under its own journal.

use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result, ensure};
use lsm_tree::{
    AbstractTree, AnyTree, Config, Guard, SeqNo, SequenceNumberCounter, compaction::Leveled,
};
use xxhash_rust::xxh3::xxh3_64;

use crate::store::{Entry, Store, key};

/// How much the journal may hold before what it holds is written into the tree's own files.
const JOURNAL_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// A batch is its length, the checksum of that, the checksum of its content, and the content.
const HEAD_BYTES: usize = 20;

pub(crate) struct Journal {
    path: PathBuf,
    file: File,
    bytes: u64,
    tree: AnyTree,
    seqno: SequenceNumberCounter,
    ends: HashMap<u64, u64>,
}

impl Store for Journal {
    const NAME: &'static str = "journal + lsm-tree";

    fn open(directory: &Path) -> Result<Self> {
        let (seqno, visible) = (SequenceNumberCounter::default(), SequenceNumberCounter::default());
        let tree = Config::new(directory.join("tree"), seqno.clone(), visible).open()?;
        seqno.set(tree.get_highest_seqno().map_or(0, |highest| highest + 1));
        let path = directory.join("journal");
        let file = OpenOptions::new().create(true).append(true).open(&path)?;
        let mut journal = Self { path, file, bytes: 0, tree, seqno, ends: HashMap::new() };
        journal.replay()?;
        Ok(journal)
    }

    fn append(&mut self, entries: &[Entry], fsync: bool) -> Result<()> {
        let mut batch = vec![0; HEAD_BYTES];
        for Entry { room, offset, value } in entries {
            batch.extend_from_slice(&key(*room, *offset));
            batch.extend_from_slice(&u32::try_from(value.len())?.to_be_bytes());
            batch.extend_from_slice(value);
        }
        let length = u32::try_from(batch.len() - HEAD_BYTES)?.to_be_bytes();
        let sum = xxh3_64(&batch[HEAD_BYTES..]).to_be_bytes();
        batch[..4].copy_from_slice(&length);
        batch[4..12].copy_from_slice(&xxh3_64(&length).to_be_bytes());
        batch[12..HEAD_BYTES].copy_from_slice(&sum);

        self.file.write_all(&batch)?;
        if fsync {
            self.file.sync_data()?;
        }
        self.bytes += batch.len() as u64;
        for Entry { room, offset, value } in entries {
            self.insert(*room, *offset, value);
        }
        if self.bytes > JOURNAL_BYTES_MAX {
            self.settle()?;
        }
        Ok(())
    }

    fn read(&self, room: u64, from: u64, count: usize) -> Result<Vec<Vec<u8>>> {
        let range = self.tree.range(key(room, from)..=key(room, u64::MAX), SeqNo::MAX, None);
        range.take(count).map(|item| Ok(item.value()?.to_vec())).collect()
    }

    fn end(&self, room: u64) -> Result<Option<u64>> {
        if let Some(end) = self.ends.get(&room) {
            return Ok(Some(*end));
        }
        let Some(end) = self.tree.get(room.to_be_bytes(), SeqNo::MAX)? else { return Ok(None) };
        Ok(Some(u64::from_be_bytes(end.as_ref().try_into().context("length")?)))
    }

    fn settle(&mut self) -> Result<()> {
        for (room, end) in self.ends.drain() {
            self.tree.insert(room.to_be_bytes(), end.to_be_bytes(), self.seqno.next());
        }
        self.tree.flush_active_memtable(self.seqno.get())?;
        self.tree.compact(Arc::new(Leveled::default()), self.seqno.get())?;
        self.file.set_len(0)?;
        self.bytes = 0;
        Ok(())
    }
}

impl Journal {
    fn insert(&mut self, room: u64, offset: u64, value: &[u8]) {
        self.tree.insert(key(room, offset), value, self.seqno.next());
        self.ends.insert(room, offset);
    }

    /// Takes over what the journal holds, up to where a write was torn. What stands behind that was never confirmed,
    /// unless a whole batch follows: then the journal is damaged.
    fn replay(&mut self) -> Result<()> {
        let bytes = fs::read(&self.path)?;
        let mut start = 0;
        while let Some(batch) = whole_batch(&bytes[start..]) {
            let mut rest = batch;
            while !rest.is_empty() {
                let (head, tail) = rest.split_at(20);
                let room = u64::from_be_bytes(head[..8].try_into()?);
                let offset = u64::from_be_bytes(head[8..16].try_into()?);
                let length = u32::from_be_bytes(head[16..].try_into()?) as usize;
                let (value, next) = tail.split_at(length);
                self.insert(room, offset, value);
                rest = next;
            }
            start += HEAD_BYTES + batch.len();
        }
        let is_followed = (start + 1..bytes.len()).any(|at| whole_batch(&bytes[at..]).is_some());
        ensure!(!is_followed, "the journal is damaged at {start}");
        self.file.set_len(start as u64)?;
        self.bytes = start as u64;
        Ok(())
    }
}

fn whole_batch(bytes: &[u8]) -> Option<&[u8]> {
    let head = bytes.get(..HEAD_BYTES)?;
    if xxh3_64(&head[..4]).to_be_bytes() != head[4..12] {
        return None;
    }
    let length = u32::from_be_bytes(head[..4].try_into().ok()?) as usize;
    let batch = bytes.get(HEAD_BYTES..HEAD_BYTES + length)?;
    (xxh3_64(batch).to_be_bytes() == head[12..]).then_some(batch)
}
