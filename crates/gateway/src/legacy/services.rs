//! What the gateway of the 0.6 generation needs from the rest of the system.

use std::sync::Arc;

use alloy_primitives::{Address, B256, Bytes};
use cipherloom_primitives::generation_0_6::ReencryptionRequest;
use futures_util::future::BoxFuture;

use crate::services::{KeyMaterial, ServiceError};

/// Everything it serves.
#[derive(Clone)]
pub struct LegacyServices {
    /// Public key and CRS in the form that tfhe 0.9 reads. Their ids are 40 hexadecimal digits in that generation.
    pub keys: Arc<dyn KeyMaterial>,
    /// The KMS and the coprocessor, which both vouch for an input.
    pub inputs: Arc<dyn LegacyInputs>,
    /// The KMS.
    pub reencryption: Arc<dyn LegacyReencryption>,
}

/// An input with its proof; the chain is the services' own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LegacyInput {
    /// The contract that will consume the input.
    pub contract: Address,
    /// The account that will send it.
    pub user: Address,
    /// The list with its proof: not empty, at most [`cipherloom_primitives::input::MAX_INPUT_LIST_BYTES`].
    pub list: Bytes,
}

/// What became of an input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LegacyAdmission {
    /// The proof holds.
    Admitted(SignedInput),
    /// The proof does not hold, or the list is none.
    Rejected {
        /// Why, for operators.
        reason: String,
    },
}

/// An input that KMS and coprocessor have signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedInput {
    /// In the order of the list, in the form of that generation.
    pub handles: Vec<B256>,
    /// One 65-byte signature per KMS node, over the list.
    pub kms_signatures: Vec<Bytes>,
    /// The coprocessor's signature over list and handles, 65 bytes.
    pub coprocessor_signature: Bytes,
}

/// Verifies inputs.
pub trait LegacyInputs: Send + Sync {
    /// Verifies the proof of an input; KMS and coprocessor sign for it.
    fn verify(&self, input: LegacyInput) -> BoxFuture<'static, Result<LegacyAdmission, ServiceError>>;
}

/// A KMS node's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReencryptionResponse {
    /// What the client opens.
    pub payload: Bytes,
    /// The node's signature over it, 64 bytes.
    pub signature: Bytes,
    /// The digest of the ciphertext, which the client needs to check what the answer is bound to.
    pub ciphertext_digest: B256,
}

/// Encrypts values to users' keys.
pub trait LegacyReencryption: Send + Sync {
    /// Encrypts a value to the key of a user who proves to want it; one answer per KMS node.
    fn reencrypt(&self, request: ReencryptionRequest) -> BoxFuture<'static, Result<Vec<ReencryptionResponse>, ServiceError>>;
}
