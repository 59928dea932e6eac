//! The parts of a deployment's file.

use alloy::primitives::{Address, B256};
use cipherloom_contracts::{HcuLimits, HostAddresses, HostContract, StorageLayout};
use cipherloom_primitives::eip712::SigningDomains;
use serde::{Deserialize, Serialize};

use super::named::{checksummed, contracts};

/// Addresses of the contracts that are written by the contracts' names in Solidity, with their checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NamedAddresses(#[serde(with = "contracts")] pub HostAddresses);

/// Where signatures are valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Domains {
    /// The chain id in the domains of answers.
    pub gateway_chain_id: u64,
    /// The verifying contract of the "Decryption" domain.
    #[serde(with = "checksummed")]
    pub decryption: Address,
    /// The verifying contract of the "InputVerification" domain.
    #[serde(with = "checksummed")]
    pub input_verification: Address,
}

/// Signers and how many of them must sign.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signers {
    /// The addresses.
    #[serde(with = "checksummed::list")]
    pub signers: Vec<Address>,
    /// How many must sign.
    pub threshold: u64,
}

/// KMS nodes and how many of them it takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Kms {
    /// The addresses.
    #[serde(with = "checksummed::list")]
    pub signers: Vec<Address>,
    /// Signatures under a public decryption.
    pub public_decryption_threshold: u64,
    /// Answers to a user's request.
    pub user_decryption_threshold: u64,
    /// Nodes that may be dishonest without harm.
    pub mpc_threshold: u64,
}

/// Limits on the cost of operations in HCU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HcuLimitsRecord {
    /// Per block; 2⁴⁸−1 means none.
    pub per_block_hcu: u64,
    /// Per transaction.
    pub per_transaction_hcu: u64,
    /// Per chain of dependent operations.
    pub depth_hcu: u64,
}

/// The code behind a proxy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Implementation {
    /// Where it is.
    #[serde(with = "checksummed")]
    pub address: Address,
    /// The hash of its code on the chain.
    pub code_hash: B256,
    /// How its storage is laid out; upgrades are checked against it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_layout: Option<StorageLayout>,
}

/// A transaction of the deployment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StepRecord {
    /// What it does.
    pub name: String,
    /// The account that sent it.
    #[serde(with = "checksummed")]
    pub from: Address,
    /// Its nonce.
    pub nonce: u64,
    /// Its hash; nothing if it was done in a run whose file was lost.
    pub transaction: Option<B256>,
    /// The number of its block, once it is included.
    pub block: Option<u64>,
    /// The gas it used.
    pub gas_used: Option<u64>,
    /// The contract it created.
    #[serde(with = "checksummed::option", default, skip_serializing_if = "Option::is_none")]
    pub created: Option<Address>,
}

/// A contract that got another implementation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UpgradeRecord {
    /// Which contract.
    pub contract: HostContract,
    /// The code it had.
    #[serde(with = "checksummed")]
    pub from: Address,
    /// The code it got.
    #[serde(with = "checksummed")]
    pub to: Address,
    /// The transaction that made the switch.
    pub transaction: B256,
    /// Its block.
    pub block: u64,
    /// The program that did it.
    pub software: String,
}

impl From<SigningDomains> for Domains {
    fn from(domains: SigningDomains) -> Self {
        Self {
            gateway_chain_id: domains.gateway_chain_id,
            decryption: domains.decryption,
            input_verification: domains.input_verification,
        }
    }
}

impl From<HcuLimits> for HcuLimitsRecord {
    fn from(limits: HcuLimits) -> Self {
        Self {
            per_block_hcu: limits.per_block_hcu,
            per_transaction_hcu: limits.per_transaction_hcu,
            depth_hcu: limits.depth_hcu,
        }
    }
}

impl From<HcuLimitsRecord> for HcuLimits {
    fn from(limits: HcuLimitsRecord) -> Self {
        Self {
            per_block_hcu: limits.per_block_hcu,
            per_transaction_hcu: limits.per_transaction_hcu,
            depth_hcu: limits.depth_hcu,
        }
    }
}
