//! tfhe-rs called directly, one operation after the other: what benchmarks compare Cipherloom with.
//!
//! Nothing here is part of a coprocessor. Operations run in the thread pool they are called from, rayon's global one by default, as tfhe-rs's own
//! do. It chooses its algorithms by the number of threads it finds there, so results are right everywhere but not the same bytes.

use std::sync::Arc;

use cipherloom_primitives::{FheType, TypedOperation, U256, input::InputMetadata};
use tfhe::zk::ZkComputeLoad;

use super::evaluate;
use crate::{ciphertext::Ciphertext, error::FheError, fft_plan, input::cpu_encrypt, keys::EvaluationKeys, operands};

/// Which of tfhe-rs's functions an operation is done with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DirectVariant {
    /// The function of the operation's name on ciphertexts, those of public values included: `select(c, a, encryption of 0)` and so on, as
    /// dApps write it and tfhe-rs's high-level operators do it.
    Usual,
    /// The cheapest function tfhe-rs has: those with scalars wherever a value is public, `if_then_zero` among them.
    Best,
}

/// tfhe-rs without anything around it, under one key set.
pub struct DirectTfhe {
    keys: Arc<EvaluationKeys>,
}

impl DirectTfhe {
    /// Takes the keys, which may be shared with a backend.
    #[must_use]
    pub fn new(keys: Arc<EvaluationKeys>) -> Self {
        fft_plan::fix();
        Self { keys }
    }

    /// Evaluates one operation in the current thread pool.
    ///
    /// # Errors
    /// As [`FheBackend::evaluate`](crate::FheBackend::evaluate).
    pub fn evaluate(&self, variant: DirectVariant, operation: &TypedOperation, inputs: &[&Ciphertext]) -> Result<Ciphertext, FheError> {
        operands::check(operation, inputs)?;
        let evaluate = match variant {
            DirectVariant::Usual => evaluate::evaluate_literally,
            DirectVariant::Best => evaluate::evaluate,
        };
        evaluate(&self.keys.integer, &self.keys.oprf, operation, inputs)
    }

    /// Encrypts an input list as most released clients do: with a proof that is cheaper to make and dearer to check than the one of
    /// [`EncryptInputs`](crate::EncryptInputs).
    ///
    /// # Errors
    /// As [`EncryptInputs::encrypt`](crate::EncryptInputs::encrypt).
    pub fn encrypt_like_released_clients(&self, values: &[(FheType, U256)], metadata: &InputMetadata) -> Result<Vec<u8>, FheError> {
        cpu_encrypt(&self.keys.input, ZkComputeLoad::Verify, values, metadata)
    }
}
