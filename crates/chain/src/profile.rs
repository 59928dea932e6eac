//! The two local chains whose addresses published suites have built in (public protocol, section 1.9).
//!
//! Both deployers come from one public mnemonic, so whoever can reach such a chain can send from them: they are for development alone.

use alloy::{
    primitives::{Address, address, keccak256},
    signers::local::{MnemonicBuilder, PrivateKeySigner},
};
use cipherloom_contracts::{DeploymentConfig, HostAddresses, SignerSet, development};
use cipherloom_primitives::eip712::SigningDomains;

use crate::error::ChainError;

/// A local chain with a published address plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalProfile {
    /// What is known about it, in a few words.
    pub description: &'static str,
    /// The account that deploys.
    pub deployer: Address,
    /// The deployer's index on the usual Ethereum path of [`development::INSECURE_DEPLOYER_MNEMONIC`].
    pub deployer_index: u32,
    /// Chain ids and domain addresses of signatures.
    pub domains: SigningDomains,
}

/// Chain 31337, which the published libraries, SDKs and mocks know.
pub const DEVELOPMENT: LocalProfile = LocalProfile {
    description: "the development chain of the published libraries",
    deployer: development::DEPLOYER,
    deployer_index: development::DEPLOYER_INDEX,
    domains: development::signing_domains(),
};

/// Chain 12345, which the published end-to-end suites know.
pub const END_TO_END: LocalProfile = LocalProfile {
    description: "the chain of the published end-to-end suites",
    deployer: address!("c45994e4098271c3140117ebD5c74C70dd56D9cd"),
    deployer_index: 9,
    domains: SigningDomains {
        host_chain_id: 12345,
        gateway_chain_id: 54321,
        decryption: address!("F0bFB159C7381F7CB332586004d8247252C5b816"),
        input_verification: address!("3b12Fc766Eb598b285998877e8E90F3e43a1F8d2"),
    },
};

impl LocalProfile {
    /// Both.
    pub const ALL: [Self; 2] = [DEVELOPMENT, END_TO_END];

    /// Finds the profile of a chain.
    #[must_use]
    pub fn of_chain(chain_id: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|profile| profile.chain_id() == chain_id)
    }

    /// Returns where signatures of a new deployment are valid, on a chain without a published plan.
    ///
    /// The gateway's chain is the host chain itself, or the development one's if clients could not parse that: they read 32 bits. The domain
    /// addresses are hashes, so nobody has their keys and no contract is there; the host contracts refuse their own addresses.
    #[must_use]
    pub fn of_new_chain(chain_id: u64) -> SigningDomains {
        let address = |domain: &str| {
            let preimage = [domain.as_bytes(), &chain_id.to_be_bytes()].concat();
            Address::from_word(keccak256(preimage))
        };
        SigningDomains {
            host_chain_id: chain_id,
            gateway_chain_id: if u32::try_from(chain_id).is_ok() {
                chain_id
            } else {
                development::GATEWAY_CHAIN_ID
            },
            decryption: address("cipherloom.domain.Decryption"),
            input_verification: address("cipherloom.domain.InputVerification"),
        }
    }

    /// Returns the chain's id.
    #[must_use]
    pub const fn chain_id(&self) -> u64 {
        self.domains.host_chain_id
    }

    /// Returns where the host contracts are.
    #[must_use]
    pub fn addresses(&self) -> HostAddresses {
        HostAddresses::of_deployer(self.deployer)
    }

    /// Returns the deployer's key, which everybody knows.
    ///
    /// # Errors
    /// [`ChainError::Signing`] if the key cannot be derived, which the constants rule out.
    pub fn insecure_deployer(&self) -> Result<PrivateKeySigner, ChainError> {
        let failed = |error: alloy::signers::local::LocalSignerError| ChainError::Signing {
            name: "the key of the public mnemonic".to_owned(),
            reason: error.to_string(),
        };
        MnemonicBuilder::from_phrase(development::INSECURE_DEPLOYER_MNEMONIC)
            .index(self.deployer_index)
            .and_then(|builder| builder.build())
            .map_err(failed)
    }

    /// Returns the deployment with these signers; the deployer owns the contracts and is the one pauser.
    #[must_use]
    pub fn deployment(&self, coprocessors: SignerSet, kms: SignerSet) -> DeploymentConfig {
        DeploymentConfig {
            deployer: self.deployer,
            owner: self.deployer,
            domains: self.domains,
            pausers: vec![self.deployer],
            ..development::deployment(coprocessors, kms)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_public_mnemonic_gives_the_deployers() {
        for profile in LocalProfile::ALL {
            assert_eq!(profile.insecure_deployer().unwrap().address(), profile.deployer, "{profile:?}");
            assert_eq!(LocalProfile::of_chain(profile.chain_id()), Some(profile));
        }
        assert_eq!(LocalProfile::of_chain(1), None);
    }

    #[test]
    fn new_chains_have_domains_of_their_own_that_clients_can_parse() {
        let (one, other) = (LocalProfile::of_new_chain(11_155_111), LocalProfile::of_new_chain(u64::MAX));
        assert_eq!(one.gateway_chain_id, 11_155_111);
        assert_eq!(other.gateway_chain_id, development::GATEWAY_CHAIN_ID);
        assert_ne!(one.decryption, one.input_verification);
        assert_ne!(one.decryption, other.decryption);
    }

    #[test]
    fn the_end_to_end_chain_has_its_published_addresses() {
        let addresses = END_TO_END.addresses();
        assert_eq!(addresses.acl, address!("05fD9B5EFE0a996095f42Ed7e77c390810CF660c"));
        assert_eq!(addresses.hcu_limit, address!("Ab30999D17FAAB8c95B2eCD500cFeFc8f658f15d"));
        assert_eq!(addresses.protocol_config, address!("52054F36036811ca418be59e41Fc6DD1b9e4F4c8"));
    }
}
