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
    bindings::{
        ACL, EmptyACL, EmptyHostContract, FHEVMExecutor, GatewayContract, HCULimit, HostProxy, IProtocolConfig, InputVerifier, KMSVerifier,
        NativeInputVerifier, PauserSet, ProtocolConfig,
    },
    face::Face,
    host_contract::{HostContract, InputChecks, Wiring, upgrade_call},
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
    /// Which version of the protocol the contracts speak for.
    pub face: Face,
    /// The coprocessors.
    pub coprocessors: SignerSet,
    /// The KMS nodes.
    pub kms: KmsConfig,
    /// The limits on the cost of operations.
    pub hcu_limits: HcuLimits,
    /// Who may pause.
    pub pausers: Vec<Address>,
    /// The contract that brings decrypted values to contracts.
    pub gateway: GatewayPlan,
}

impl DeploymentConfig {
    /// Where the contracts will be.
    #[must_use]
    pub fn addresses(&self) -> HostAddresses {
        self.gateway.deployer.map_or_else(
            || HostAddresses::of_deployer(self.deployer),
            |gateway_deployer| HostAddresses::of_deployers(self.deployer, gateway_deployer),
        )
    }

    /// What the implementations will have compiled in.
    #[must_use]
    pub fn wiring(&self) -> Wiring {
        Wiring::new(self.addresses(), self.face)
    }
}

/// How the gateway contract comes into being.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GatewayPlan {
    /// A fresh account that creates it alone, with [`gateway_deployment_steps`]; `None` makes it part of
    /// [`deployment_steps`].
    pub deployer: Option<Address>,
    /// Who may deliver values.
    pub relayers: Vec<Address>,
}

/// The KMS nodes and how many of them it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KmsConfig {
    /// Their signing addresses, 1 to 255, all different.
    pub signers: Vec<Address>,
    /// Signatures under a public decryption: from 1 to their number.
    pub public_decryption_threshold: u64,
    /// Answers to a user's request: from 1 to their number.
    pub user_decryption_threshold: u64,
    /// Nodes that may be dishonest without harm: from 0 to one less than their number.
    pub mpc_threshold: u64,
}

impl From<SignerSet> for KmsConfig {
    /// One threshold for both kinds of decryption, and as many dishonest nodes as a share of a third allows.
    fn from(set: SignerSet) -> Self {
        let count = set.signers.len() as u64;
        Self {
            signers: set.signers,
            public_decryption_threshold: set.threshold,
            user_decryption_threshold: set.threshold,
            mpc_threshold: count.saturating_sub(1) / 3,
        }
    }
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
    /// What a creation creates.
    pub creates: Option<Creation>,
}

/// A contract that a step creates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Creation {
    /// What it is in the deployment.
    pub part: Part,
    /// Where it will be.
    pub address: Address,
}

/// What a created contract is in a deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Part {
    /// What stands behind the ACL's proxy at first.
    EmptyAcl,
    /// What stands behind the other proxies at first.
    EmptyHostContract,
    /// The proxy of a contract.
    Proxy(HostContract),
    /// The implementation of a contract, or the contract itself if it has no proxy.
    Implementation(HostContract),
}

/// Returns the transactions of a deployment; they must be sent in this order, from the deployer's nonce 0 on.
///
/// The addresses of the contracts are [`DeploymentConfig::addresses`]. A configuration that the contracts refuse (no
/// signers, a threshold above their number, inconsistent limits) makes the transaction of that contract revert.
#[must_use]
pub fn deployment_steps(config: &DeploymentConfig) -> Vec<DeploymentStep> {
    steps(config, config.wiring())
}

/// The same for a native chain: nothing differs but the implementation of the `InputVerifier`, so the addresses are the same too.
#[must_use]
pub(crate) fn steps(config: &DeploymentConfig, wiring: Wiring) -> Vec<DeploymentStep> {
    let host = wiring.addresses;
    let mut plan = Plan::of(config.deployer);

    plan.create("create the empty ACL", Part::EmptyAcl, EmptyACL::BYTECODE.clone());
    let owner = EmptyACL::initializeCall {
        initialOwner: config.deployer,
    };
    plan.proxy(HostContract::Acl, nonce::EMPTY_ACL, owner.abi_encode());
    let empty = EmptyHostContract::constructorCall { acl: host.acl }.abi_encode();
    plan.create(
        "create the empty host contract",
        Part::EmptyHostContract,
        [EmptyHostContract::BYTECODE.as_ref(), &empty].concat().into(),
    );
    for contract in [
        HostContract::FhevmExecutor,
        HostContract::KmsVerifier,
        HostContract::InputVerifier,
        HostContract::HcuLimit,
        HostContract::ProtocolConfig,
    ] {
        plan.empty_proxy(contract);
    }
    plan.create(
        "create the PauserSet",
        Part::Implementation(HostContract::PauserSet),
        HostContract::PauserSet.creation_code(&wiring),
    );
    let gateway = config.gateway.deployer.is_none();
    if gateway {
        plan.empty_proxy(HostContract::GatewayContract);
    }
    for contract in HostContract::ALL.into_iter().filter(|contract| contract.is_upgradeable()) {
        if contract != HostContract::GatewayContract || gateway {
            plan.implementation(contract, &wiring, initialization(contract, config, wiring.inputs));
        }
    }
    for pauser in &config.pausers {
        let add = PauserSet::addPauserCall { account: *pauser };
        plan.call("add a pauser", host.pauser_set, add.abi_encode().into());
    }
    if config.owner != config.deployer {
        let offer = ACL::transferOwnershipCall { newOwner: config.owner };
        plan.call("offer the ownership", host.acl, offer.abi_encode().into());
    }
    plan.steps
}

