//! A native chain at one certified block.

use std::collections::BTreeSet;

use alloy::consensus::Header;
use cipherloom_primitives::{AclFacts, AclQuestion, Address, B256, Bytes, Handle};

use super::storage;
use crate::{
    error::ChainError,
    pinned::{ContextOnChain, PinnedChain},
    proof::invalid,
    quorum::Quorum,
};

/// A native chain after one block that its validators certified. See [`super::LightClient`] for what is believed.
#[derive(Clone, Debug)]
pub struct PinnedNative {
    chain: PinnedChain,
    quorum: Quorum,
    header: Header,
    hash: B256,
    key_set_id: B256,
}

impl PinnedNative {
    pub(super) const fn new(chain: PinnedChain, quorum: Quorum, header: Header, hash: B256, key_set_id: B256) -> Self {
        Self {
            chain,
            quorum,
            header,
            hash,
            key_set_id,
        }
    }

    /// Returns the header.
    #[must_use]
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// Returns the number of the block.
    #[must_use]
    pub const fn number(&self) -> u64 {
        self.header.number
    }

    /// Returns the hash of the block.
    #[must_use]
    pub const fn hash(&self) -> B256 {
        self.hash
    }

    /// Returns the time of the block, in seconds since 1970.
    #[must_use]
    pub const fn timestamp(&self) -> u64 {
        self.header.timestamp
    }

    /// Returns the key set that all ciphertexts of the chain are under, as its genesis says.
    #[must_use]
    pub const fn key_set_id(&self) -> B256 {
        self.key_set_id
    }

    /// Returns what is proven to stand in the storage of the access-control contract.
    ///
    /// # Errors
    /// As [`PinnedChain::acl`] by proofs.
    pub async fn acl(&self, questions: &BTreeSet<AclQuestion>) -> Result<AclFacts, ChainError> {
        self.chain.acl(questions).await
    }

    /// Returns the ciphertext that is proven to be stored for a handle; `None` if it is proven that there is none.
    ///
    /// # Errors
    /// As all reads; [`ChainError::Proof`] if no node proves anything; [`ChainError::StoredCiphertext`] if what is stored is no ciphertext of the
    /// handle's type.
    pub async fn ciphertext(&self, handle: Handle) -> Result<Option<Vec<u8>>, ChainError> {
        let mut failure = invalid(cipherloom_primitives::ciphertext_state::STORAGE_ACCOUNT, "there is no node to ask");
        for witness in self.quorum.witnesses() {
            match storage::ciphertext(&witness.host, &self.header, self.hash, handle).await {
                Ok(found) => return Ok(found),
                // This was proven; others cannot prove anything else.
                Err(error @ ChainError::StoredCiphertext { .. }) => return Err(error),
                Err(error) => {
                    tracing::warn!(node = witness.label, block = %self.hash, %handle, %error, "a node does not prove a ciphertext");
                    failure = error;
                }
            }
        }
        Err(failure)
    }

    /// Returns the KMS nodes of the context that extra data name, as a quorum of nodes say.
    ///
    /// # Errors
    /// As [`PinnedChain::kms_context`].
    pub async fn kms_context(&self, extra_data: &[u8]) -> Result<ContextOnChain, ChainError> {
        self.chain.kms_context(extra_data).await
    }

    /// Says whether an account that is a contract recognises a signature (ERC-1271).
    ///
    /// That an account has no code is proven. What the code of one that has answers can only be asked for, and a single node that lies could so read
    /// what belongs to a wallet: at least two must agree.
    ///
    /// # Errors
    /// As all reads; [`ChainError::Unproven`] if the account is a contract and one node is all that must agree.
    pub async fn is_valid_signature(&self, account: Address, digest: B256, signature: &Bytes) -> Result<bool, ChainError> {
        if !self.has_code(account).await? {
            return Ok(false);
        }
        if self.quorum.needed() < 2 {
            return Err(ChainError::Unproven {
                what: "whether a wallet recognises a signature",
            });
        }
        self.chain.is_valid_signature(account, digest, signature).await
    }

    async fn has_code(&self, account: Address) -> Result<bool, ChainError> {
        let mut failure = invalid(account, "there is no node to ask");
        for witness in self.quorum.witnesses() {
            match storage::has_code(&witness.host, &self.header, self.hash, account).await {
                Ok(found) => return Ok(found),
                Err(error) => {
                    tracing::warn!(node = witness.label, block = %self.hash, %account, %error, "a node does not prove an account");
                    failure = error;
                }
            }
        }
        Err(failure)
    }
}
