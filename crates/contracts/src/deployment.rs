//! The transactions that deploy the host contracts and connect them.
//!
//! The contracts need each other's addresses, so the proxies come first, on empty implementations, and the deployer's
//! nonces fix their addresses. Then each implementation is created with its peers' addresses as immutables, and its
//! proxy is upgraded to it and initialized in one transaction, so nobody can initialize it in between.

use alloy_primitives::{Address, Bytes, U256, Uint};
use alloy_sol_types::{SolCall, SolConstructor};
use cipherloom_primitives::eip712::SigningDomains;

use crate::{
    addresses::{HostAddresses, nonce},
    bindings::{ACL, EmptyACL, EmptyHostContract, FHEVMExecutor, HCULimit, HostProxy, InputVerifier, KMSVerifier, PauserSet},
};

/// What to deploy.
#[derive(Clone, Debug)]
pub struct DeploymentConfig {
    /// The account that sends every transaction; its nonce must be 0.
    pub deployer: Address,
    /// Who administers the contracts afterwards. If it is not the deployer, ownership is offered to it in the last step,
    /// and the deployer stays the owner until the new one calls `acceptOwnership` on the ACL.
    pub owner: Address,
    /// Chain ids and domain addresses of signatures.
    pub domains: SigningDomains,
    /// The coprocessors.
    pub coprocessors: SignerSet,
    /// The KMS nodes.
    pub kms: SignerSet,
    /// The limits on the cost of operations.
    pub hcu_limits: HcuLimits,
    /// Who may pause.
    pub pausers: Vec<Address>,
}

/// Signers and how many of them must sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignerSet {
    /// The signers' addresses, 1 to 255, all different.
    pub signers: Vec<Address>,
    /// How many different signers must sign: from 1 to their number.
    pub threshold: u64,
}

impl SignerSet {
    /// Returns the set of one signer.
    #[must_use]
    pub fn single(signer: Address) -> Self {
        Self {
            signers: vec![signer],
            threshold: 1,
        }
    }
}

/// Limits on the cost of operations in HCU; larger values than 2⁴⁸−1 count as that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HcuLimits {
    /// Per block; 2⁴⁸−1 means none.
    pub per_block_hcu: u64,
    /// Per transaction; at most the limit per block.
    pub per_transaction_hcu: u64,
    /// Per chain of operations that depend on each other; at most the limit per transaction.
    pub depth_hcu: u64,
}

impl Default for HcuLimits {
    /// The public protocol's values (section 1.8): none per block, 20 million per transaction, 5 million of depth.
    fn default() -> Self {
        Self {
            per_block_hcu: (1 << 48) - 1,
            per_transaction_hcu: 20_000_000,
            depth_hcu: 5_000_000,
        }
    }
}

/// One transaction of a deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeploymentStep {
    /// What it does, for progress messages.
    pub name: &'static str,
    /// The called contract, or `None` for a creation.
    pub to: Option<Address>,
    /// The call or creation data.
    pub data: Bytes,
}

/// Returns the transactions of a deployment; they must be sent in this order, from the deployer's nonce 0 on.
///
/// The addresses of the contracts are [`HostAddresses::of_deployer`]. A configuration that the contracts refuse (no
/// signers, a threshold above their number, inconsistent limits) makes the transaction of that contract revert.
#[must_use]
pub fn deployment_steps(config: &DeploymentConfig) -> Vec<DeploymentStep> {
    let deployer = config.deployer;
    let host = HostAddresses::of_deployer(deployer);
    let mut plan = Plan {
        deployer,
        steps: Vec::new(),
    };

    plan.create("create the empty ACL", &EmptyACL::BYTECODE, &[]);
    plan.proxy(
        "create the ACL proxy",
        nonce::EMPTY_ACL,
        EmptyACL::initializeCall { initialOwner: deployer }.abi_encode(),
    );
    plan.create(
        "create the empty host contract",
        &EmptyHostContract::BYTECODE,
        &EmptyHostContract::constructorCall { acl: host.acl }.abi_encode(),
    );
    for name in [
        "create the FHEVMExecutor proxy",
        "create the KMSVerifier proxy",
        "create the InputVerifier proxy",
        "create the HCULimit proxy",
    ] {
        plan.proxy(name, nonce::EMPTY_HOST_CONTRACT, EmptyHostContract::initializeCall {}.abi_encode());
    }
    plan.create(
        "create the PauserSet",
        &PauserSet::BYTECODE,
        &PauserSet::constructorCall { acl: host.acl }.abi_encode(),
    );
    plan.implementations(config, &host);
    for pauser in &config.pausers {
        plan.call(
            "add a pauser",
            host.pauser_set,
            PauserSet::addPauserCall { account: *pauser }.abi_encode(),
        );
    }
    if config.owner != deployer {
        let offer = ACL::transferOwnershipCall { newOwner: config.owner };
        plan.call("offer the ownership", host.acl, offer.abi_encode());
    }
    plan.steps
}

