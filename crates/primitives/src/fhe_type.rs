//! The encrypted types contracts can use, with the public protocol's numbers.

use alloy_primitives::U256;
use serde::{Deserialize, Serialize};

/// An encrypted type: what kind of plaintext a ciphertext holds.
///
/// The discriminants are the public protocol's type numbers (byte 30 of a handle); 1 and everything above 8 are
/// reserved there and have no variant here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum FheType {
    /// `ebool`: one bit.
    Bool = 0,
    /// `euint8`.
    Uint8 = 2,
    /// `euint16`.
    Uint16 = 3,
    /// `euint32`.
    Uint32 = 4,
    /// `euint64`.
    Uint64 = 5,
    /// `euint128`.
    Uint128 = 6,
    /// `eaddress`: 160 bits.
    Address = 7,
    /// `euint256`.
    Uint256 = 8,
}

/// The type number that was read is not one of the supported types.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown FHE type number {0}; supported are 0 (ebool) and 2 to 8 (euint8 … euint128, eaddress, euint256)")]
pub struct UnknownFheType(pub u8);

impl FheType {
    /// Every supported type, in the order of the protocol's numbers.
    pub const ALL: [Self; 8] = [
        Self::Bool,
        Self::Uint8,
        Self::Uint16,
        Self::Uint32,
        Self::Uint64,
        Self::Uint128,
        Self::Address,
        Self::Uint256,
    ];

    /// Returns the protocol's number of the type.
    #[must_use]
    pub const fn id(self) -> u8 {
        self as u8
    }

    /// Returns how many bits of plaintext the type holds.
    #[must_use]
    pub const fn bits(self) -> u32 {
        match self {
            Self::Bool => 1,
            Self::Uint8 => 8,
            Self::Uint16 => 16,
            Self::Uint32 => 32,
            Self::Uint64 => 64,
            Self::Uint128 => 128,
            Self::Address => 160,
            Self::Uint256 => 256,
        }
    }

    /// Returns how many bits the type counts towards the limits of an input list or of a decryption request, where
    /// `ebool` counts as 2 (public protocol, sections 4.1 and 5.1).
    #[must_use]
    pub const fn request_bits(self) -> u32 {
        match self {
            Self::Bool => 2,
            other => other.bits(),
        }
    }

    /// Returns the Solidity name of the encrypted type, such as `euint64`.
    #[must_use]
    pub const fn solidity_name(self) -> &'static str {
        match self {
            Self::Bool => "ebool",
            Self::Uint8 => "euint8",
            Self::Uint16 => "euint16",
            Self::Uint32 => "euint32",
            Self::Uint64 => "euint64",
            Self::Uint128 => "euint128",
            Self::Address => "eaddress",
            Self::Uint256 => "euint256",
        }
    }

    /// Returns the Solidity name of the plaintext type, such as `uint64`.
    #[must_use]
    pub const fn plain_solidity_name(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::Uint8 => "uint8",
            Self::Uint16 => "uint16",
            Self::Uint32 => "uint32",
            Self::Uint64 => "uint64",
            Self::Uint128 => "uint128",
            Self::Address => "address",
            Self::Uint256 => "uint256",
        }
    }

    /// Returns the largest plaintext of the type.
    #[must_use]
    pub fn max_value(self) -> U256 {
        match self {
            Self::Uint256 => U256::MAX,
            other => (U256::ONE << (other.bits() as usize)) - U256::ONE,
        }
    }

    /// Reduces a value modulo two to the number of bits of the type, which is how a scalar operand is read.
    #[must_use]
    pub fn truncate(self, value: U256) -> U256 {
        value & self.max_value()
    }

    /// Finds the type with this Solidity name, such as `euint64`.
    #[must_use]
    pub fn from_solidity_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|ty| ty.solidity_name() == name)
    }
}

impl TryFrom<u8> for FheType {
    type Error = UnknownFheType;

    fn try_from(id: u8) -> Result<Self, UnknownFheType> {
        Self::ALL.into_iter().find(|ty| ty.id() == id).ok_or(UnknownFheType(id))
    }
}

impl std::fmt::Display for FheType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.solidity_name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn type_numbers_are_the_protocols() {
        let known: Vec<u8> = (0..=u8::MAX).filter(|id| FheType::try_from(*id).is_ok()).collect();
        assert_eq!(known, [0, 2, 3, 4, 5, 6, 7, 8]);
        for ty in FheType::ALL {
            assert_eq!(FheType::try_from(ty.id()), Ok(ty));
            assert_eq!(FheType::from_solidity_name(ty.solidity_name()), Some(ty));
        }
        assert_eq!(FheType::try_from(1), Err(UnknownFheType(1)));
    }

    #[test]
    fn truncation_keeps_the_low_bits() {
        assert_eq!(FheType::Uint8.truncate(U256::from(0x1ff)), U256::from(0xff));
        assert_eq!(FheType::Bool.truncate(U256::from(2)), U256::ZERO);
        assert_eq!(FheType::Uint256.truncate(U256::MAX), U256::MAX);
        assert_eq!(FheType::Address.max_value().bit_len(), 160);
    }
}
