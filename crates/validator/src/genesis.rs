//! What a new chain begins with.
//!
//! The first block's state has the host contracts, the set of validators, the public key that inputs are encrypted to, and accounts with ether. All of it
//! follows from a [`ChainPlan`] and a key set, so that whoever has both can check a genesis file, whose hash every node and every light client pins.

use std::{
    collections::BTreeMap,
    time::{SystemTime, UNIX_EPOCH},
};

use alloy::primitives::{Address, B256, U256, keccak256};
use anyhow::{Context, Result};
use cipherloom_chain::LocalProfile;
use cipherloom_contracts::{Face, HcuLimits, KmsConfig, NativeDeployment, development};
use cipherloom_fhe::KeySet;
use cipherloom_node::native::{GENESIS_VERSION, Genesis, GenesisAccount, GenesisDomains, public_key_slots};
use cipherloom_primitives::{
    ciphertext_state::{FHELIB, STORAGE_ACCOUNT},
    quorum::ValidatorSet,
};

use crate::genesis_alloc::genesis_alloc;

/// The chain id of development chains with validators, next to 31337, that of those without.
pub const DEVELOPMENT_CHAIN_ID: u64 = 31338;

/// Gas of a block, if nobody says otherwise.
pub const DEFAULT_GAS_LIMIT: u64 = 60_000_000;

/// FHE gas of a block, if nobody says otherwise: what one transaction may cost by the public protocol, with its proofs and what it stores, so that none is
/// too large for any block.
pub const DEFAULT_FHE_GAS_LIMIT: u64 = 40_000_000;

/// Accounts without code, balance and nonce disappear when something touches them (EIP-161), and with them their storage.
const KEPT: u64 = 1;

/// What a new chain is to be.
#[derive(Clone, Debug)]
pub struct ChainPlan {
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// Time of the first block, in seconds since the Unix epoch.
    pub timestamp: u64,
    /// Gas limit of every block.
    pub gas_limit: u64,
    /// Most FHE gas of a block, in HCU.
    pub fhe_gas_limit: u64,
    /// Who signs the first blocks.
    pub validators: ValidatorSet,
    /// Who may change validators and upgrade contracts.
    pub owner: Address,
    /// The KMS nodes.
    pub kms: KmsConfig,
    /// Who may deliver decryptions that contracts asked for, besides the owner.
    pub relayers: Vec<Address>,
    /// Accounts with ether from the first block on, in wei.
    pub funded: BTreeMap<Address, U256>,
}

impl ChainPlan {
    /// A chain that begins now, with the usual limits.
    ///
    /// # Errors
    /// If the clock is before 1970.
    pub fn new(chain_id: u64, validators: ValidatorSet, owner: Address, kms: KmsConfig) -> Result<Self> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?;
        Ok(Self {
            chain_id,
            timestamp: now.as_secs(),
            gas_limit: DEFAULT_GAS_LIMIT,
            fhe_gas_limit: DEFAULT_FHE_GAS_LIMIT,
            validators,
            owner,
            kms,
            relayers: Vec::new(),
            funded: BTreeMap::new(),
        })
    }

    /// Says what is deployed. The contracts stand where published libraries expect those of the development chain, on every native chain: nobody needs
    /// the key of the account from whose nonces the addresses follow.
    #[must_use]
    pub fn deployment(&self) -> NativeDeployment {
        let mut relayers = vec![self.owner];
        relayers.extend(self.relayers.iter().filter(|relayer| **relayer != self.owner));
        NativeDeployment {
            deployer: development::DEPLOYER,
            owner: self.owner,
            domains: LocalProfile::of_new_chain(self.chain_id),
            face: Face::default(),
            kms: self.kms.clone(),
            hcu_limits: HcuLimits::default(),
            pausers: vec![self.owner],
            relayers,
        }
    }

    /// Makes the genesis of the chain under a key set.
    ///
    /// # Errors
    /// If the contracts cannot be deployed with this plan, or something in it is no chain's.
    pub fn build(&self, keys: &KeySet) -> Result<Genesis> {
        let deployment = self.deployment();
        let public_key = keys.public_key();
        let genesis = Genesis {
            version: GENESIS_VERSION,
            chain_id: self.chain_id,
            timestamp: self.timestamp,
            gas_limit: self.gas_limit,
            fhe_gas_limit: self.fhe_gas_limit,
            owner: self.owner,
            contracts: Genesis::named(&deployment.addresses()),
            domains: GenesisDomains {
                gateway_chain_id: deployment.domains.gateway_chain_id,
                decryption: deployment.domains.decryption,
                input_verification: deployment.domains.input_verification,
            },
            key_set_id: B256::from(*keys.manifest().id.as_bytes()),
            public_key_digest: Some(keccak256(&public_key)),
            crs_digest: Some(keccak256(keys.crs())),
            validators: self.validators.clone(),
            alloc: self.alloc(&deployment, &public_key)?,
            hash: None,
        };
        genesis.seal().context("the plan makes no chain")
    }

    fn alloc(&self, deployment: &NativeDeployment, public_key: &[u8]) -> Result<BTreeMap<Address, GenesisAccount>> {
        let validators: Vec<(Address, u64)> = self
            .validators
            .iter()
            .map(|validator| (validator.address, validator.power))
            .collect();
        let mut alloc = genesis_alloc(deployment, &validators, self.owner).context("cannot make the contracts of the first block")?;
        let slots = public_key_slots(public_key).context("cannot store the public key")?;
        let kept = |storage| GenesisAccount {
            nonce: KEPT,
            storage,
            ..GenesisAccount::default()
        };
        let words = slots.into_iter().map(|(slot, word)| (B256::from(slot), B256::from(word)));
        alloc.insert(FHELIB, kept(words.collect()));
        alloc.insert(STORAGE_ACCOUNT, kept(BTreeMap::new()));
        for (account, wei) in &self.funded {
            let balance = &mut alloc.entry(*account).or_default().balance;
            *balance = balance.saturating_add(*wei);
        }
        Ok(alloc)
    }
}
