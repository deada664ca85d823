//! Candidate: redb, a copy-on-write B-tree in one file.

use std::path::Path;

use anyhow::{Result, bail};
use redb::{Database, Durability, ReadableDatabase, TableDefinition};

use crate::store::{Entry, Store, key};

const ENTRIES: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("entries");
const ENDS: TableDefinition<'_, u64, u64> = TableDefinition::new("ends");

pub(crate) struct Redb {
    database: Database,
}

impl Store for Redb {
    const NAME: &'static str = "redb";

    fn open(directory: &Path) -> Result<Self> {
        let mut database = Database::builder().create(directory.join("store.redb"))?;
        if !database.check_integrity()? {
            bail!("the file was damaged");
        }
        let transaction = database.begin_write()?;
        transaction.open_table(ENTRIES)?;
        transaction.open_table(ENDS)?;
        transaction.commit()?;
        Ok(Self { database })
    }

    /// What is committed without an fsync does not survive the process: there is nothing in between.
    fn append(&mut self, entries: &[Entry], fsync: bool) -> Result<()> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(if fsync { Durability::Immediate } else { Durability::None })?;
        {
            let mut table = transaction.open_table(ENTRIES)?;
            let mut ends = transaction.open_table(ENDS)?;
            for Entry { room, offset, value } in entries {
                table.insert(key(*room, *offset).as_slice(), value.as_slice())?;
                ends.insert(room, offset)?;
            }
        }
        Ok(transaction.commit()?)
    }

    fn read(&self, room: u64, from: u64, count: usize) -> Result<Vec<Vec<u8>>> {
        let table = self.database.begin_read()?.open_table(ENTRIES)?;
        let range = table.range(key(room, from).as_slice()..=key(room, u64::MAX).as_slice())?;
        range.take(count).map(|item| Ok(item?.1.value().to_vec())).collect()
    }

    fn end(&self, room: u64) -> Result<Option<u64>> {
        let table = self.database.begin_read()?.open_table(ENDS)?;
        Ok(table.get(room)?.map(|end| end.value()))
    }

    fn settle(&mut self) -> Result<()> {
        self.append(&[], true)
    }
}
