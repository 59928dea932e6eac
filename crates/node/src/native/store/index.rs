//! The index of the blocks in the log: what is where, by number, by hash, by transaction. It is made from the log and the chain's execution, and made
//! again when it is missing, of another chain, or damaged.
//!
//! It is one file of an embedded database. A block's entries are written right after its record, without waiting for the disk; [`Index::flush`] does
//! that from time to time, and always before a state is kept. So after a crash the index may be behind the log, but never behind a kept state.
//!
//! Values have checksums of their own, and what is found by hash is compared by whoever finds it. The database may panic on pages that were altered
//! behind its back: that is caught, and whatever shows that the index is damaged leaves a mark, so that the next start makes it again.

use std::fs;
use std::io;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use alloy::consensus::{Header, Transaction};
use alloy::primitives::{Address, B256};
use cipherloom_primitives::quorum::ValidatorSet;
use redb::{Database, Durability, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};

use super::entry::{self, Entry, Outcome};
use crate::chain::block::Block;
use crate::chain::journal::io_error;
use crate::error::{NodeError, Result};

/// Memory that the database may use to keep pages, in bytes.
const CACHE_BYTES: usize = 32 * 1024 * 1024;

/// Version of the tables.
const VERSION: u8 = 1;

/// The file, and the mark that it is damaged, in the data directory.
const FILE: &str = "index";
const DAMAGE_MARK: &str = "index.damaged";

/// The one entry: version of the tables and hash of the chain's first block.
const ABOUT: TableDefinition<'_, u8, &[u8]> = TableDefinition::new("about");
/// By number: where the block is, header and certificate.
const BLOCKS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("blocks");
/// By number: senders and receipts.
const OUTCOMES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("outcomes");
/// Numbers by hash of the block.
const HASHES: TableDefinition<'_, &[u8; 32], u64> = TableDefinition::new("hashes");
/// Number and place in the block, by hash of the transaction.
const TRANSACTIONS: TableDefinition<'_, &[u8; 32], (u64, u32)> = TableDefinition::new("transactions");
/// The same, by sender and nonce.
const SENDERS: TableDefinition<'_, &[u8; 28], (u64, u32)> = TableDefinition::new("senders");
/// Who signs from a block on, where that is somebody else than before.
const SETS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("sets");

/// The index of a data directory.
pub(crate) struct Index {
    /// None once it was given up.
    database: RwLock<Option<Database>>,
    path: PathBuf,
    damage_mark: PathBuf,
}

/// What the database says. Everything that is wrong with what it has is [`redb::Error::Corrupted`].
type Outcomes<T> = std::result::Result<T, redb::Error>;

impl Index {
    /// Opens the index of a data directory. One that cannot be used makes room for an empty one.
    ///
    /// # Errors
    ///
    /// [`NodeError::Io`] or [`NodeError::DataDirLocked`].
    pub(crate) fn open(data_dir: &Path, genesis: B256) -> Result<Self> {
        let this = Self {
            database: RwLock::default(),
            path: data_dir.join(FILE),
            damage_mark: data_dir.join(DAMAGE_MARK),
        };
        if this.damage_mark.exists() {
            this.begin_again("it was found damaged")?;
        }
        let opened = guarded(|| open_database(&this.path, genesis)).or_else(|error| match this.explained(error) {
            NodeError::IndexDamaged { reason, .. } => {
                this.begin_again(&reason)?;
                guarded(|| open_database(&this.path, genesis)).map_err(|error| this.explained(error))
            }
            other => Err(other),
        });
        *this.database.write().unwrap_or_else(PoisonError::into_inner) = Some(opened?);
        Ok(this)
    }

