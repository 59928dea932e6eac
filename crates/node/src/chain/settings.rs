//! What blocks are made with, and the state as a whole: set, dumped, loaded.

use std::collections::BTreeMap;

use alloy::primitives::{Address, B256, Bytes};
use serde::{Deserialize, Serialize};

use super::DevChain;
use super::journal::StateEdit;
use crate::error::{NodeError, Result};
use crate::state::AccountDump;

/// The first bytes of what gzip writes.
const GZIP: &[u8] = &[0x1f, 0x8b];

/// A state as anvil writes and reads it. anvil wants all fields to be there; those on blocks stay empty.
#[derive(Serialize, Deserialize)]
struct Dump {
    #[serde(skip_deserializing)]
    block: (),
    accounts: BTreeMap<Address, AccountDump>,
    #[serde(skip_deserializing)]
    best_block_number: (),
    #[serde(skip_deserializing)]
    blocks: [(); 0],
    #[serde(skip_deserializing)]
    transactions: [(); 0],
    #[serde(skip_deserializing)]
    historical_states: (),
}

impl DevChain {
    /// Sets the gas limit of following blocks, and of calls on them.
    ///
    /// # Errors
    ///
    /// [`NodeError::InvalidParams`] below one plain transfer or above [`crate::Limits::block_gas_limit`].
    pub fn set_block_gas_limit(&self, gas_limit: u64) -> Result<()> {
        self.change(|core| core.set_gas_limit(gas_limit))
    }

    /// Sets who receives the tips of following blocks.
    ///
    /// # Errors
    ///
    /// Only [`NodeError::Internal`], after a panic inside the chain.
    pub fn set_coinbase(&self, coinbase: Address) -> Result<()> {
        self.change(|core| {
            core.set_coinbase(coinbase);
            Ok(())
        })
    }

    /// Sets the PREVRANDAO of the next block.
    ///
    /// # Errors
    ///
    /// Only [`NodeError::Internal`], after a panic inside the chain.
    pub fn set_next_block_prevrandao(&self, prevrandao: B256) -> Result<()> {
        self.change(|core| {
            core.set_next_prevrandao(prevrandao);
            Ok(())
        })
    }

    /// Puts the timestamps of following blocks this many seconds apart, whatever the clock says, or lets them follow the clock
    /// again; returns whether that changed anything.
    ///
    /// # Errors
    ///
    /// [`NodeError::InvalidParams`] beyond the year 9999.
    pub fn set_block_timestamp_interval(&self, seconds: Option<u64>) -> Result<bool> {
        self.change(|core| core.set_timestamp_interval(seconds))
    }

    /// Returns the state of the latest block as JSON that [`Self::load_state`] and anvil read.
    ///
    /// # Errors
    ///
    /// Only [`NodeError::Internal`], after a panic inside the chain.
    pub fn dump_state(&self) -> Result<Bytes> {
        let state = self.core()?.head_state().clone();
        let dump = Dump {
            block: (),
            accounts: state.dump(),
            best_block_number: (),
            blocks: [],
            transactions: [],
            historical_states: (),
        };
        let json = serde_json::to_vec(&dump).map_err(|error| NodeError::Internal(error.to_string()))?;
        Ok(json.into())
    }

    /// Puts the accounts of a dump in place of those that have the same addresses. Other accounts stay, and so do the blocks.
    ///
    /// # Errors
    ///
    /// [`NodeError::InvalidParams`] for what is not a dump, [`NodeError::Io`] if the journal cannot be written.
    pub fn load_state(&self, dump: &[u8]) -> Result<()> {
        if dump.starts_with(GZIP) {
            return Err(NodeError::InvalidParams(
                "the dump is compressed with gzip; load what `gunzip` makes of it".to_owned(),
            ));
        }
        let Dump { accounts, .. } =
            serde_json::from_slice(dump).map_err(|error| NodeError::InvalidParams(format!("this is no state dump: {error}")))?;
        self.change(|core| core.edit(StateEdit::Load { accounts }))
    }
}