/// Returns the transactions of the gateway contract's own deployer, from its nonce 0 on; none if it has none.
///
/// The contract calls others of the deployment only when it is used, so the order of the two deployments is free.
#[must_use]
pub fn gateway_deployment_steps(config: &DeploymentConfig) -> Vec<DeploymentStep> {
    let Some(deployer) = config.gateway.deployer else {
        return Vec::new();
    };
    let contract = HostContract::GatewayContract;
    let mut plan = Plan::of(deployer);
    plan.create(
        create_name(contract),
        Part::Implementation(contract),
        contract.creation_code(&config.wiring()),
    );
    plan.proxy(
        contract,
        nonce::SEPARATE_GATEWAY_IMPLEMENTATION,
        initialization(contract, config, InputChecks::Coprocessors).into(),
    );
    plan.steps
}

/// The call that completes a contract's deployment.
fn initialization(contract: HostContract, config: &DeploymentConfig, inputs: InputChecks) -> Bytes {
    let DeploymentConfig {
        domains,
        coprocessors,
        kms,
        hcu_limits: limits,
        ..
    } = config;
    let call = match contract {
        HostContract::Acl => ACL::initializeFromEmptyProxyCall {}.abi_encode(),
        HostContract::FhevmExecutor => FHEVMExecutor::initializeFromEmptyProxyCall {}.abi_encode(),
        HostContract::KmsVerifier => KMSVerifier::initializeFromEmptyProxyCall {
            verifyingContractSource: domains.decryption,
            chainIDSource: domains.gateway_chain_id,
        }
        .abi_encode(),
        HostContract::InputVerifier if inputs == InputChecks::Validators => NativeInputVerifier::initializeFromEmptyProxyCall {
            verifyingContractSource: domains.input_verification,
            chainIDSource: domains.gateway_chain_id,
        }
        .abi_encode(),
        HostContract::InputVerifier => InputVerifier::initializeFromEmptyProxyCall {
            verifyingContractSource: domains.input_verification,
            chainIDSource: domains.gateway_chain_id,
            initialSigners: coprocessors.signers.clone(),
            initialThreshold: U256::from(coprocessors.threshold),
        }
        .abi_encode(),
        HostContract::HcuLimit => HCULimit::initializeFromEmptyProxyCall {
            hcuPerBlock: Uint::saturating_from(limits.per_block_hcu),
            maxHCUDepthPerTx: Uint::saturating_from(limits.depth_hcu),
            maxHCUPerTx: Uint::saturating_from(limits.per_transaction_hcu),
        }
        .abi_encode(),
        HostContract::ProtocolConfig => ProtocolConfig::initializeFromEmptyProxyCall {
            initialSigners: kms.signers.clone(),
            initialThresholds: IProtocolConfig::KmsThresholds {
                publicDecryption: U256::from(kms.public_decryption_threshold),
                userDecryption: U256::from(kms.user_decryption_threshold),
                mpc: U256::from(kms.mpc_threshold),
            },
        }
        .abi_encode(),
        HostContract::GatewayContract => GatewayContract::initializeCall {
            initialRelayers: config.gateway.relayers.clone(),
        }
        .abi_encode(),
        // It has no proxy, so nothing is left to initialize.
        HostContract::PauserSet => Vec::new(),
    };
    call.into()
}

/// The transactions of one account, so the number of steps so far is its nonce.
struct Plan {
    deployer: Address,
    steps: Vec<DeploymentStep>,
}

impl Plan {
    const fn of(deployer: Address) -> Self {
        Self {
            deployer,
            steps: Vec::new(),
        }
    }

    fn create(&mut self, name: &'static str, part: Part, data: Bytes) -> Address {
        let address = self.deployer.create(self.steps.len() as u64);
        self.steps.push(DeploymentStep {
            name,
            to: None,
            data,
            creates: Some(Creation { part, address }),
        });
        address
    }

