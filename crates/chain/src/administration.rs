//! The owner's transactions on a deployment: who signs, and how many of them must.

use alloy::{
    primitives::{Address, U256},
    sol_types::SolCall,
};
use cipherloom_contracts::{
    HostAddresses,
    bindings::{ACL, IProtocolConfig, InputVerifier, ProtocolConfig},
};

use crate::{error::ChainError, host_chain::HostChain, manifest::Kms, sender::Call};

/// Returns the call that makes a set of coprocessors the current one.
#[must_use]
pub fn set_coprocessors(addresses: &HostAddresses, signers: &[Address], threshold: u64) -> Call {
    let call = InputVerifier::defineNewContextCall {
        newSigners: signers.to_vec(),
        newThreshold: U256::from(threshold),
    };
    Call {
        name: "set the coprocessors".to_owned(),
        to: Some(addresses.input_verifier),
        data: call.abi_encode().into(),
    }
}

/// Returns the call that begins a KMS context with these nodes. Answers of former contexts stay valid until those are destroyed.
#[must_use]
pub fn set_kms(addresses: &HostAddresses, kms: &Kms) -> Call {
    let call = ProtocolConfig::defineNewKmsContextCall {
        signers: kms.signers.clone(),
        thresholds: IProtocolConfig::KmsThresholds {
            publicDecryption: U256::from(kms.public_decryption_threshold),
            userDecryption: U256::from(kms.user_decryption_threshold),
            mpc: U256::from(kms.mpc_threshold),
        },
    };
    Call {
        name: "begin a KMS context".to_owned(),
        to: Some(addresses.protocol_config),
        data: call.abi_encode().into(),
    }
}

/// Returns the call that offers the ownership to an account. The owner keeps it until it is accepted.
#[must_use]
pub fn offer_ownership(addresses: &HostAddresses, account: Address) -> Call {
    Call {
        name: "offer the ownership".to_owned(),
        to: Some(addresses.acl),
        data: ACL::transferOwnershipCall { newOwner: account }.abi_encode().into(),
    }
}

/// Returns the call by which a new owner takes over what was offered.
#[must_use]
pub fn accept_ownership(addresses: &HostAddresses) -> Call {
    Call {
        name: "accept the ownership".to_owned(),
        to: Some(addresses.acl),
        data: ACL::acceptOwnershipCall {}.abi_encode().into(),
    }
}

/// Returns who administers the contracts.
///
/// # Errors
/// As all reads of a chain.
pub async fn owner(chain: &HostChain) -> Result<Address, ChainError> {
    chain.read(chain.addresses().acl, ACL::ownerCall {}).await
}
