//! The development chain that published dApp libraries and SDKs have built in (public protocol, section 1.9).
//!
//! The mnemonic is public, so these accounts are worth nothing and must never hold anything of value.

use alloy_primitives::{Address, address};
use cipherloom_primitives::eip712::SigningDomains;

use crate::{
    addresses::HostAddresses,
    deployment::{DeploymentConfig, GatewayPlan, HcuLimits, KmsConfig, SignerSet},
    face::Face,
};

/// The chain id.
pub const HOST_CHAIN_ID: u64 = 31337;

/// The chain id in the EIP-712 domains of answers.
pub const GATEWAY_CHAIN_ID: u64 = 10901;

/// The public mnemonic the deployer's key comes from, at index [`DEPLOYER_INDEX`] of the usual Ethereum path.
pub const INSECURE_DEPLOYER_MNEMONIC: &str =
    "adapt mosquito move limb mobile illegal tree voyage juice mosquito burger raise father hope layer";

/// The deployer's account index: its path is `m/44'/60'/0'/0/5`.
pub const DEPLOYER_INDEX: u32 = 5;

/// The deployer's address.
pub const DEPLOYER: Address = address!("8B8f5091f8b9817EF69cFC1E8B2f721BafF60DF4");

/// The verifying contract of the "Decryption" domain.
pub const DECRYPTION: Address = address!("5ffdaAB0373E62E2ea2944776209aEf29E631A64");

/// The verifying contract of the "InputVerification" domain.
pub const INPUT_VERIFICATION: Address = address!("812b06e1CDCE800494b79fFE4f925A504a9A9810");

/// Returns the addresses of the host contracts.
#[must_use]
pub fn addresses() -> HostAddresses {
    HostAddresses::of_deployer(DEPLOYER)
}

/// Returns the EIP-712 domains.
#[must_use]
pub const fn signing_domains() -> SigningDomains {
    SigningDomains {
        host_chain_id: HOST_CHAIN_ID,
        gateway_chain_id: GATEWAY_CHAIN_ID,
        decryption: DECRYPTION,
        input_verification: INPUT_VERIFICATION,
    }
}

/// Returns the deployment with these signers; the deployer owns the contracts, is the one pauser and delivers decrypted values.
#[must_use]
pub fn deployment(coprocessors: SignerSet, kms: impl Into<KmsConfig>) -> DeploymentConfig {
    DeploymentConfig {
        deployer: DEPLOYER,
        owner: DEPLOYER,
        domains: signing_domains(),
        face: Face::default(),
        coprocessors,
        kms: kms.into(),
        hcu_limits: HcuLimits::default(),
        pausers: vec![DEPLOYER],
        gateway: GatewayPlan {
            deployer: None,
            relayers: vec![DEPLOYER],
        },
    }
}
