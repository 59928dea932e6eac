//! Native chains, whose validators check inputs and keep ciphertexts themselves.
//!
//! There a transaction carries the encrypted list with its proof, and no coprocessor is asked or could sign. Which kind a chain is says its
//! `InputVerifier`: one without coprocessors is a native chain's.

use cipherloom_primitives::{
    Bytes, FheType, Handle,
    native::{NativeProofError, native_input_proof},
};

use crate::{Client, EncryptedInput, error::ClientError};

const WHAT: &str = "input";

impl Client {
    /// Returns whether the chain's validators check inputs themselves, so that inputs need no coprocessor's signature. Asked once per client.
    ///
    /// # Errors
    /// [`ClientError::Chain`] if the chain cannot be read.
    pub async fn is_native_chain(&self) -> Result<bool, ClientError> {
        let shared = &self.shared;
        let ask = async || {
            let coprocessors = shared.chain.coprocessor_signers().await?;
            Ok::<_, ClientError>(coprocessors.signers.is_empty() && coprocessors.threshold.is_zero())
        };
        shared.is_native_chain.get_or_try_init(ask).await.copied()
    }

    /// Reads the ciphertext of a handle that a contract of a native chain has stored: its packed form, as validators compute with it.
    ///
    /// Ciphertexts are public. The node is believed; who must not believe it proves the slots of the state with `cipherloom_chain::light`.
    ///
    /// # Errors
    /// [`ClientError::Chain`]: the chain cannot be read, is no native chain, or has no ciphertext of this handle.
    pub async fn ciphertext(&self, handle: Handle) -> Result<Bytes, ClientError> {
        Ok(self.shared.chain.native_ciphertext(handle).await?)
    }

    /// Makes of a list what a native chain takes.
    pub(crate) fn native_input(&self, list: &[u8], types: &[FheType]) -> Result<EncryptedInput, ClientError> {
        let config = &self.shared.config;
        let made = native_input_proof(list, types, config.addresses.acl, config.domains.host_chain_id);
        let (handles, proof) = made.map_err(|error: NativeProofError| ClientError::Configuration {
            what: WHAT,
            reason: error.to_string(),
        })?;
        Ok(EncryptedInput {
            handles,
            input_proof: proof.into(),
        })
    }
}
