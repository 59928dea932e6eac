//! The seam: what the rest of the system asks of encrypted computation.

use std::sync::Arc;

use cipherloom_primitives::{B256, FheType, TypedOperation, U256, input::InputMetadata};
use serde::{Deserialize, Serialize};

use crate::{blocks::BlockBackend, ciphertext::Ciphertext, error::FheError, keys::EvaluationKeys};

/// Which implementation is behind an [`FheBackend`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BackendKind {
    /// tfhe-rs on the CPU.
    Cpu,
    /// tfhe-rs on GPUs. Builds without the feature `gpu` know its key sets and cannot compute on them.
    Gpu,
    /// Plaintext; nothing is encrypted.
    Clear,
}

/// A list of encrypted inputs whose proof was checked; see [`FheBackend::verify_input`].
#[derive(Debug)]
pub struct VerifiedInput {
    /// The types of the values, in order. At most 255 of them.
    pub types: Vec<FheType>,
    /// The list as it was received. [`FheBackend::expand_input`] reads it again, so that a verified list can be
    /// stored and its values expanded when they are first used.
    pub list: Vec<u8>,
}

/// Computes on ciphertexts under one key set. Calls block and use many milliseconds of CPU; callers run them outside
/// async tasks.
///
/// For a given key set, results are a pure function of the arguments: the same operation on the same ciphertext bytes gives the
/// same bytes, in every process and for every number of threads.
pub trait FheBackend: Send + Sync + 'static {
    /// Says which implementation this is.
    fn kind(&self) -> BackendKind;

    /// Evaluates one operation on its encrypted inputs, in the order [`TypedOperation`] gives.
    ///
    /// # Errors
    /// [`FheError::InputTypes`] if the inputs are not of the operation's types, [`FheError::ForeignCiphertext`] if one belongs to
    /// another backend.
    fn evaluate(&self, operation: &TypedOperation, inputs: &[&Ciphertext]) -> Result<Ciphertext, FheError>;

    /// Checks size, shape, parameters and zero-knowledge proof of an input list against the contract, user and chain it is
    /// said to be for. Nothing is expanded.
    ///
    /// # Errors
    /// [`FheError::MalformedInput`] or [`FheError::InvalidProof`], both the sender's fault.
    fn verify_input(&self, list: &[u8], metadata: &InputMetadata) -> Result<VerifiedInput, FheError>;

    /// Tells the types of a list's values with all checks short of the proof: a milliseconds' look that says nothing about who made the list.
    ///
    /// # Errors
    /// [`FheError::MalformedInput`] as [`Self::verify_input`].
    fn list_types(&self, list: &[u8]) -> Result<Vec<FheType>, FheError>;

    /// Turns values of a list that was verified before into ciphertexts: those at these positions, in this order. The others cost nothing.
    ///
    /// # Errors
    /// [`FheError::MalformedInput`] if the bytes are not a list or it has no value at a position.
    fn expand_values(&self, list: &[u8], positions: &[u8]) -> Result<Vec<Ciphertext>, FheError>;

    /// Turns a list that was verified before into one ciphertext per value.
    ///
    /// # Errors
    /// [`FheError::MalformedInput`] if the bytes are not a list.
    fn expand_input(&self, list: &[u8]) -> Result<Vec<Ciphertext>, FheError>;

    /// Writes a ciphertext in its canonical raw form.
    ///
    /// # Errors
    /// [`FheError::ForeignCiphertext`] if it belongs to another backend.
    fn serialize(&self, ciphertext: &Ciphertext) -> Result<Vec<u8>, FheError>;

    /// Reads a ciphertext of this type in raw form, with size limit and parameter check.
    ///
    /// # Errors
    /// [`FheError::MalformedCiphertext`] if the bytes are not a raw ciphertext of this type and key set.
    fn deserialize(&self, ty: FheType, bytes: &[u8]) -> Result<Ciphertext, FheError>;

    /// Writes a ciphertext in its canonical packed form, hundreds of times smaller. Takes about as long as seven bootstraps for a 64-bit value.
    ///
    /// # Errors
    /// [`FheError::ForeignCiphertext`] if it belongs to another backend.
    fn pack(&self, ciphertext: &Ciphertext) -> Result<Vec<u8>, FheError>;

    /// Reads a ciphertext of this type in packed form: one bootstrap per secret block. The result has the same plaintext as what was packed,
    /// and other bytes.
    ///
    /// # Errors
    /// [`FheError::MalformedCiphertext`] if the bytes are not a packed ciphertext of this type and key set.
    fn unpack(&self, ty: FheType, bytes: &[u8]) -> Result<Ciphertext, FheError>;

    /// Changes mask and noise of a ciphertext that comes from outside a transaction, and not its plaintext, so that nobody who prepared the
    /// ciphertext knows what noise is computed with. The seed is that of
    /// [`RandomiserContext::seed`](cipherloom_primitives::RandomiserContext::seed). The result is of nominal noise.
    /// Public values stay as they are, and the clear backend does nothing.
    ///
    /// # Errors
    /// [`FheError::ForeignCiphertext`] if it belongs to another backend.
    fn rerandomise(&self, ciphertext: &mut Ciphertext, seed: &B256) -> Result<(), FheError>;

    /// Says whether transactions are best evaluated operation by operation, and not compiled to bootstraps on blocks.
    fn evaluates_whole_operations(&self) -> bool {
        false
    }

    /// Returns the machinery of blocks, on which whole graphs of operations are computed at once, if this backend has one. Both backends of this
    /// crate do.
    fn blocks(&self) -> Option<&dyn BlockBackend> {
        None
    }

    /// Returns the keys it computes with, if they are those of real encryption, for noise squashing, which needs them beside its own.
    fn evaluation_keys(&self) -> Option<&Arc<EvaluationKeys>> {
        None
    }
}

/// Encrypts inputs to a key set's public key; what a dApp's client does.
pub trait EncryptInputs: Send + Sync {
    /// Encrypts the values into one list with a proof bound to the metadata. Takes seconds of CPU on real parameters.
    ///
    /// # Errors
    /// [`FheError::TooManyInputs`] above 255 values or 2048 bits, [`FheError::ValueOutOfRange`] if a value does not fit its type.
    fn encrypt(&self, values: &[(FheType, U256)], metadata: &InputMetadata) -> Result<Vec<u8>, FheError>;

    /// Checks a list and its proof as [`FheBackend::verify_input`] does, with the public key alone, and returns the types of its values. Takes tens of
    /// milliseconds of CPU on real parameters.
    ///
    /// # Errors
    /// [`FheError::MalformedInput`] if the list cannot be read, [`FheError::InvalidProof`] if its proof does not hold for the metadata.
    fn check(&self, list: &[u8], metadata: &InputMetadata) -> Result<Vec<FheType>, FheError>;
}

/// Decrypts with the secret key of a key set. Only the KMS holds one.
pub trait Decrypt: Send + Sync {
    /// Decrypts a ciphertext in raw or packed form.
    ///
    /// # Errors
    /// [`FheError::MalformedCiphertext`] if the bytes are not a ciphertext of this type and key set.
    fn decrypt(&self, ty: FheType, bytes: &[u8]) -> Result<U256, FheError>;
}
