//! Where the host contracts of a deployment are.

use alloy_primitives::Address;
use serde::{Deserialize, Serialize};

use crate::host_contract::HostContract;

/// Nonces of the deployer at which [`crate::deployment_steps`] creates the contracts (public protocol, section 1.9).
pub(crate) mod nonce {
    pub(crate) const EMPTY_ACL: u64 = 0;
    pub(crate) const ACL: u64 = 1;
    pub(crate) const EMPTY_HOST_CONTRACT: u64 = 2;
    pub(crate) const EXECUTOR: u64 = 3;
    pub(crate) const KMS_VERIFIER: u64 = 4;
    pub(crate) const INPUT_VERIFIER: u64 = 5;
    pub(crate) const HCU_LIMIT: u64 = 6;
    pub(crate) const PROTOCOL_CONFIG: u64 = 7;
    pub(crate) const PAUSER_SET: u64 = 8;
    pub(crate) const GATEWAY_CONTRACT: u64 = 9;

    /// Of a deployer of its own, who creates nothing else.
    pub(crate) const SEPARATE_GATEWAY_IMPLEMENTATION: u64 = 0;
    pub(crate) const SEPARATE_GATEWAY_CONTRACT: u64 = 1;
}

/// The addresses of one deployment of the host contracts.
///
/// The original contracts have each other's addresses compiled in, so libraries of dApps know them as constants. A
/// deployment that creates the contracts at the same nonces from the same account gets the same addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HostAddresses {
    /// Who may use and decrypt which handle; owns the other contracts.
    pub acl: Address,
    /// Takes the operations of dApps ("coprocessor address" in their configuration).
    pub executor: Address,
    /// Checks signatures of the KMS.
    pub kms_verifier: Address,
    /// Checks signatures of coprocessors over inputs.
    pub input_verifier: Address,
    /// Limits the cost of operations per transaction and block.
    pub hcu_limit: Address,
    /// Who the KMS is: its signers, thresholds, contexts and epochs.
    pub protocol_config: Address,
    /// Who may pause.
    pub pauser_set: Address,
    /// Brings decrypted values to contracts as a call; zero if a deployment has none.
    pub gateway_contract: Address,
}

impl HostAddresses {
    /// Asks for the address of each contract.
    ///
    /// # Errors
    /// The first one of `of`.
    pub fn try_of<E>(of: impl Fn(HostContract) -> Result<Address, E>) -> Result<Self, E> {
        Ok(Self {
            acl: of(HostContract::Acl)?,
            executor: of(HostContract::FhevmExecutor)?,
            kms_verifier: of(HostContract::KmsVerifier)?,
            input_verifier: of(HostContract::InputVerifier)?,
            hcu_limit: of(HostContract::HcuLimit)?,
            protocol_config: of(HostContract::ProtocolConfig)?,
            pauser_set: of(HostContract::PauserSet)?,
            gateway_contract: of(HostContract::GatewayContract)?,
        })
    }

    /// Computes the addresses of a deployment by a fresh account with [`crate::deployment_steps`].
    ///
    /// ```
    /// use cipherloom_contracts::{HostAddresses, development};
    ///
    /// let addresses = HostAddresses::of_deployer(development::DEPLOYER);
    /// assert_eq!(addresses.acl.to_string(), "0x50157CFfD6bBFA2DECe204a89ec419c23ef5755D");
    /// ```
    #[must_use]
    pub fn of_deployer(deployer: Address) -> Self {
        Self {
            acl: deployer.create(nonce::ACL),
            executor: deployer.create(nonce::EXECUTOR),
            kms_verifier: deployer.create(nonce::KMS_VERIFIER),
            input_verifier: deployer.create(nonce::INPUT_VERIFIER),
            hcu_limit: deployer.create(nonce::HCU_LIMIT),
            protocol_config: deployer.create(nonce::PROTOCOL_CONFIG),
            pauser_set: deployer.create(nonce::PAUSER_SET),
            gateway_contract: deployer.create(nonce::GATEWAY_CONTRACT),
        }
    }

    /// Computes the addresses of a deployment whose gateway contract comes from a fresh account of its own
    /// ([`crate::gateway_deployment_steps`]).
    #[must_use]
    pub fn of_deployers(deployer: Address, gateway_deployer: Address) -> Self {
        Self {
            gateway_contract: gateway_deployer.create(nonce::SEPARATE_GATEWAY_CONTRACT),
            ..Self::of_deployer(deployer)
        }
    }
}

#[cfg(test)]
mod tests {
    use alloy_primitives::address;

    use super::*;
    use crate::development;

    #[test]
    fn the_development_deployer_gives_the_addresses_that_libraries_have_for_chain_31337() {
        let addresses = HostAddresses::of_deployer(development::DEPLOYER);
        assert_eq!(addresses.acl, address!("50157CFfD6bBFA2DECe204a89ec419c23ef5755D"));
        assert_eq!(addresses.executor, address!("e3a9105a3a932253A70F126eb1E3b589C643dD24"));
        assert_eq!(addresses.kms_verifier, address!("901F8942346f7AB3a01F6D7613119Bca447Bb030"));
        assert_eq!(addresses.input_verifier, address!("36772142b74871f255CbD7A3e89B401d3e45825f"));
    }

    #[test]
    fn the_end_to_end_deployer_gives_the_addresses_of_chain_12345() {
        let addresses = HostAddresses::of_deployer(address!("c45994e4098271c3140117ebD5c74C70dd56D9cd"));
        assert_eq!(addresses.acl, address!("05fD9B5EFE0a996095f42Ed7e77c390810CF660c"));
        assert_eq!(addresses.executor, address!("cCAe95fF1d11656358E782570dF0418F59fA40e1"));
        assert_eq!(addresses.kms_verifier, address!("a1880e99d86F081E8D3868A8C4732C8f65dfdB11"));
        assert_eq!(addresses.input_verifier, address!("857Ca72A957920Fa0FB138602995839866Bd4005"));
        assert_eq!(addresses.hcu_limit, address!("Ab30999D17FAAB8c95B2eCD500cFeFc8f658f15d"));
        assert_eq!(addresses.protocol_config, address!("52054F36036811ca418be59e41Fc6DD1b9e4F4c8"));
    }

    #[test]
    fn a_gateway_deployer_of_its_own_moves_the_gateway_contract_alone() {
        let (deployer, other) = (development::DEPLOYER, address!("c45994e4098271c3140117ebD5c74C70dd56D9cd"));
        let (one, two) = (HostAddresses::of_deployer(deployer), HostAddresses::of_deployers(deployer, other));
        assert_eq!(two.gateway_contract, other.create(1));
        assert_eq!(
            HostAddresses {
                gateway_contract: one.gateway_contract,
                ..two
            },
            one
        );
    }
}
