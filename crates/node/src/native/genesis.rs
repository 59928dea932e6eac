//! The genesis file: what all nodes of a native chain agree on before its first block.
//!
//! It is one JSON object. Fields that nobody knows are errors, so that a misspelt one is not silently missing. The file names the hash of the
//! block it describes: nodes and light clients compute it, and refuse a file that lies.
//!
//! The first block's state is exactly `alloc`. It must hold the contracts, the set of validators (in the storage of the contract
//! [`VALIDATOR_SET`](super::VALIDATOR_SET)), the public key and the digest of the [terms](GenesisTerms) (both in the storage of [`FHELIB`]). So the
//! hash covers every field of the file.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use alloy::primitives::{Address, B256, Bytes, U256, keccak256};
use cipherloom_contracts::{HostAddresses, HostContract};
use cipherloom_primitives::ciphertext_state::{FHELIB, PUBLIC_KEY_SLOT, STORAGE_ACCOUNT, StoredMetadata, bytes_of, word_slot};
use cipherloom_primitives::genesis_terms::{GenesisTerms, TERMS_SLOT};
use cipherloom_primitives::quorum::{ConsensusDomain, ValidatorSet};
use serde::{Deserialize, Serialize};

use super::rules::NativeRules;
use super::validators;
use crate::chain::core::{Core, CoreConfig};
use crate::clock::{Clock, SystemClock};
use crate::config::Limits;
use crate::error::{NodeError, Result};
use crate::state::{AccountDump, WorldState};

/// Version of the file format.
pub const GENESIS_VERSION: u32 = 2;

/// Largest genesis file that is read, in bytes. Nearly all of it is contract code and the public key, each byte as two digits.
const MAX_FILE_BYTES: u64 = 256 * 1024 * 1024;

/// Largest gas limit of a block: call data of that much gas (10 for a byte of zeros, EIP-7623) still fit into a message of 30 MiB between validators.
const MAX_GAS_LIMIT: u64 = 300_000_000;

/// Largest FHE gas limit of a block, in HCU: that many stored ciphertexts of 256 bits, about 8 KiB each, still fit into a sidecar of 30 MiB.
const MAX_FHE_GAS_LIMIT: u64 = 75_000_000;

/// What a native chain begins with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Genesis {
    /// [`GENESIS_VERSION`].
    pub version: u32,
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// Time of the first block, in seconds since the Unix epoch.
    pub timestamp: u64,
    /// Gas limit of every block; at most 300 million.
    pub gas_limit: u64,
    /// Most FHE gas of a block, in HCU; at most 75 million.
    pub fhe_gas_limit: u64,
    /// Who may change the set of validators and upgrade the contracts.
    pub owner: Address,
    /// Where the host contracts are, by their Solidity names.
    pub contracts: BTreeMap<HostContract, Address>,
    /// Where signatures for the contracts are valid.
    pub domains: GenesisDomains,
    /// The key set that all ciphertexts of the chain are under.
    pub key_set_id: B256,
    /// keccak-256 of the public key at [`FHELIB`], if it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_key_digest: Option<B256>,
    /// keccak-256 of the common reference string that proofs of inputs are made with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crs_digest: Option<B256>,
    /// Who signs block 1, and all after it until the set changes.
    pub validators: ValidatorSet,
    /// The accounts of the first block.
    pub alloc: BTreeMap<Address, GenesisAccount>,
    /// Hash of the first block. [`Genesis::seal`] fills it in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<B256>,
}

/// What the signatures that host contracts check are bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GenesisDomains {
    /// The chain id in the domains of answers.
    pub gateway_chain_id: u64,
    /// The verifying contract of the "Decryption" domain.
    pub decryption: Address,
    /// The verifying contract of the "InputVerification" domain.
    pub input_verification: Address,
}

/// An account of the first block.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct GenesisAccount {
    /// Transactions sent or contracts created so far.
    pub nonce: u64,
    /// Wei.
    pub balance: U256,
    /// Contract code as it is executed.
    #[serde(skip_serializing_if = "is_no_code")]
    pub code: Bytes,
    /// Slots that are not zero.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub storage: BTreeMap<B256, B256>,
}

