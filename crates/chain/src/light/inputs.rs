//! Encrypted inputs of native chains, as whoever passes them on looks at them.

use alloy::{rpc::types::TransactionRequest, sol_types::SolCall};
use cipherloom_contracts::bindings::{FheLib, NativeInputContext, NativeInputVerifier};
use cipherloom_primitives::{Address, B256, Bytes, FheType, Handle, ciphertext_state::FHELIB, input::InputMetadata};

use crate::{error::ChainError, host_chain::HostChain, sender::Call};

impl HostChain {
    /// Returns the types of the values in a list of encrypted inputs, as a node reads them; `None` if it is no list.
    ///
    /// Nodes check a list's proof only where a transaction brings it. So this tells whether something can be an input, and not that it will be accepted: the
    /// chain compares each handle with the list in any case.
    ///
    /// # Errors
    /// As all reads; [`ChainError::Contract`] if the chain is no native chain.
    pub async fn native_input_types(&self, user: Address, contract: Address, list: Bytes) -> Result<Option<Vec<FheType>>, ChainError> {
        let method = FheLib::verifyInputCall::SIGNATURE;
        let call = FheLib::verifyInputCall {
            acl: self.addresses().acl,
            user,
            contractAddress: contract,
            list,
        };
        let request = TransactionRequest::default().to(FHELIB).input(call.abi_encode().into());
        let answer: Bytes = match self.request("eth_call", (request, "latest")).await {
            Ok(answer) => answer,
            Err(error) if error.is_revert() => return Ok(None),
            Err(error) => return Err(error),
        };
        let unreadable = |reason: String| ChainError::Contract {
            method,
            contract: FHELIB,
            reason,
        };
        if answer.is_empty() {
            return Err(unreadable(
                "nobody answers at the address; only nodes of native chains do".to_owned(),
            ));
        }
        let types = FheLib::verifyInputCall::abi_decode_returns(&answer).map_err(|error| unreadable(error.to_string()))?;
        let types: Result<Vec<FheType>, _> = types.iter().map(|id| FheType::try_from(*id)).collect();
        types.map(Some).map_err(|error| unreadable(error.to_string()))
    }

    /// Returns whether all these inputs were deposited for a user and a contract.
    ///
    /// # Errors
    /// As all reads of a contract; [`ChainError::Refused`] on a chain whose contract takes no deposits.
    pub async fn are_inputs_deposited(&self, bound_to: &InputMetadata, handles: &[Handle]) -> Result<bool, ChainError> {
        for handle in handles {
            let call = NativeInputVerifier::isDepositedCall {
                context: context(bound_to),
                inputHandle: handle.as_b256(),
            };
            if !self.read(self.addresses().input_verifier, call).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Returns whether the chain's contract takes deposits of inputs: that of a native chain does, unless it is of an earlier version.
    ///
    /// # Errors
    /// As all reads of a contract.
    pub async fn takes_input_deposits(&self) -> Result<bool, ChainError> {
        let nobody = NativeInputContext {
            userAddress: Address::ZERO,
            contractAddress: Address::ZERO,
        };
        let call = NativeInputVerifier::isDepositedCall {
            context: nobody,
            inputHandle: B256::ZERO,
        };
        match self.read(self.addresses().input_verifier, call).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_revert() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Makes the call that deposits the inputs of a proof for a user and a contract: afterwards their handles are all that the user's transaction needs.
    #[must_use]
    pub fn input_deposit(&self, bound_to: &InputMetadata, proof: Vec<u8>) -> Call {
        let call = NativeInputVerifier::depositInputCall {
            context: context(bound_to),
            inputProof: proof.into(),
        };
        Call {
            name: "depositInput".to_owned(),
            to: Some(self.addresses().input_verifier),
            data: call.abi_encode().into(),
        }
    }
}

const fn context(bound_to: &InputMetadata) -> NativeInputContext {
    NativeInputContext {
        userAddress: bound_to.user,
        contractAddress: bound_to.contract,
    }
}
