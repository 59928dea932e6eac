//! Encrypted inputs of native chains, as whoever passes them on looks at them.

use alloy::{rpc::types::TransactionRequest, sol_types::SolCall};
use cipherloom_contracts::bindings::FheLib;
use cipherloom_primitives::{Address, Bytes, FheType, ciphertext_state::FHELIB};

use crate::{error::ChainError, host_chain::HostChain};

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
}