impl Genesis {
    /// Reads and checks a genesis file.
    ///
    /// # Errors
    ///
    /// [`NodeError::Io`] or [`NodeError::Genesis`].
    pub fn read(path: &Path) -> Result<Self> {
        let io = |source| NodeError::Io {
            path: path.to_owned(),
            source,
        };
        let size = std::fs::metadata(path).map_err(io)?.len();
        if size > MAX_FILE_BYTES {
            return Err(invalid(format!("the file has {size} bytes, at most {MAX_FILE_BYTES} are read")));
        }
        Self::from_json(&std::fs::read(path).map_err(io)?)
    }

    /// Reads and checks the text of a genesis file, including the hash it names.
    ///
    /// # Errors
    ///
    /// [`NodeError::Genesis`].
    pub fn from_json(json: &[u8]) -> Result<Self> {
        let genesis: Self = serde_json::from_slice(json).map_err(|error| invalid(error.to_string()))?;
        let Some(named) = genesis.hash else {
            return Err(invalid("it does not name its hash".to_owned()));
        };
        let computed = genesis.computed_hash()?;
        if named != computed {
            return Err(invalid(format!(
                "it names the hash {named}, but describes a block with hash {computed}"
            )));
        }
        Ok(genesis)
    }

    /// Returns the text of the file.
    ///
    /// # Errors
    ///
    /// Only [`NodeError::Internal`].
    pub fn to_json(&self) -> Result<Vec<u8>> {
        let mut json = serde_json::to_vec_pretty(self).map_err(|error| NodeError::Internal(error.to_string()))?;
        json.push(b'\n');
        Ok(json)
    }

    /// Writes the terms' digest into the first state, checks everything and fills in the hash.
    ///
    /// # Errors
    ///
    /// [`NodeError::Genesis`].
    pub fn seal(mut self) -> Result<Self> {
        let digest = self.terms().digest();
        self.alloc.entry(FHELIB).or_default().storage.insert(TERMS_SLOT, digest);
        self.hash = Some(self.computed_hash()?);
        Ok(self)
    }

    /// Returns the hash of the first block, as computed from everything else.
    ///
    /// # Errors
    ///
    /// [`NodeError::Genesis`].
    pub fn computed_hash(&self) -> Result<B256> {
        Ok(self.core(Limits::default(), Arc::new(SystemClock), None)?.head().hash)
    }