    fn call(&mut self, name: &'static str, to: Address, data: Bytes) {
        self.steps.push(DeploymentStep {
            name,
            to: Some(to),
            data,
            creates: None,
        });
    }

    /// Creates a proxy on an implementation that the account created before at this nonce.
    fn proxy(&mut self, contract: HostContract, implementation_nonce: u64, initialize: Vec<u8>) {
        let arguments = HostProxy::constructorCall {
            implementation: self.deployer.create(implementation_nonce),
            data: initialize.into(),
        };
        let data = [HostProxy::BYTECODE.as_ref(), &arguments.abi_encode()].concat().into();
        self.create(proxy_name(contract), Part::Proxy(contract), data);
    }

    fn empty_proxy(&mut self, contract: HostContract) {
        let initialize = EmptyHostContract::initializeCall {}.abi_encode();
        self.proxy(contract, nonce::EMPTY_HOST_CONTRACT, initialize);
    }

    /// Creates an implementation and upgrades its proxy to it.
    fn implementation(&mut self, contract: HostContract, wiring: &Wiring, initialize: Bytes) {
        let implementation = self.create(
            create_name(contract),
            Part::Implementation(contract),
            contract.creation_code(wiring),
        );
        let proxy = contract.address(&wiring.addresses);
        self.call(upgrade_name(contract), proxy, upgrade_call(implementation, initialize));
    }
}

const fn proxy_name(contract: HostContract) -> &'static str {
    match contract {
        HostContract::Acl => "create the ACL proxy",
        HostContract::FhevmExecutor => "create the FHEVMExecutor proxy",
        HostContract::KmsVerifier => "create the KMSVerifier proxy",
        HostContract::InputVerifier => "create the InputVerifier proxy",
        HostContract::HcuLimit => "create the HCULimit proxy",
        HostContract::ProtocolConfig => "create the ProtocolConfig proxy",
        HostContract::PauserSet => "create the PauserSet proxy",
        HostContract::GatewayContract => "create the GatewayContract proxy",
    }
}

const fn create_name(contract: HostContract) -> &'static str {
    match contract {
        HostContract::Acl => "create the ACL",
        HostContract::FhevmExecutor => "create the FHEVMExecutor",
        HostContract::KmsVerifier => "create the KMSVerifier",
        HostContract::InputVerifier => "create the InputVerifier",
        HostContract::HcuLimit => "create the HCULimit",
        HostContract::ProtocolConfig => "create the ProtocolConfig",
        HostContract::PauserSet => "create the PauserSet",
        HostContract::GatewayContract => "create the GatewayContract",
    }
}

const fn upgrade_name(contract: HostContract) -> &'static str {
    match contract {
        HostContract::Acl => "upgrade to the ACL",
        HostContract::FhevmExecutor => "upgrade to the FHEVMExecutor",
        HostContract::KmsVerifier => "upgrade to the KMSVerifier",
        HostContract::InputVerifier => "upgrade to the InputVerifier",
        HostContract::HcuLimit => "upgrade to the HCULimit",
        HostContract::ProtocolConfig => "upgrade to the ProtocolConfig",
        HostContract::PauserSet => "upgrade to the PauserSet",
        HostContract::GatewayContract => "upgrade to the GatewayContract",
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
        assert_eq!(created(nonce::PROTOCOL_CONFIG), "create the ProtocolConfig proxy");
        assert_eq!(created(nonce::PAUSER_SET), "create the PauserSet");
        assert_eq!(created(nonce::GATEWAY_CONTRACT), "create the GatewayContract proxy");
    }

    #[test]
    fn every_contract_is_created_where_the_plan_says() {
        for gateway_deployer in [None, Some(Address::repeat_byte(9))] {
            let mut config = config();
            config.gateway.deployer = gateway_deployer;
            let host = config.addresses();
            let steps = [deployment_steps(&config), gateway_deployment_steps(&config)].concat();
            for contract in HostContract::ALL {
                let part = if contract.is_upgradeable() {
                    Part::Proxy(contract)
                } else {
                    Part::Implementation(contract)
                };
                let address = contract.address(&host);
                let created: Vec<Creation> = steps.iter().filter_map(|step| step.creates).collect();
                assert!(created.contains(&Creation { part, address }), "{contract}");
                let implementations = created.iter().filter(|creation| creation.part == Part::Implementation(contract));
                assert_eq!(implementations.count(), 1, "{contract}");
            }
            assert!(steps.iter().all(|step| step.creates.is_some() == step.to.is_none()));
        }
    }

    #[test]
    fn upgrades_name_the_implementation_created_just_before() {
        let steps = deployment_steps(&config());
        let upgrades: Vec<_> = steps
            .iter()
            .enumerate()
            .filter(|(_, step)| step.name.starts_with("upgrade"))
            .collect();
        assert_eq!(upgrades.len(), 7);
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