    /// Removes what cannot be used.
    fn begin_again(&self, reason: &str) -> Result<()> {
        tracing::warn!(path = %self.path.display(), reason, "the index of blocks is made again: all blocks are executed");
        for path in [&self.path, &self.damage_mark] {
            match fs::remove_file(path) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => return Err(io_error(path, source)),
                _ => {}
            }
        }
        Ok(())
    }

    /// Number of the last block in the index.
    pub(crate) fn last(&self) -> Result<u64> {
        self.read(|transaction| Ok(transaction.open_table(BLOCKS)?.last()?.map_or(0, |(number, _)| number.value())))
    }

    /// Where a block is, and what proves it.
    pub(crate) fn entry(&self, number: u64) -> Result<Option<Entry>> {
        self.read(|transaction| {
            let table = transaction.open_table(BLOCKS)?;
            let found = table.get(number)?;
            found
                .map(|value| Entry::decode(number, value.value()).map_err(|reason| wrong("block", number, reason)))
                .transpose()
        })
    }

    /// What the transactions of a block did.
    pub(crate) fn outcomes(&self, number: u64) -> Result<Option<Vec<Outcome>>> {
        self.read(|transaction| {
            let table = transaction.open_table(OUTCOMES)?;
            let found = table.get(number)?;
            found
                .map(|value| entry::decode_outcomes(number, value.value()).map_err(|reason| wrong("the receipts of block", number, reason)))
                .transpose()
        })
    }

    /// Shows `visit` the headers of the blocks in a range, in order.
    pub(crate) fn headers(&self, range: Range<u64>, visit: &mut dyn FnMut(Header)) -> Result<()> {
        self.read(|transaction| {
            let table = transaction.open_table(BLOCKS)?;
            for found in table.range(range)? {
                let (number, value) = found?;
                let number = number.value();
                visit(Entry::decode_header(number, value.value()).map_err(|reason| wrong("block", number, reason))?);
            }
            Ok(())
        })
    }

    /// Number of the block with this hash.
    pub(crate) fn number_of(&self, hash: &B256) -> Result<Option<u64>> {
        self.read(|transaction| Ok(transaction.open_table(HASHES)?.get(&hash.0)?.map(|number| number.value())))
    }

    /// Where a transaction should be; the caller looks whether it is.
    pub(crate) fn transaction(&self, hash: &B256) -> Result<Option<(u64, usize)>> {
        let found = self.read(|transaction| Ok(transaction.open_table(TRANSACTIONS)?.get(&hash.0)?.map(|found| found.value())))?;
        Ok(found.and_then(located))
    }

    /// Where the transaction of a sender with this nonce should be; the caller looks whether it is.
    pub(crate) fn transaction_of(&self, sender: &Address, nonce: u64) -> Result<Option<(u64, usize)>> {
        let key = sender_key(sender, nonce);
        let found = self.read(|transaction| Ok(transaction.open_table(SENDERS)?.get(&key)?.map(|found| found.value())))?;
        Ok(found.and_then(located))
    }

    /// Who signs from which block on, where that is somebody else than before.
    pub(crate) fn sets(&self) -> Result<Vec<(u64, ValidatorSet)>> {
        self.read(|transaction| {
            let mut sets = Vec::new();
            for found in transaction.open_table(SETS)?.iter()? {
                let (first, value) = found?;
                let first = first.value();
                let set = entry::decode_set(first, value.value()).map_err(|reason| wrong("the validators from block", first, reason))?;
                sets.push((first, set));
            }
            Ok(sets)
        })
    }

    /// Adds a block, or writes it again. `next` is who signs the block after it, if that changes with it.
    pub(crate) fn insert(&self, new: &Entry, block: &Block, next: Option<&ValidatorSet>) -> Result<()> {
        let number = new.place.number;
        self.write(|transaction| {
            transaction.set_durability(Durability::None)?;
            transaction.open_table(BLOCKS)?.insert(number, new.encode().as_slice())?;
            transaction
                .open_table(OUTCOMES)?
                .insert(number, entry::encode_outcomes(block).as_slice())?;
            transaction.open_table(HASHES)?.insert(&new.hash.0, number)?;
            let (mut hashes, mut senders) = (transaction.open_table(TRANSACTIONS)?, transaction.open_table(SENDERS)?);
            for (place, mined) in (0u32..).zip(&block.transactions) {
                hashes.insert(&mined.hash.0, (number, place))?;
                senders.insert(&sender_key(&mined.sender, mined.envelope.nonce()), (number, place))?;
            }
            let (mut sets, first) = (transaction.open_table(SETS)?, number.saturating_add(1));
            match next {
                Some(set) => sets.insert(first, entry::encode_set(first, set).as_slice())?,
                None => sets.remove(first)?,
            };
            Ok(())
        })
    }

    /// Removes the blocks after `last`, which the log does not have. Transactions of theirs are not found any more, as those who look compare.
    pub(crate) fn cut(&self, last: u64) -> Result<()> {
        let mut gone = Vec::new();
        self.headers(last.saturating_add(1)..u64::MAX, &mut |header| {
            gone.push((header.number, header.hash_slow()))
        })?;
        if gone.is_empty() {
            return Ok(());
        }
        self.write(|transaction| {
            let (mut blocks, mut outcomes) = (transaction.open_table(BLOCKS)?, transaction.open_table(OUTCOMES)?);
            let (mut hashes, mut sets) = (transaction.open_table(HASHES)?, transaction.open_table(SETS)?);
            for (number, hash) in &gone {
                blocks.remove(*number)?;
                outcomes.remove(*number)?;
                hashes.remove(&hash.0)?;
                sets.remove(number.saturating_add(1))?;
            }
            Ok(())
        })
    }

    /// Has everything so far on the disk when it returns.
    pub(crate) fn flush(&self) -> Result<()> {
        self.write(|transaction| {
            // Nothing has to be looked through after a crash then.
            transaction.set_quick_repair(true);
            Ok(())
        })
    }

    /// Gives the file up.
    pub(crate) fn close(&self) {
        *self.database.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Notes that something is wrong with what the index has.
    pub(super) fn damaged(&self, reason: String) -> NodeError {
        self.marked(redb::Error::Corrupted(reason))
    }

    /// Leaves the mark that the index has to be made again.
    fn mark_damaged(&self, reason: &str) {
        tracing::error!(path = %self.path.display(), reason, "the index of blocks is damaged; the next start makes it again");
        if let Err(error) = fs::write(&self.damage_mark, reason) {
            tracing::error!(%error, "the mark that the index is damaged cannot be written; remove the index before the next start");
        }
    }

    fn read<T>(&self, work: impl FnOnce(&ReadTransaction) -> Outcomes<T>) -> Result<T> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let database = database.as_ref().ok_or(NodeError::ShutDown)?;
        guarded(|| work(&database.begin_read()?)).map_err(|error| self.marked(error))
    }

    fn write(&self, work: impl FnOnce(&mut WriteTransaction) -> Outcomes<()>) -> Result<()> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let database = database.as_ref().ok_or(NodeError::ShutDown)?;
        let done = guarded(|| {
            let mut transaction = database.begin_write()?;
            work(&mut transaction)?;
            Ok(transaction.commit()?)
        });
        done.map_err(|error| self.marked(error))
    }

    fn marked(&self, error: redb::Error) -> NodeError {
        let error = self.explained(error);
        if let NodeError::IndexDamaged { reason, .. } = &error {
            self.mark_damaged(reason);
        }
        error
    }

    fn explained(&self, error: redb::Error) -> NodeError {
        match error {
            // What a file that was cut, or is none, looks like.
            redb::Error::Io(error) if !matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData) => {
                io_error(&self.path, error)
            }
            redb::Error::PreviousIo => io_error(&self.path, io::Error::other("it could not be written before")),
            redb::Error::DatabaseAlreadyOpen => NodeError::DataDirLocked(self.path.clone()),
            redb::Error::DatabaseClosed => NodeError::ShutDown,
            error => NodeError::IndexDamaged {
                path: self.path.clone(),
                reason: error.to_string(),
            },
        }
    }
}

