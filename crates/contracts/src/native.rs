//! What stands on a native chain, whose validators check inputs and compute themselves.
//!
//! The host contracts are those of every chain but the `InputVerifier`, behind which another implementation stands: nobody signs inputs, so it
//! asks the node. Addresses follow from the deployer as elsewhere. Besides there is the set of validators, at a fixed address.

use alloy_primitives::{Address, Bytes, U256, address};
use alloy_sol_types::{SolCall, SolConstructor};
use cipherloom_primitives::{Handle, eip712::SigningDomains};

use crate::{
    addresses::HostAddresses,
    bindings::{FheLib, ValidatorSet},
    deployment::{DeploymentConfig, DeploymentStep, GatewayPlan, HcuLimits, KmsConfig, SignerSet, steps},
    face::Face,
    host_contract::Wiring,
};

/// Where the contract [`ValidatorSet`] stands from the genesis block on.
///
/// The accounts before it are those of [`cipherloom_primitives::ciphertext_state`].
pub const VALIDATOR_SET: Address = address!("000000000000000000000000000000000000005f");

/// The host contracts of a native chain.
#[derive(Clone, Debug)]
pub struct NativeDeployment {
    /// The account that sends every transaction; its nonce must be 0. At genesis nobody needs its key.
    pub deployer: Address,
    /// Who administers the contracts afterwards; it has to accept, as in [`DeploymentConfig::owner`].
    pub owner: Address,
    /// Chain ids and domain addresses of signatures.
    pub domains: SigningDomains,
    /// Which version of the protocol the contracts speak for.
    pub face: Face,
    /// The KMS nodes.
    pub kms: KmsConfig,
    /// The limits on the cost of operations that contracts enforce, beside the chain's own limit per block.
    pub hcu_limits: HcuLimits,
    /// Who may pause.
    pub pausers: Vec<Address>,
    /// Who may deliver decrypted values.
    pub relayers: Vec<Address>,
}

impl NativeDeployment {
    /// Where the contracts will be.
    #[must_use]
    pub fn addresses(&self) -> HostAddresses {
        HostAddresses::of_deployer(self.deployer)
    }

    /// What the implementations will have compiled in.
    #[must_use]
    pub fn wiring(&self) -> Wiring {
        Wiring::native(self.addresses(), self.face)
    }
}

/// Returns the transactions of the deployment; they must be sent in this order, from the deployer's nonce 0 on.
///
/// They run when the genesis block is made, or later on a chain that began without them.
#[must_use]
pub fn native_deployment_steps(deployment: &NativeDeployment) -> Vec<DeploymentStep> {
    let config = DeploymentConfig {
        deployer: deployment.deployer,
        owner: deployment.owner,
        domains: deployment.domains,
        face: deployment.face,
        // The implementation of native chains takes none.
        coprocessors: SignerSet {
            signers: Vec::new(),
            threshold: 0,
        },
        kms: deployment.kms.clone(),
        hcu_limits: deployment.hcu_limits,
        pausers: deployment.pausers.clone(),
        gateway: GatewayPlan {
            deployer: None,
            relayers: deployment.relayers.clone(),
        },
    };
    steps(&config, deployment.wiring())
}

/// Returns the data that create a [`ValidatorSet`]; its code and storage are then put where [`VALIDATOR_SET`] says.
#[must_use]
pub fn validator_set_creation_code(owner: Address, validators: &[(Address, u64)]) -> Bytes {
    let (accounts, powers) = validators.iter().copied().unzip();
    let arguments = ValidatorSet::constructorCall { owner, accounts, powers };
    [ValidatorSet::BYTECODE.as_ref(), &arguments.abi_encode()].concat().into()
}

/// Returns the data of the call that reads a ciphertext: what tools send to
/// [`FHELIB`](cipherloom_primitives::ciphertext_state::FHELIB) by `eth_call`. The answer is the raw bytes.
#[must_use]
pub fn get_ciphertext_call(handle: Handle) -> Bytes {
    let call = FheLib::getCiphertextCall {
        handle: U256::from_be_bytes(handle.as_b256().0),
    };
    call.abi_encode().into()
}

#[cfg(test)]
mod tests {
    use cipherloom_primitives::{B256, FheType};

    use super::*;
    use crate::{
        bindings::{ACL, NativeInputVerifier},
        deployment_steps, development,
        host_contract::HostContract,
    };

    fn native() -> NativeDeployment {
        NativeDeployment {
            deployer: development::DEPLOYER,
            owner: development::DEPLOYER,
            domains: development::signing_domains(),
            face: Face::default(),
            kms: SignerSet::single(Address::repeat_byte(2)).into(),
            hcu_limits: HcuLimits::default(),
            pausers: vec![development::DEPLOYER],
            relayers: vec![development::DEPLOYER],
        }
    }

    #[test]
    fn only_the_input_verifier_differs_from_other_chains() {
        let config = development::deployment(
            SignerSet::single(Address::repeat_byte(1)),
            SignerSet::single(Address::repeat_byte(2)),
        );
        let (others, ours) = (deployment_steps(&config), native_deployment_steps(&native()));
        assert_eq!(others.len(), ours.len());
        let different: Vec<&str> = others
            .iter()
            .zip(&ours)
            .filter(|(a, b)| a != b)
            .map(|(_, step)| step.name)
            .collect();
        assert_eq!(different, ["create the InputVerifier", "upgrade to the InputVerifier"]);
        assert_eq!(native().addresses(), config.addresses());
        let upgrade = ours.iter().find(|step| step.name == "upgrade to the InputVerifier").unwrap();
        let call = ACL::upgradeToAndCallCall::abi_decode(&upgrade.data).unwrap();
        let initialize = NativeInputVerifier::initializeFromEmptyProxyCall::abi_decode(&call.data).unwrap();
        assert_eq!(initialize.verifyingContractSource, development::INPUT_VERIFICATION);
        let contract = HostContract::InputVerifier;
        assert_ne!(
            contract.runtime_code(&native().wiring(), call.newImplementation),
            contract.runtime_code(&config.wiring(), call.newImplementation)
        );
    }

    #[test]
    fn calls_of_the_nodes_library_have_the_published_selectors() {
        let handle = Handle::computed(B256::repeat_byte(7), 31338, FheType::Uint64);
        let call = get_ciphertext_call(handle);
        assert_eq!(call[..4], [0xff, 0x62, 0x7e, 0x77]);
        assert_eq!(&call[4..], handle.as_slice());
        assert_eq!(FheLib::fhePubKeyCall::SELECTOR, [0xd9, 0xd4, 0x7b, 0xb0]);
        assert_eq!(FheLib::verifyInputCall::SELECTOR, [0x35, 0x46, 0x5a, 0x5d]);
    }
}