    /// What the first block commits to besides its state and header.
    #[must_use]
    pub fn terms(&self) -> GenesisTerms {
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

    /// The contracts of a deployment as the file names them.
    #[must_use]
    pub fn named(addresses: &HostAddresses) -> BTreeMap<HostContract, Address> {
        HostContract::ALL
            .iter()
            .map(|contract| (*contract, contract.address(addresses)))
            .collect()
    }

    /// Returns the address of a contract.
    ///
    /// # Errors
    ///
    /// [`NodeError::Genesis`] if the file does not name it.
    pub fn contract(&self, contract: HostContract) -> Result<Address> {
        let found = self.contracts.get(&contract).copied();
        found.ok_or_else(|| invalid(format!("\"contracts\" does not name {contract}")))
    }

    /// What validators' signatures are bound to, for a chain whose first block has this hash.
    pub(crate) fn domain(&self, genesis_hash: B256) -> ConsensusDomain {
        ConsensusDomain {
            chain_id: self.chain_id,
            genesis_hash,
        }
    }

    /// The chain of the first block alone.
    pub(crate) fn core(&self, limits: Limits, clock: Arc<dyn Clock>, native: Option<Arc<NativeRules>>) -> Result<Core> {
        let state = self.state()?;
        let config = CoreConfig {
            chain_id: self.chain_id,
            block_gas_limit: self.gas_limit,
            coinbase: Address::ZERO,
            clock,
            limits,
            native,
        };
        let extra_data = Bytes::copy_from_slice(self.validators.digest().as_slice());
        let mut core = Core::new(config, state, self.timestamp, extra_data).map_err(|error| invalid(error.to_string()))?;
        // Blocks come from consensus alone.
        core.automine = false;
        Ok(core)
    }

    fn state(&self) -> Result<WorldState> {
        if self.version != GENESIS_VERSION {
            let version = self.version;
            return Err(invalid(format!(
                "it has format version {version}, this program reads {GENESIS_VERSION}"
            )));
        }
        if self.chain_id == 0 || self.fhe_gas_limit == 0 {
            return Err(invalid("chainId and fheGasLimit must not be zero".to_owned()));
        }
        // Blocks that do not fit into a message could be decided and never be handed on.
        if self.gas_limit > MAX_GAS_LIMIT || self.fhe_gas_limit > MAX_FHE_GAS_LIMIT {
            return Err(invalid(format!(
                "gasLimit can be at most {MAX_GAS_LIMIT}, and fheGasLimit at most {MAX_FHE_GAS_LIMIT}"
            )));
        }
        let mut state = WorldState::default();
        let accounts = self
            .alloc
            .iter()
            .map(|(address, account)| (*address, AccountDump::from(account.clone())));
        state.load(accounts.collect()).map_err(|error| invalid(error.to_string()))?;
        // Accounts without code, balance and nonce disappear when something touches them (EIP-161), and with them their storage.
        for address in [FHELIB, STORAGE_ACCOUNT] {
            if state.nonce(&address) != 1 {
                return Err(invalid(format!("alloc must have {address} with nonce 1")));
            }
        }
        for (name, address) in &self.contracts {
            // A deployment without this one contract says so by zeros.
            let none = *name == HostContract::GatewayContract && address.is_zero();
            if !none && state.code(address).is_empty() {
                return Err(invalid(format!("there is no code at {address}, the address of {name}")));
            }
        }
        self.contract(HostContract::Acl)?;
        self.contract(HostContract::FhevmExecutor)?;
        let stored = validators::read(&state).map_err(|reason| invalid(format!("the contract's validators: {reason}")))?;
        if stored != self.validators {
            return Err(invalid("\"validators\" and the contract's storage differ".to_owned()));
        }
        self.check_public_key(&state)?;
        let digest = U256::from_be_bytes(self.terms().digest().0);
        if state.storage(&FHELIB, U256::from_be_bytes(TERMS_SLOT.0)) != digest {
            return Err(invalid(format!(
                "the first block commits to other terms than the file names: chainId, fheGasLimit, owner, contracts, domains, keySetId or a digest was \
                 changed, or {FHELIB} does not store the terms' digest"
            )));
        }
        Ok(state)
    }

    fn check_public_key(&self, state: &WorldState) -> Result<()> {
        let slot = |slot: B256| state.storage(&FHELIB, U256::from_be_bytes(slot.0));
        let unreadable = |error: &dyn std::fmt::Display| invalid(format!("the public key at {FHELIB}: {error}"));
        let metadata = StoredMetadata::decode(slot(PUBLIC_KEY_SLOT)).map_err(|error| unreadable(&error))?;
        let digest = match metadata {
            None => None,
            Some(metadata) => {
                let words = (0..metadata.words())
                    .map(|index| slot(word_slot(PUBLIC_KEY_SLOT, index)))
                    .collect::<Vec<_>>();
                Some(keccak256(bytes_of(metadata, &words).map_err(|error| unreadable(&error))?))
            }
        };
        if digest != self.public_key_digest {
            return Err(invalid(format!("\"publicKeyDigest\" is not that of what {FHELIB} stores")));
        }
        Ok(())
    }
}

impl From<GenesisAccount> for AccountDump {
    fn from(account: GenesisAccount) -> Self {
        let GenesisAccount {
            nonce,
            balance,
            code,
            storage,
        } = account;
        Self {
            nonce,
            balance,
            code,
            storage,
        }
    }
}

fn invalid(reason: String) -> NodeError {
    NodeError::Genesis(reason)
}

fn is_no_code(code: &Bytes) -> bool {
    code.is_empty()
}
