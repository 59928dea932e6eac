//! What a light client takes from the file that a native chain starts with.
//!
//! The file has the whole first state, from which nodes compute the hash of block 0 and refuse a file with another one in it. Here the hash is taken from the
//! file: whoever could change it could as well change the validators beside it, so the file has to come from whom the operator trusts, like a
//! deployment's.

use std::{fs, path::Path};

use cipherloom_contracts::HostAddresses;
use cipherloom_primitives::{
    B256,
    eip712::SigningDomains,
    quorum::{ConsensusDomain, ValidatorSet},
};
use serde::Deserialize;

use super::trusted::TrustedState;
use crate::{
    error::ChainError,
    manifest::{Domains, named::contracts},
};

/// The longest file that is read, in bytes: code and storage of all contracts and the public key have a few.
const MAX_BYTES: u64 = 256 << 20;

/// A native chain as its genesis describes it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NativeGenesis {
    /// The chain's id.
    pub chain_id: u64,
    /// The hash of block 0.
    pub hash: B256,
    /// Who signs block 1.
    pub validators: ValidatorSet,
    /// Where the host contracts are.
    #[serde(with = "contracts")]
    pub contracts: HostAddresses,
    /// Where signatures are valid.
    pub domains: Domains,
    /// The key set that all ciphertexts of the chain are under.
    pub key_set_id: B256,
}

impl NativeGenesis {
    /// Reads a file.
    ///
    /// # Errors
    /// [`ChainError::NativeFile`] if it cannot be read, is too long or not of this form.
    pub fn read(path: &Path) -> Result<Self, ChainError> {
        let bytes = read_file(path, MAX_BYTES)?;
        serde_json::from_slice(&bytes).map_err(|error| unusable(path, error))
    }

    /// Returns where votes of the chain's validators are valid.
    #[must_use]
    pub const fn consensus_domain(&self) -> ConsensusDomain {
        ConsensusDomain {
            chain_id: self.chain_id,
            genesis_hash: self.hash,
        }
    }

    /// Returns where signatures of users and of the KMS are valid.
    #[must_use]
    pub const fn signing_domains(&self) -> SigningDomains {
        SigningDomains {
            host_chain_id: self.chain_id,
            gateway_chain_id: self.domains.gateway_chain_id,
            decryption: self.domains.decryption,
            input_verification: self.domains.input_verification,
        }
    }

    /// Returns what is trusted without having asked anybody: block 0.
    #[must_use]
    pub fn trusted(&self) -> TrustedState {
        TrustedState::at_genesis(self.consensus_domain(), self.validators.clone())
    }
}

/// Reads a file that may not be longer than this.
pub(super) fn read_file(path: &Path, limit: u64) -> Result<Vec<u8>, ChainError> {
    let size = fs::metadata(path).map_err(|error| unusable(path, error))?.len();
    if size > limit {
        return Err(unusable(path, format!("it has {size} bytes; at most {limit} are read")));
    }
    fs::read(path).map_err(|error| unusable(path, error))
}

pub(super) fn unusable(path: &Path, reason: impl ToString) -> ChainError {
    ChainError::NativeFile {
        path: path.to_owned(),
        reason: reason.to_string(),
    }
}
