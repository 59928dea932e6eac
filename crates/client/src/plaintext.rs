//! Decrypted values with their types.

use cipherloom_primitives::{Address, FheType, U256};

/// A decrypted value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plaintext {
    /// Of an `ebool`.
    Bool(bool),
    /// Of an `euint8`.
    Uint8(u8),
    /// Of an `euint16`.
    Uint16(u16),
    /// Of an `euint32`.
    Uint32(u32),
    /// Of an `euint64`.
    Uint64(u64),
    /// Of an `euint128`.
    Uint128(u128),
    /// Of an `eaddress`.
    Address(Address),
    /// Of an `euint256`.
    Uint256(U256),
}

impl Plaintext {
    /// Gives a number its type; `None` if it does not fit.
    #[must_use]
    pub fn new(ty: FheType, value: U256) -> Option<Self> {
        if value > ty.max_value() {
            return None;
        }
        Some(match ty {
            FheType::Bool => Self::Bool(!value.is_zero()),
            FheType::Uint8 => Self::Uint8(value.try_into().ok()?),
            FheType::Uint16 => Self::Uint16(value.try_into().ok()?),
            FheType::Uint32 => Self::Uint32(value.try_into().ok()?),
            FheType::Uint64 => Self::Uint64(value.try_into().ok()?),
            FheType::Uint128 => Self::Uint128(value.try_into().ok()?),
            FheType::Address => Self::Address(Address::from_word(value.into())),
            FheType::Uint256 => Self::Uint256(value),
        })
    }

    /// Returns the value as a number, as contracts see it in an ABI word.
    #[must_use]
    pub fn to_u256(&self) -> U256 {
        match self {
            Self::Bool(value) => U256::from(*value),
            Self::Uint8(value) => U256::from(*value),
            Self::Uint16(value) => U256::from(*value),
            Self::Uint32(value) => U256::from(*value),
            Self::Uint64(value) => U256::from(*value),
            Self::Uint128(value) => U256::from(*value),
            Self::Address(value) => value.into_word().into(),
            Self::Uint256(value) => *value,
        }
    }
}

impl std::fmt::Display for Plaintext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Bool(value) => value.fmt(f),
            Self::Address(value) => value.fmt(f),
            number => number.to_u256().fmt(f),
        }
    }
}