/// Opens or makes the database, with all its tables.
fn open_database(path: &Path, genesis: B256) -> Outcomes<Database> {
    let database = Database::builder().set_cache_size(CACHE_BYTES).create(path)?;
    let about = [[VERSION].as_slice(), genesis.as_slice()].concat();
    let mut transaction = database.begin_write()?;
    transaction.set_quick_repair(true);
    {
        let mut table = transaction.open_table(ABOUT)?;
        let found = table.get(0)?.map(|found| found.value().to_vec());
        match found {
            Some(found) if found == about => {}
            Some(_) => return Err(redb::Error::Corrupted("it is of another chain or version".to_owned())),
            None => {
                table.insert(0, about.as_slice())?;
            }
        }
        for numbered in [BLOCKS, OUTCOMES, SETS] {
            transaction.open_table(numbered)?;
        }
        transaction.open_table(HASHES)?;
        transaction.open_table(TRANSACTIONS)?;
        transaction.open_table(SENDERS)?;
    }
    transaction.commit()?;
    Ok(database)
}

/// Turns a panic of the database into an error.
fn guarded<T>(work: impl FnOnce() -> Outcomes<T>) -> Outcomes<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(redb::Error::Corrupted("the database cannot cope with it".to_owned())))
}

fn wrong(what: &str, number: u64, reason: String) -> redb::Error {
    redb::Error::Corrupted(format!("{what} {number}: {reason}"))
}

fn sender_key(sender: &Address, nonce: u64) -> [u8; 28] {
    let mut key = [0; 28];
    for (to, from) in key.iter_mut().zip(sender.iter().chain(&nonce.to_be_bytes())) {
        *to = *from;
    }
    key
}

fn located((number, place): (u64, u32)) -> Option<(u64, usize)> {
    Some((number, usize::try_from(place).ok()?))
}
