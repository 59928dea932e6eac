//! What only a development chain lets one do: mine on demand, set time and state, go back.

use alloy::primitives::{Address, Bytes, U256};

use super::DevChain;
use super::core::Core;
use super::journal::StateEdit;
use crate::error::{NodeError, Result};

impl DevChain {
    /// Mines `count` blocks: the first takes what waits and fits, the others usually nothing.
    ///
    /// # Errors
    ///
    /// [`NodeError::LimitExceeded`] for too many blocks, [`NodeError::Io`] if the journal cannot
    /// be written.
    pub fn mine(&self, count: u64) -> Result<()> {
        self.check_block_count(count)?;
        self.change(|core| (0..count).try_for_each(|_| core.mine_block()))
    }

    /// Switches instant mining on or off; switching it on mines what waits.
    ///
    /// # Errors
    ///
    /// [`NodeError::Io`] if the journal cannot be written.
    pub fn set_automine(&self, automine: bool) -> Result<()> {
        self.change(|core| {
            core.automine = automine;
            if automine { core.mine_executable().map(drop) } else { Ok(()) }
        })
    }

    /// Returns whether instant mining is on.
    ///
    /// # Errors
    ///
    /// Only [`NodeError::Internal`], after a panic inside the chain.
    pub fn automine(&self) -> Result<bool> {
        Ok(self.core()?.automine)
    }

    /// Moves the time of following blocks forward by `seconds`; returns their offset from the clock.
    ///
    /// # Errors
    ///
    /// [`NodeError::InvalidParams`] beyond the year 9999, [`NodeError::Io`].
    pub fn increase_time(&self, seconds: u64) -> Result<i64> {
        self.change(|core| core.increase_time(seconds))
    }

    /// Sets the time that following blocks count from, in seconds since the Unix epoch.
    ///
    /// # Errors
    ///
    /// [`NodeError::InvalidParams`] before the latest block or beyond the year 9999, [`NodeError::Io`].
    pub fn set_time(&self, timestamp: u64) -> Result<()> {
        self.change(|core| core.set_time(timestamp))
    }

    /// Fixes the timestamp of the next block; later blocks count from it.
    ///
    /// # Errors
    ///
    /// [`NodeError::InvalidParams`] before the latest block or beyond the year 9999.
    pub fn set_next_block_timestamp(&self, timestamp: u64) -> Result<()> {
        self.change(|core| core.set_next_timestamp(timestamp))
    }

    /// Fixes the base fee of the next block, in wei per gas.
    ///
    /// # Errors
    ///
    /// Only [`NodeError::Internal`], after a panic inside the chain.
    pub fn set_next_block_base_fee(&self, base_fee: u64) -> Result<()> {
        self.change(|core| {
            core.set_next_base_fee(base_fee);
            Ok(())
        })
    }

    /// Takes a snapshot of the chain and returns its id.
    ///
    /// # Errors
    ///
    /// [`NodeError::LimitExceeded`] if too many are kept, [`NodeError::Io`].
    pub fn snapshot(&self) -> Result<u64> {
        self.change(Core::snapshot)
    }

    /// Goes back to a snapshot, which is used up together with all later ones; false if unknown.
    ///
    /// # Errors
    ///
    /// [`NodeError::Io`] if the journal cannot be written.
    pub fn revert(&self, id: u64) -> Result<bool> {
        self.change(|core| core.revert(id))
    }

    /// Removes the last `depth` blocks. Their transactions are forgotten, as are later snapshots.
    ///
    /// # Errors
    ///
    /// [`NodeError::InvalidParams`] below the first block, [`NodeError::StatePruned`], [`NodeError::Io`].
    pub fn rollback(&self, depth: u64) -> Result<()> {
        self.change(|core| core.rollback(depth))
    }

    /// Replaces the last `depth` blocks by as many empty ones with other hashes: a reorganization
    /// that drops transactions, for tests of software that follows the chain.
    ///
    /// # Errors
    ///
    /// As [`Self::rollback`], and [`NodeError::LimitExceeded`] as [`Self::mine`].
    pub fn reorganize(&self, depth: u64) -> Result<()> {
        self.check_block_count(depth)?;
        self.change(|core| core.reorganize(depth))
    }

    /// Sets the balance of an account. The state root of the next block covers the change; the
    /// same holds for the other `set_` methods.
    ///
    /// # Errors
    ///
    /// [`NodeError::Io`] if the journal cannot be written.
    pub fn set_balance(&self, address: Address, balance: U256) -> Result<()> {
        self.change(|core| core.edit(StateEdit::Balance { address, balance }))
    }

    /// Sets the nonce of an account.
    ///
    /// # Errors
    ///
    /// [`NodeError::Io`] if the journal cannot be written.
    pub fn set_nonce(&self, address: Address, nonce: u64) -> Result<()> {
        self.change(|core| core.edit(StateEdit::Nonce { address, nonce }))
    }

    /// Sets the code of an account.
    ///
    /// # Errors
    ///
    /// [`NodeError::InvalidParams`] for a malformed EIP-7702 delegation, [`NodeError::Io`].
    pub fn set_code(&self, address: Address, code: Bytes) -> Result<()> {
        self.change(|core| core.edit(StateEdit::Code { address, code }))
    }

    /// Sets one storage slot of an account.
    ///
    /// # Errors
    ///
    /// [`NodeError::Io`] if the journal cannot be written.
    pub fn set_storage(&self, address: Address, slot: U256, value: U256) -> Result<()> {
        self.change(|core| core.edit(StateEdit::Storage { address, slot, value }))
    }

    /// Goes back to the first block as it was made, with automining on. Snapshots, waiting transactions, state edits and
    /// everything that was set are gone; installed filters and subscriptions stay and are told.
    ///
    /// # Errors
    ///
    /// [`NodeError::Io`] if the journal cannot be written.
    pub fn reset(&self) -> Result<()> {
        self.change(Core::reset)?;
        self.stop_interval_mining();
        Ok(())
    }

    pub(crate) fn check_block_count(&self, count: u64) -> Result<()> {
        let limit = self.limits().mine_blocks_per_call;
        if count > limit {
            return Err(NodeError::LimitExceeded(format!(
                "{count} blocks asked for, at most {limit} are mined per call"
            )));
        }
        Ok(())
    }
}
