//! The clear backend: the same operations, types and errors as real encryption, on plaintext.
//!
//! Nothing is hidden from anyone who can read its ciphertexts, proofs or storage. It exists so that logic can be tested in
//! milliseconds, and as the reference that the real backends are checked against: [`evaluate`] defines what each operation means.

mod arithmetic;

use cipherloom_primitives::{B256, FheType, TypedOperation, U256, input::InputMetadata};

pub use arithmetic::evaluate;

use crate::{
    backend::{BackendKind, FheBackend, VerifiedInput},
    blocks::{BlockBackend, ClearBlocks},
    ciphertext::{Ciphertext, Value},
    error::FheError,
    keys::ClearKey,
    operands,
};

/// A backend without any encryption. For tests and development only.
pub struct ClearBackend {
    key: ClearKey,
    blocks: ClearBlocks,
}

impl ClearBackend {
    /// Makes the backend for a key set. **Insecure:** every "ciphertext" it makes holds its plaintext in the open.
    #[must_use]
    pub const fn insecure_new(key: ClearKey) -> Self {
        Self {
            key,
            blocks: ClearBlocks::insecure_new(),
        }
    }
}

impl FheBackend for ClearBackend {
    fn kind(&self) -> BackendKind {
        BackendKind::Clear
    }

    fn evaluate(&self, operation: &TypedOperation, inputs: &[&Ciphertext]) -> Result<Ciphertext, FheError> {
        operands::check(operation, inputs)?;
        let values = inputs.iter().map(|input| plaintext(input)).collect::<Result<Vec<_>, _>>()?;
        Ok(Ciphertext {
            ty: operation.result_type(),
            value: Value::Clear(evaluate(operation, &values)),
        })
    }

    fn verify_input(&self, list: &[u8], metadata: &InputMetadata) -> Result<VerifiedInput, FheError> {
        crate::input::clear_verify(&self.key, list, metadata)
    }

    fn list_types(&self, list: &[u8]) -> Result<Vec<FheType>, FheError> {
        crate::input::clear_types(&self.key, list)
    }

    fn expand_values(&self, list: &[u8], positions: &[u8]) -> Result<Vec<Ciphertext>, FheError> {
        let values = self.expand_input(list)?;
        positions
            .iter()
            .map(|position| {
                let value = values.get(usize::from(*position)).cloned();
                value.ok_or_else(|| FheError::no_input_at(*position, values.len()))
            })
            .collect()
    }

    fn expand_input(&self, list: &[u8]) -> Result<Vec<Ciphertext>, FheError> {
        crate::input::clear_expand(&self.key, list)
    }

    fn serialize(&self, ciphertext: &Ciphertext) -> Result<Vec<u8>, FheError> {
        crate::stored::clear_serialize(&self.key, ciphertext)
    }

    fn deserialize(&self, ty: FheType, bytes: &[u8]) -> Result<Ciphertext, FheError> {
        crate::stored::clear_deserialize(&self.key, ty, bytes)
    }

    fn pack(&self, ciphertext: &Ciphertext) -> Result<Vec<u8>, FheError> {
        crate::stored::clear_pack(&self.key, ciphertext)
    }

    fn unpack(&self, ty: FheType, bytes: &[u8]) -> Result<Ciphertext, FheError> {
        crate::stored::clear_unpack(&self.key, ty, bytes)
    }

    fn rerandomise(&self, ciphertext: &mut Ciphertext, _: &B256) -> Result<(), FheError> {
        plaintext(ciphertext).map(|_| ())
    }

    fn blocks(&self) -> Option<&dyn BlockBackend> {
        Some(&self.blocks)
    }
}

fn plaintext(ciphertext: &Ciphertext) -> Result<U256, FheError> {
    match &ciphertext.value {
        Value::Clear(value) => Ok(*value),
        Value::Bool(_) | Value::Radix(_) => Err(FheError::ForeignCiphertext),
    }
}
