//! What nodes of a native chain tell by their library at [`FHELIB`]: ciphertexts of handles and the public key.
//!
//! The node is believed. [`crate::light`] proves the same against a header that validators signed.

use alloy::sol_types::SolCall;
use cipherloom_contracts::{bindings::FheLib, native::get_ciphertext_call};
use cipherloom_primitives::{
    Bytes, Handle,
    ciphertext_state::{FHELIB, MAX_STORED_BYTES},
};
use serde_json::json;

use crate::{error::ChainError, host_chain::HostChain};

/// The public key's kind: the compact one, which inputs are encrypted to.
const COMPACT_PUBLIC_KEY: u8 = 1;

impl HostChain {
    /// Returns the ciphertext of a handle as a native chain keeps it, in packed form.
    ///
    /// # Errors
    /// As all reads; a handle that nothing is stored for is refused by the node. [`ChainError::Contract`] if the chain is no native chain.
    pub async fn native_ciphertext(&self, handle: Handle) -> Result<Bytes, ChainError> {
        self.node_library(FheLib::getCiphertextCall::SIGNATURE, get_ciphertext_call(handle))
            .await
    }

    /// Returns the public key that a native chain's inputs are encrypted to.
    ///
    /// # Errors
    /// As all reads. [`ChainError::Contract`] if the chain is no native chain.
    pub async fn native_public_key(&self) -> Result<Bytes, ChainError> {
        let call = FheLib::fhePubKeyCall {
            kind: [COMPACT_PUBLIC_KEY].into(),
        };
        self.node_library(FheLib::fhePubKeyCall::SIGNATURE, call.abi_encode().into()).await
    }

    /// The answers of these functions are raw bytes and not ABI-encoded.
    async fn node_library(&self, method: &'static str, data: Bytes) -> Result<Bytes, ChainError> {
        let answer: Bytes = self.request("eth_call", (json!({ "to": FHELIB, "input": data }), "latest")).await?;
        let length = answer.len() as u64;
        if (1..=MAX_STORED_BYTES).contains(&length) {
            return Ok(answer);
        }
        Err(ChainError::Contract {
            method,
            contract: FHELIB,
            reason: match length {
                0 => "nobody answers at the address; only nodes of native chains do".to_owned(),
                _ => format!("{length} bytes are more than anything that is stored"),
            },
        })
    }
}
