//! What is known about one deployment of the host contracts, as a JSON file beside it: `deployment-<chain id>.json`.
//!
//! It is written by whoever deploys, upgrades or changes signers, after every step, and read wherever a stack is attached to the chain. It holds
//! nothing secret. A lost file can be made again from the chain, since addresses follow from the deployer; only the hashes of transactions and the
//! storage layouts that upgrades are checked against are lost with it.

pub(crate) mod named;
mod records;

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use alloy::primitives::{Address, B256};
use cipherloom_contracts::{DeploymentConfig, Face, GatewayPlan, HostAddresses, HostContract, KmsConfig, SignerSet, Wiring};
use cipherloom_primitives::eip712::SigningDomains;
use serde::{Deserialize, Serialize};

use self::named::{checksummed, contracts};
pub use self::records::{Domains, HcuLimitsRecord, Implementation, Kms, NamedAddresses, Signers, StepRecord, UpgradeRecord};
use crate::{error::ChainError, sender::Included};

/// The version of the file's form.
const FORMAT: u32 = 1;

/// The longest file that is read, in bytes. One with hundreds of upgrades stays far below.
const MAX_BYTES: u64 = 16 * 1024 * 1024;

/// One deployment of the host contracts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Deployment {
    /// The version of the file's form.
    pub format: u32,
    /// The program that wrote it.
    pub software: String,
    /// The chain.
    pub chain_id: u64,
    /// Whether every step is done.
    pub complete: bool,
    /// The account that deployed.
    #[serde(with = "checksummed")]
    pub deployer: Address,
    /// The account that deployed the GatewayContract, if it is another.
    #[serde(with = "checksummed::option", default, skip_serializing_if = "Option::is_none")]
    pub gateway_deployer: Option<Address>,
    /// Who administers the contracts, or is offered to.
    #[serde(with = "checksummed")]
    pub owner: Address,
    /// The protocol version that the contracts say they are.
    pub face: Face,
    /// Where the contracts are.
    #[serde(with = "contracts")]
    pub contracts: HostAddresses,
    /// Where signatures are valid.
    pub domains: Domains,
    /// The coprocessors.
    pub coprocessors: Signers,
    /// The KMS nodes.
    pub kms: Kms,
    /// The limits on the cost of operations at deployment.
    pub hcu_limits: HcuLimitsRecord,
    /// Who could pause after deployment.
    #[serde(with = "checksummed::list")]
    pub pausers: Vec<Address>,
    /// Who delivered decrypted values after deployment.
    #[serde(with = "checksummed::list")]
    pub relayers: Vec<Address>,
    /// The code behind the proxies.
    pub implementations: BTreeMap<HostContract, Implementation>,
    /// The block of the first step; nothing of the deployment is before it.
    pub first_block: Option<u64>,
    /// The transactions so far.
    pub steps: Vec<StepRecord>,
    /// Upgrades since, oldest first.
    #[serde(default)]
    pub upgrades: Vec<UpgradeRecord>,
}

impl Deployment {
    /// Describes a deployment of which nothing is done yet.
    #[must_use]
    pub fn planned(config: &DeploymentConfig) -> Self {
        Self {
            format: FORMAT,
            software: Self::this_software(),
            chain_id: config.domains.host_chain_id,
            complete: false,
            deployer: config.deployer,
            gateway_deployer: config.gateway.deployer,
            owner: config.owner,
            face: config.face,
            contracts: config.addresses(),
            domains: config.domains.into(),
            coprocessors: Signers {
                signers: config.coprocessors.signers.clone(),
                threshold: config.coprocessors.threshold,
            },
            kms: Kms {
                signers: config.kms.signers.clone(),
                public_decryption_threshold: config.kms.public_decryption_threshold,
                user_decryption_threshold: config.kms.user_decryption_threshold,
                mpc_threshold: config.kms.mpc_threshold,
            },
            hcu_limits: config.hcu_limits.into(),
            pausers: config.pausers.clone(),
            relayers: config.gateway.relayers.clone(),
            implementations: BTreeMap::new(),
            first_block: None,
            steps: Vec::new(),
            upgrades: Vec::new(),
        }
    }

    /// Returns what was to be deployed.
    #[must_use]
    pub fn config(&self) -> DeploymentConfig {
        DeploymentConfig {
            deployer: self.deployer,
            owner: self.owner,
            domains: self.signing_domains(),
            face: self.face,
            coprocessors: SignerSet {
                signers: self.coprocessors.signers.clone(),
                threshold: self.coprocessors.threshold,
            },
            kms: KmsConfig {
                signers: self.kms.signers.clone(),
                public_decryption_threshold: self.kms.public_decryption_threshold,
                user_decryption_threshold: self.kms.user_decryption_threshold,
                mpc_threshold: self.kms.mpc_threshold,
            },
            hcu_limits: self.hcu_limits.into(),
            pausers: self.pausers.clone(),
            gateway: GatewayPlan {
                deployer: self.gateway_deployer,
                relayers: self.relayers.clone(),
            },
        }
    }

