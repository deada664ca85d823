//! Candidate: fjall, an LSM tree with a journal.

use std::path::Path;

use anyhow::{Context, Result};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use crate::store::{Entry, Store, key};

pub(crate) struct Fjall {
    database: Database,
    entries: Keyspace,
    ends: Keyspace,
}

impl Store for Fjall {
    const NAME: &'static str = "fjall";

    fn open(directory: &Path) -> Result<Self> {
        let database = Database::builder(directory).open()?;
        let entries = database.keyspace("entries", KeyspaceCreateOptions::default)?;
        let ends = database.keyspace("ends", KeyspaceCreateOptions::default)?;
        Ok(Self { database, entries, ends })
    }

    fn append(&mut self, entries: &[Entry], fsync: bool) -> Result<()> {
        let mode = if fsync { PersistMode::SyncData } else { PersistMode::Buffer };
        let mut batch = self.database.batch().durability(Some(mode));
        for Entry { room, offset, value } in entries {
            batch.insert(&self.entries, key(*room, *offset), value.as_slice());
            batch.insert(&self.ends, room.to_be_bytes(), offset.to_be_bytes());
        }
        Ok(batch.commit()?)
    }

    fn read(&self, room: u64, from: u64, count: usize) -> Result<Vec<Vec<u8>>> {
        let range = self.entries.range(key(room, from)..=key(room, u64::MAX));
        range.take(count).map(|item| Ok(item.value()?.to_vec())).collect()
    }

    fn end(&self, room: u64) -> Result<Option<u64>> {
        let Some(end) = self.ends.get(room.to_be_bytes())? else { return Ok(None) };
        Ok(Some(u64::from_be_bytes(end.as_ref().try_into().context("length")?)))
    }

    fn settle(&mut self) -> Result<()> {
        self.entries.rotate_memtable_and_wait()?;
        Ok(self.ends.rotate_memtable_and_wait()?)
    }
}