struct Plan {
    deployer: Address,
    steps: Vec<DeploymentStep>,
}

impl Plan {
    fn create(&mut self, name: &'static str, bytecode: &Bytes, arguments: &[u8]) {
        let data = [bytecode.as_ref(), arguments].concat().into();
        self.steps.push(DeploymentStep { name, to: None, data });
    }

    fn call(&mut self, name: &'static str, to: Address, data: Vec<u8>) {
        self.steps.push(DeploymentStep {
            name,
            to: Some(to),
            data: data.into(),
        });
    }

    /// Creates a proxy on an implementation that the deployer created before at this nonce.
    fn proxy(&mut self, name: &'static str, implementation_nonce: u64, initialize: Vec<u8>) {
        let implementation = self.deployer.create(implementation_nonce);
        let arguments = HostProxy::constructorCall {
            implementation,
            data: initialize.into(),
        }
        .abi_encode();
        self.create(name, &HostProxy::BYTECODE, &arguments);
    }

    /// Creates an implementation and upgrades its proxy to it.
    fn implementation(&mut self, names: [&'static str; 2], proxy: Address, code: (&Bytes, &[u8]), initialize: Vec<u8>) {
        let [create, upgrade] = names;
        // Every step is a transaction of the deployer, so the number of steps is the nonce.
        let implementation = self.deployer.create(self.steps.len() as u64);
        self.create(create, code.0, code.1);
        // All host contracts have the same upgrade function; the ACL's binding stands for it.
        let call = ACL::upgradeToAndCallCall {
            newImplementation: implementation,
            data: initialize.into(),
        };
        self.call(upgrade, proxy, call.abi_encode());
    }

    fn implementations(&mut self, config: &DeploymentConfig, host: &HostAddresses) {
        let acl = host.acl;
        let DeploymentConfig {
            domains,
            coprocessors,
            kms,
            hcu_limits: limits,
            ..
        } = config;
        self.implementation(
            ["create the ACL", "upgrade to the ACL"],
            acl,
            (
                &ACL::BYTECODE,
                &ACL::constructorCall {
                    executor: host.executor,
                    pauserSet: host.pauser_set,
                    bridge: Address::ZERO,
                }
                .abi_encode(),
            ),
            ACL::initializeFromEmptyProxyCall {}.abi_encode(),
        );
        self.implementation(
            ["create the FHEVMExecutor", "upgrade to the FHEVMExecutor"],
            host.executor,
            (
                &FHEVMExecutor::BYTECODE,
                &FHEVMExecutor::constructorCall {
                    acl,
                    inputVerifier: host.input_verifier,
                    hcuLimit: host.hcu_limit,
                }
                .abi_encode(),
            ),
            FHEVMExecutor::initializeFromEmptyProxyCall {}.abi_encode(),
        );
        self.implementation(
            ["create the KMSVerifier", "upgrade to the KMSVerifier"],
            host.kms_verifier,
            (&KMSVerifier::BYTECODE, &KMSVerifier::constructorCall { acl }.abi_encode()),
            KMSVerifier::initializeFromEmptyProxyCall {
                verifyingContractSource: domains.decryption,
                chainIDSource: domains.gateway_chain_id,
                initialSigners: kms.signers.clone(),
                initialThreshold: U256::from(kms.threshold),
            }
            .abi_encode(),
        );
        self.implementation(
            ["create the InputVerifier", "upgrade to the InputVerifier"],
            host.input_verifier,
            (&InputVerifier::BYTECODE, &InputVerifier::constructorCall { acl }.abi_encode()),
            InputVerifier::initializeFromEmptyProxyCall {
                verifyingContractSource: domains.input_verification,
                chainIDSource: domains.gateway_chain_id,
                initialSigners: coprocessors.signers.clone(),
                initialThreshold: U256::from(coprocessors.threshold),
            }
            .abi_encode(),
        );
        self.implementation(
            ["create the HCULimit", "upgrade to the HCULimit"],
            host.hcu_limit,
            (
                &HCULimit::BYTECODE,
                &HCULimit::constructorCall {
                    acl,
                    executor: host.executor,
                }
                .abi_encode(),
            ),
            HCULimit::initializeFromEmptyProxyCall {
                hcuPerBlock: Uint::saturating_from(limits.per_block_hcu),
                maxHCUDepthPerTx: Uint::saturating_from(limits.depth_hcu),
                maxHCUPerTx: Uint::saturating_from(limits.per_transaction_hcu),
            }
            .abi_encode(),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::development;

    fn config() -> DeploymentConfig {
        development::deployment(
            SignerSet::single(Address::repeat_byte(1)),
            SignerSet::single(Address::repeat_byte(2)),
        )
    }

    #[test]
    fn proxies_are_created_at_the_nonces_of_the_address_plan() {
        let steps = deployment_steps(&config());
        let created = |nonce: u64| steps[usize::try_from(nonce).unwrap()].name;
        assert_eq!(created(nonce::ACL), "create the ACL proxy");
        assert_eq!(created(nonce::EXECUTOR), "create the FHEVMExecutor proxy");
        assert_eq!(created(nonce::KMS_VERIFIER), "create the KMSVerifier proxy");
        assert_eq!(created(nonce::INPUT_VERIFIER), "create the InputVerifier proxy");
        assert_eq!(created(nonce::HCU_LIMIT), "create the HCULimit proxy");
        assert_eq!(created(nonce::PAUSER_SET), "create the PauserSet");
    }

    #[test]
    fn upgrades_name_the_implementation_created_just_before() {
        let steps = deployment_steps(&config());
        let upgrades: Vec<_> = steps
            .iter()
            .enumerate()
            .filter(|(_, step)| step.name.starts_with("upgrade"))
            .collect();
        assert_eq!(upgrades.len(), 5);
        for (index, step) in upgrades {
            let call = ACL::upgradeToAndCallCall::abi_decode(&step.data).unwrap();
            assert_eq!(
                call.newImplementation,
                development::DEPLOYER.create(index as u64 - 1),
                "{}",
                step.name
            );
            assert_eq!(steps[index - 1].to, None);
        }
    }

    #[test]
    fn ownership_is_offered_only_to_another_owner() {
        let mut config = config();
        assert_ne!(deployment_steps(&config).last().unwrap().name, "offer the ownership");
        config.owner = Address::repeat_byte(7);
        let steps = deployment_steps(&config);
        let call = ACL::transferOwnershipCall::abi_decode(&steps.last().unwrap().data).unwrap();
        assert_eq!(call.newOwner, config.owner);
    }

    #[test]
    fn limits_beyond_48_bits_mean_none() {
        let mut config = config();
        config.hcu_limits.per_block_hcu = u64::MAX;
        let steps = deployment_steps(&config);
        let upgrade = steps.iter().find(|step| step.name == "upgrade to the HCULimit").unwrap();
        let call = ACL::upgradeToAndCallCall::abi_decode(&upgrade.data).unwrap();
        let initialize = HCULimit::initializeFromEmptyProxyCall::abi_decode(&call.data).unwrap();
        assert_eq!(initialize.hcuPerBlock, Uint::MAX);
    }
}
