//! Blocks that have left memory, read from the log by what the index knows of them.

use std::sync::Arc;

use alloy::consensus::proofs::calculate_transaction_root;
use alloy::consensus::{Header, Transaction, TxEnvelope};
use alloy::primitives::{Address, B256, Bytes};
use cipherloom_primitives::quorum::CommitCertificate;

use super::DecidedBlock;
use super::entry::Entry;
use super::index::Index;
use super::log::LogReader;
use crate::chain::archive::Archive;
use crate::chain::block::{Block, MinedReceipt, MinedTransaction};
use crate::error::Result;
use crate::native::codec::{decode_exactly, encode_header};

/// The blocks of a data directory, to read.
pub(crate) struct DiskArchive {
    pub(super) index: Arc<Index>,
    pub(super) log: LogReader,
}

impl DiskArchive {
    pub(crate) fn new(index: Arc<Index>, log: LogReader) -> Self {
        Self { index, log }
    }

    pub(crate) fn index(&self) -> &Index {
        &self.index
    }

    /// A block as peers pass it on. Its record is checked.
    pub(crate) fn decided(&self, number: u64) -> Result<Option<DecidedBlock>> {
        let entry = self.index.entry(number)?;
        entry.map(|entry| self.log.decided(entry.place)).transpose()
    }

    /// The RLP of a block's header, with its certificate.
    pub(crate) fn certified(&self, number: u64) -> Result<Option<(Bytes, CommitCertificate)>> {
        let entry = self.index.entry(number)?;
        Ok(entry.map(|entry| (encode_header(&entry.header), entry.certificate)))
    }

    fn read(&self, entry: Entry) -> Result<Block> {
        let number = entry.place.number;
        let bytes = self.log.block(entry.place)?;
        let wrong = |reason: String| self.log.wrong(entry.place, reason);
        let alloy::consensus::Block { header, body } = decode_exactly::<alloy::consensus::Block<TxEnvelope>>(&bytes).map_err(wrong)?;
        if header.hash_slow() != entry.hash || calculate_transaction_root(&body.transactions) != header.transactions_root {
            return Err(wrong("it is not the block that was written there".to_owned()));
        }
        let outcomes = self.index.outcomes(number)?.unwrap_or_default();
        if outcomes.len() != body.transactions.len() {
            return Err(self
                .index
                .damaged(format!("block {number} has other transactions than its receipts")));
        }
        let base_fee = header.base_fee_per_gas.unwrap_or_default();
        let (mut transactions, mut receipts) = (Vec::new(), Vec::<MinedReceipt>::new());
        for (envelope, outcome) in body.transactions.into_iter().zip(outcomes) {
            let transaction = MinedTransaction {
                hash: *envelope.tx_hash(),
                sender: outcome.sender,
                envelope,
            };
            receipts.push(MinedReceipt::after(receipts.last(), &transaction, outcome.receipt, base_fee));
            transactions.push(transaction);
        }
        Ok(Block {
            hash: entry.hash,
            header,
            transactions,
            receipts,
            native: None,
        })
    }

    /// Where a transaction is, if what is there is the one that was looked for.
    fn confirmed(&self, found: Option<(u64, usize)>, same: impl Fn(&MinedTransaction) -> bool) -> Result<Option<(u64, usize)>> {
        let Some((number, index)) = found else { return Ok(None) };
        // Blocks that were cut off leave their transactions behind.
        let Some(entry) = self.index.entry(number)? else { return Ok(None) };
        let block = self.read(entry)?;
        Ok(block.transactions.get(index).is_some_and(same).then_some((number, index)))
    }

    /// Shows `visit` the headers of the blocks `from..end`, all of which the index must have.
    fn headers(&self, from: u64, end: u64, visit: &mut dyn FnMut(Header)) -> Result<()> {
        let from = from.max(1);
        let mut missing = end.saturating_sub(from);
        self.index.headers(from..end, &mut |header| {
            missing = missing.saturating_sub(1);
            visit(header);
        })?;
        if missing > 0 {
            return Err(self.index.damaged(format!("{missing} of the blocks {from} to {end} are missing")));
        }
        Ok(())
    }
}

impl Archive for DiskArchive {
    fn number_of(&self, hash: &B256) -> Result<Option<u64>> {
        let Some(number) = self.index.number_of(hash)? else {
            return Ok(None);
        };
        let entry = self.index.entry(number)?;
        Ok(entry.filter(|entry| entry.hash == *hash).map(|_| number))
    }

    fn block(&self, number: u64) -> Result<Arc<Block>> {
        match self.index.entry(number)? {
            Some(entry) => self.read(entry).map(Arc::new),
            None => Err(self.index.damaged(format!("block {number} is missing"))),
        }
    }

    fn matching(&self, from: u64, end: u64, wanted: &dyn Fn(&Header) -> bool) -> Result<Vec<u64>> {
        let mut numbers = Vec::new();
        self.headers(from, end, &mut |header| {
            if wanted(&header) {
                numbers.push(header.number);
            }
        })?;
        Ok(numbers)
    }

    fn hashes(&self, from: u64, end: u64) -> Result<Vec<B256>> {
        let mut hashes = Vec::new();
        self.headers(from, end, &mut |header| hashes.push(header.hash_slow()))?;
        Ok(hashes)
    }

    fn transaction(&self, hash: &B256) -> Result<Option<(u64, usize)>> {
        self.confirmed(self.index.transaction(hash)?, |found| found.hash == *hash)
    }

    fn transaction_of(&self, sender: &Address, nonce: u64) -> Result<Option<(u64, usize)>> {
        let found = self.index.transaction_of(sender, nonce)?;
        self.confirmed(found, |found| found.sender == *sender && found.envelope.nonce() == nonce)
    }
}
