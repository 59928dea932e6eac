//! Reads about accounts: what they have, what they sent, and what is stored in them.

use alloy::primitives::{Address, B256, Bytes, U256};

use crate::{
    error::ChainError,
    host_chain::HostChain,
    sender::{Call, request},
};

impl HostChain {
    /// Returns the gas that a transaction of an account would use now.
    ///
    /// # Errors
    /// [`ChainError::Refused`] if it would fail, and as all reads.
    pub async fn gas_of(&self, from: Address, call: &Call) -> Result<u64, ChainError> {
        self.estimate_gas(&request(from, call)).await
    }

    /// Returns the balance of an account in wei.
    ///
    /// # Errors
    /// As all reads of a chain.
    pub async fn balance(&self, account: Address) -> Result<U256, ChainError> {
        self.request("eth_getBalance", (account, "latest")).await
    }

    /// Returns how many transactions of an account are included.
    ///
    /// # Errors
    /// As all reads of a chain.
    pub async fn sent_by(&self, account: Address) -> Result<u64, ChainError> {
        self.nonce(account).await
    }

    /// Returns the code of an account.
    ///
    /// # Errors
    /// As all reads of a chain.
    pub async fn code(&self, account: Address) -> Result<Bytes, ChainError> {
        self.request("eth_getCode", (account, "latest")).await
    }

    /// Returns a word of an account's storage.
    ///
    /// # Errors
    /// As all reads of a chain.
    pub async fn storage(&self, account: Address, slot: B256) -> Result<B256, ChainError> {
        let word: U256 = self.request("eth_getStorageAt", (account, slot, "latest")).await?;
        Ok(word.into())
    }
}
