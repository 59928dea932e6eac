//! Encrypted computation behind one seam.
//!
//! [`FheBackend`] evaluates the typed operations of [`cipherloom_primitives`] on opaque [`Ciphertext`]s. Two complete
//! backends exist: [`ClearBackend`], which keeps plaintext and says so in every name, and [`CpuBackend`] on tfhe-rs.
//! Keys live in [`KeySet`] directories. This is the only crate that names tfhe, and it does so on the integer level with
//! plain functions: the generic high-level types would be compiled again by every caller.

pub mod backend;
pub mod blocks;
pub mod ciphertext;
pub mod clear;
pub mod cpu;
mod decrypt;
pub mod error;
mod fft_plan;
#[cfg(feature = "gpu")]
pub mod gpu;
mod input;
pub mod keys;
mod operands;
pub mod parameters;
pub mod squashing;
mod stored;
#[cfg(feature = "insecure-toy-parameters")]
mod test_keys;

pub use backend::{BackendKind, Decrypt, EncryptInputs, FheBackend, VerifiedInput};
pub use blocks::{Block, BlockBackend, BlockBounds, BootstrapJob, ClearBlocks, CpuBlocks, LookupTable};
pub use ciphertext::Ciphertext;
pub use clear::ClearBackend;
pub use cpu::{CpuBackend, DirectTfhe, DirectVariant};
pub use error::FheError;
#[cfg(feature = "gpu")]
pub use gpu::GpuBackend;
pub use input::{encryptor_for_key_set, encryptor_from_bytes, parameters_of_public_key};
pub use keys::{
    EvaluationKeys, GenerationProgress, KeySet, KeySetBytes, KeySetCopy, KeySetId, Manifest, PartInDirectory, SquashingKeyBytes,
};
pub use parameters::{ParameterDescription, ParameterSet};
pub use squashing::{NoiseSquasher, SquashedInBatch, SquashedValue, SquashingBatch, SquashingMaterial, SquashingSecrets};
pub use stored::form_of;
#[cfg(feature = "insecure-toy-parameters")]
pub use test_keys::{insecure_test_keys, insecure_test_keys_with_squashing, production_test_keys};
