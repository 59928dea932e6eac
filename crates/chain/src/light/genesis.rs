//! What a light client takes from the file that a native chain starts with.
//!
//! The hash of block 0 is what an operator compares with others, and what everything else is proven from. So the rest of the file has to be what that hash
//! stands for: [`NativeGenesis::read`] computes the block's state root and hash from the file ([`super::block_zero`]), and the terms must be those that the
//! state commits to ([`GenesisTerms`]). A file in which somebody changed the key set, a contract's address or a validator, and left the hash, is refused.

use std::{collections::BTreeMap, fs, path::Path};

use cipherloom_contracts::{HostAddresses, HostContract};
use cipherloom_primitives::{
    Address, B256,
    eip712::SigningDomains,
    genesis_terms::GenesisTerms,
    quorum::{ConsensusDomain, ValidatorSet},
};
use serde::Deserialize;

use super::{
    block_zero::{Account, BlockZero},
    trusted::TrustedState,
};
use crate::{error::ChainError, manifest::Domains};

/// The version of the file's form.
const FORMAT: u32 = 2;

/// The longest file that is read, in bytes: code and storage of all contracts and the public key have a few.
const MAX_BYTES: u64 = 256 << 20;

/// A native chain as its genesis describes it.
#[derive(Clone, Debug, PartialEq)]
pub struct NativeGenesis {
    /// The chain's id.
    pub chain_id: u64,
    /// The hash of block 0.
    pub hash: B256,
    /// Who signs block 1.
    pub validators: ValidatorSet,
    /// Where the host contracts are.
    pub contracts: HostAddresses,
    /// Where signatures are valid.
    pub domains: Domains,
    /// The key set that all ciphertexts of the chain are under.
    pub key_set_id: B256,
}

/// The file. Nodes refuse fields that they do not know, so that a misspelt one is not silently missing; here it is the same.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct GenesisFile {
    version: u32,
    chain_id: u64,
    timestamp: u64,
    gas_limit: u64,
    fhe_gas_limit: u64,
    owner: Address,
    contracts: BTreeMap<HostContract, Address>,
    domains: Domains,
    key_set_id: B256,
    #[serde(default)]
    public_key_digest: Option<B256>,
    #[serde(default)]
    crs_digest: Option<B256>,
    validators: ValidatorSet,
    alloc: BTreeMap<Address, Account>,
    hash: B256,
}

impl NativeGenesis {
    /// Reads a file, and checks that the hash it names is that of the block it describes.
    ///
    /// # Errors
    /// [`ChainError::NativeFile`] if it cannot be read, is too long or not of this form, or if its hash covers anything else than what stands in it.
    pub fn read(path: &Path) -> Result<Self, ChainError> {
        let bytes = read_file(path, MAX_BYTES)?;
        let file: GenesisFile = serde_json::from_slice(&bytes).map_err(|error| unusable(path, error))?;
        file.check().map_err(|reason| unusable(path, reason))
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

impl GenesisFile {
    /// Takes what the hash covers, which is everything; the error says what it does not.
    fn check(self) -> Result<NativeGenesis, String> {
        if self.version != FORMAT {
            return Err(format!("it has format version {}, this program reads {FORMAT}", self.version));
        }
        let terms = self.terms();
        let block = BlockZero {
            timestamp: self.timestamp,
            gas_limit: self.gas_limit,
            validators: &self.validators,
            accounts: &self.alloc,
        };
        let computed = block.hash();
        if computed != self.hash {
            return Err(format!(
                "it names the hash {}, but describes a block with hash {computed}: it was changed, or is of another version",
                self.hash
            ));
        }
        if block.terms_digest() != terms.digest() {
            return Err(
                "its first block commits to other terms than it names: chainId, fheGasLimit, owner, contracts, domains, keySetId or a digest was changed".to_owned(),
            );
        }
        Ok(NativeGenesis {
            chain_id: self.chain_id,
            hash: self.hash,
            validators: self.validators.clone(),
            contracts: HostAddresses::try_of(|contract| {
                let found = self.contracts.get(&contract).copied();
                found.ok_or_else(|| format!("\"contracts\" does not name {contract}"))
            })?,
            domains: self.domains,
            key_set_id: self.key_set_id,
        })
    }

    fn terms(&self) -> GenesisTerms {
        let named = |(contract, address): (&HostContract, &Address)| (contract.name().to_owned(), *address);
        GenesisTerms {
            chain_id: self.chain_id,
            fhe_gas_limit: self.fhe_gas_limit,
            owner: self.owner,
            key_set_id: self.key_set_id,
            public_key_digest: self.public_key_digest.unwrap_or_default(),
            crs_digest: self.crs_digest.unwrap_or_default(),
            gateway_chain_id: self.domains.gateway_chain_id,
            decryption: self.domains.decryption,
            input_verification: self.domains.input_verification,
            contracts: self.contracts.iter().map(named).collect(),
        }
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
