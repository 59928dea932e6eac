//! A ciphertext of any backend, with its type.

use cipherloom_primitives::{FheType, U256};
use tfhe::integer::{BooleanBlock, RadixCiphertext};

/// An encrypted value and its type. Which backend it belongs to is part of the value; backends refuse each other's.
#[derive(Clone)]
pub struct Ciphertext {
    pub(crate) ty: FheType,
    pub(crate) value: Value,
}

/// The representation per backend.
#[derive(Clone)]
pub(crate) enum Value {
    /// The plaintext itself, below 2^bits of the type.
    Clear(U256),
    /// An encrypted bit of the CPU backend.
    Bool(BooleanBlock),
    /// An encrypted integer of the CPU backend, in blocks of two bits.
    Radix(RadixCiphertext),
}

impl Ciphertext {
    /// Returns the type of the encrypted value.
    #[must_use]
    pub const fn fhe_type(&self) -> FheType {
        self.ty
    }
}

impl std::fmt::Debug for Ciphertext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The value is left out: the clear backend's would be a plaintext in a log.
        f.debug_struct("Ciphertext").field("ty", &self.ty).finish_non_exhaustive()
    }
}
