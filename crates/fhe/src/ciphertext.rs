//! A ciphertext of any backend, with its type.

use cipherloom_primitives::{FheType, U256};
use tfhe::{
    integer::{BooleanBlock, IntegerCiphertext, RadixCiphertext},
    shortint::Ciphertext as Block,
};

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

    /// Returns how many bytes of memory the value takes, about.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let blocks = match &self.value {
            Value::Clear(_) => &[],
            Value::Bool(bit) => std::slice::from_ref(bit.as_ref()),
            Value::Radix(radix) => radix.blocks(),
        };
        let words = |block: &Block| size_of_val::<[u64]>(block.ct.as_ref());
        size_of::<Self>() + blocks.iter().map(|block| size_of::<Block>() + words(block)).sum::<usize>()
    }
}

impl std::fmt::Debug for Ciphertext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The value is left out: the clear backend's would be a plaintext in a log.
        f.debug_struct("Ciphertext").field("ty", &self.ty).finish_non_exhaustive()
    }
}