    /// Names what differs between two plans of a deployment; nothing if they are the same.
    #[must_use]
    pub fn differences(&self, other: &Self) -> Vec<&'static str> {
        [
            ("the chain", self.chain_id == other.chain_id),
            ("the deployer", self.deployer == other.deployer),
            ("the gateway's deployer", self.gateway_deployer == other.gateway_deployer),
            ("the owner", self.owner == other.owner),
            ("the face", self.face == other.face),
            ("the domains", self.domains == other.domains),
            ("the coprocessors", self.coprocessors == other.coprocessors),
            ("the KMS", self.kms == other.kms),
            ("the HCU limits", self.hcu_limits == other.hcu_limits),
            ("the pausers", self.pausers == other.pausers),
            ("the relayers", self.relayers == other.relayers),
        ]
        .into_iter()
        .filter_map(|(name, is_same)| (!is_same).then_some(name))
        .collect()
    }

    /// Returns what the implementations have compiled in.
    #[must_use]
    pub const fn wiring(&self) -> Wiring {
        Wiring::new(self.contracts, self.face)
    }

    /// Returns the name of the file for a chain.
    #[must_use]
    pub fn file_name(chain_id: u64) -> String {
        format!("deployment-{chain_id}.json")
    }

    /// Returns the version of the form that this build writes.
    #[must_use]
    pub const fn current_format() -> u32 {
        FORMAT
    }

    /// Names this program, for the file.
    #[must_use]
    pub fn this_software() -> String {
        format!("cipherloom {}", env!("CARGO_PKG_VERSION"))
    }

    /// Reads a file.
    ///
    /// # Errors
    /// [`ChainError::DeploymentFile`] if it cannot be read, is too long or not of this form.
    pub fn read(path: &Path) -> Result<Self, ChainError> {
        let failed = |reason: String| ChainError::DeploymentFile {
            path: path.to_owned(),
            reason,
        };
        let size = fs::metadata(path).map_err(|error| failed(error.to_string()))?.len();
        if size > MAX_BYTES {
            return Err(failed(format!("{size} bytes are too many")));
        }
        let text = fs::read(path).map_err(|error| failed(error.to_string()))?;
        let deployment: Self = serde_json::from_slice(&text).map_err(|error| failed(error.to_string()))?;
        if deployment.format != FORMAT {
            return Err(failed(format!(
                "it has form {}, and this build reads form {FORMAT}",
                deployment.format
            )));
        }
        Ok(deployment)
    }

    /// Writes a file in place of the one there, as a whole or not at all.
    ///
    /// # Errors
    /// [`ChainError::DeploymentFile`] if it cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), ChainError> {
        let write = || -> Result<(), std::io::Error> {
            if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
                fs::create_dir_all(directory)?;
            }
            let beside: PathBuf = path.with_extension("json.new");
            let mut file = fs::File::create(&beside)?;
            serde_json::to_writer_pretty(&mut file, self)?;
            file.write_all(b"\n")?;
            file.sync_all()?;
            fs::rename(&beside, path)
        };
        write().map_err(|error| ChainError::DeploymentFile {
            path: path.to_owned(),
            reason: error.to_string(),
        })
    }

    /// Returns where the contracts are.
    #[must_use]
    pub const fn addresses(&self) -> HostAddresses {
        self.contracts
    }

    /// Returns where signatures are valid.
    #[must_use]
    pub const fn signing_domains(&self) -> SigningDomains {
        SigningDomains {
            host_chain_id: self.chain_id,
            gateway_chain_id: self.domains.gateway_chain_id,
            decryption: self.domains.decryption,
            input_verification: self.domains.input_verification,
        }
    }

    /// Notes that a step was sent, or once `included` is known what became of it. A step has one entry, however often it is replaced.
    pub fn note_step(&mut self, name: &str, from: Address, nonce: u64, hash: Option<B256>, included: Option<&Included>) {
        let record = StepRecord {
            name: name.to_owned(),
            from,
            nonce,
            transaction: included.map(|included| included.hash).or(hash),
            block: included.map(|included| included.block),
            gas_used: included.map(|included| included.gas_used),
            created: included.and_then(|included| included.created),
        };
        if let Some(block) = record.block {
            self.first_block = Some(self.first_block.map_or(block, |first| first.min(block)));
        }
        match self.steps.iter_mut().find(|step| step.from == from && step.nonce == nonce) {
            Some(step) => *step = record,
            None => self.steps.push(record),
        }
    }
}
