//! Handles: the 32-byte references to ciphertexts that contracts store and pass around.
//!
//! Layout (public protocol, section 1.1): bytes 0–20 are the first 21 bytes of a Keccak hash over what the handle
//! stands for, byte 21 is `0xff` for a computed value or the index in its input list, bytes 22–29 the chain id
//! (big-endian), byte 30 the type and byte 31 the handle version, 0.

use alloy_primitives::{B256, Keccak256, hex};
use serde::{Deserialize, Serialize};

use crate::fhe_type::{FheType, UnknownFheType};

/// The handle version this crate reads and writes (byte 31).
pub const HANDLE_VERSION: u8 = 0;

/// The largest index an input can have in its list; 255 marks a computed handle.
pub const MAX_INPUT_INDEX: u8 = 254;

const COMPUTED_MARKER: u8 = 0xff;

const NAME_DOMAIN: &[u8] = b"cipherloom named handle 1";

/// A well-formed reference to a ciphertext: its version is supported and its type is known.
///
/// ```
/// use cipherloom_primitives::{B256, FheType, Handle, HandleOrigin};
///
/// let handle = Handle::computed(B256::repeat_byte(7), 31337, FheType::Uint64);
/// assert_eq!(handle.fhe_type(), FheType::Uint64);
/// assert_eq!(handle.chain_id(), 31337);
/// assert_eq!(handle.origin(), HandleOrigin::Computed);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "B256", into = "B256")]
pub struct Handle {
    bytes: B256,
    fhe_type: FheType,
}

/// Where the value behind a handle comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandleOrigin {
    /// The result of an operation on chain.
    Computed,
    /// An encrypted input, at this index of its list.
    Input(u8),
}

/// Why 32 bytes are not a handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandleError {
    /// The version byte is not one this software reads.
    #[error("handle {handle} has version {version}; only version {HANDLE_VERSION} is supported")]
    UnsupportedVersion {
        /// The bytes that were read.
        handle: B256,
        /// The version byte found.
        version: u8,
    },
    /// The type byte names no supported type.
    #[error("handle {handle}: {source}")]
    UnknownType {
        /// The bytes that were read.
        handle: B256,
        /// The type number found.
        source: UnknownFheType,
    },
    /// The bytes are not 32 long, or the text is not hexadecimal.
    #[error("a handle is 32 bytes (64 hexadecimal digits with an optional 0x)")]
    Malformed,
}

impl Handle {
    /// Builds the handle of a computed value from the hash of its pre-image.
    #[must_use]
    pub fn computed(prehandle: B256, chain_id: u64, fhe_type: FheType) -> Self {
        Self::assemble(prehandle, COMPUTED_MARKER, chain_id, fhe_type)
    }

    /// Builds the handle of an encrypted input; see [`crate::input::input_handle`] for the hash.
    ///
    /// Returns `None` if the index is above [`MAX_INPUT_INDEX`].
    #[must_use]
    pub fn input(prehandle: B256, index: u8, chain_id: u64, fhe_type: FheType) -> Option<Self> {
        (index <= MAX_INPUT_INDEX).then(|| Self::assemble(prehandle, index, chain_id, fhe_type))
    }

    /// Builds the handle of a value that somebody calls by another name: in the 0.6 generation a node may choose any bytes.
    ///
    /// It is that of a computed value, from the Keccak hash of a tag and the name. One name gives one handle per chain and type.
    ///
    /// ```
    /// use cipherloom_primitives::{FheType, Handle, HandleOrigin};
    ///
    /// let handle = Handle::named(b"balance", 12345, FheType::Uint8);
    /// assert_eq!((handle.chain_id(), handle.fhe_type()), (12345, FheType::Uint8));
    /// assert_eq!(handle.origin(), HandleOrigin::Computed);
    /// ```
    #[must_use]
    pub fn named(name: &[u8], chain_id: u64, fhe_type: FheType) -> Self {
        let mut hasher = Keccak256::new();
        hasher.update(NAME_DOMAIN);
        hasher.update(name);
        Self::computed(hasher.finalize(), chain_id, fhe_type)
    }

    fn assemble(prehandle: B256, marker: u8, chain_id: u64, fhe_type: FheType) -> Self {
        let mut bytes = prehandle;
        bytes.0[21] = marker;
        bytes.0[22..30].copy_from_slice(&chain_id.to_be_bytes());
        bytes.0[30] = fhe_type.id();
        bytes.0[31] = HANDLE_VERSION;
        Self { bytes, fhe_type }
    }

    /// Returns the type of the value the handle stands for.
    #[must_use]
    pub const fn fhe_type(&self) -> FheType {
        self.fhe_type
    }

    /// Returns the id of the chain the handle was made for.
    #[must_use]
    pub fn chain_id(&self) -> u64 {
        let mut id = [0u8; 8];
        id.copy_from_slice(&self.bytes.0[22..30]);
        u64::from_be_bytes(id)
    }

    /// Returns whether the value was computed or is an input, and which one.
    #[must_use]
    pub fn origin(&self) -> HandleOrigin {
        match self.bytes.0[21] {
            COMPUTED_MARKER => HandleOrigin::Computed,
            index => HandleOrigin::Input(index),
        }
    }

    /// Returns the 32 bytes as they stand on chain.
    #[must_use]
    pub const fn as_b256(&self) -> B256 {
        self.bytes
    }

    /// Returns the 32 bytes as a slice.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        self.bytes.as_slice()
    }
}

impl TryFrom<B256> for Handle {
    type Error = HandleError;

    fn try_from(bytes: B256) -> Result<Self, HandleError> {
        let version = bytes.0[31];
        if version != HANDLE_VERSION {
            return Err(HandleError::UnsupportedVersion { handle: bytes, version });
        }
        let fhe_type = FheType::try_from(bytes.0[30]).map_err(|source| HandleError::UnknownType { handle: bytes, source })?;
        Ok(Self { bytes, fhe_type })
    }
}

impl TryFrom<&[u8]> for Handle {
    type Error = HandleError;

    fn try_from(bytes: &[u8]) -> Result<Self, HandleError> {
        Self::try_from(B256::try_from(bytes).map_err(|_| HandleError::Malformed)?)
    }
}

impl std::str::FromStr for Handle {
    type Err = HandleError;

    fn from_str(text: &str) -> Result<Self, HandleError> {
        let mut bytes = [0u8; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| HandleError::Malformed)?;
        Self::try_from(B256::from(bytes))
    }
}

impl From<Handle> for B256 {
    fn from(handle: Handle) -> Self {
        handle.bytes
    }
}

impl std::fmt::Display for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // `B256`'s own `Display` abbreviates; a handle must stay copyable from a log line.
        write!(f, "0x{}", hex::encode(self.bytes))
    }
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}:{}", self.fhe_type)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_bytes_are_where_the_protocol_puts_them() {
        let handle = Handle::input(B256::repeat_byte(0xab), 3, 0x0102_0304_0506_0708, FheType::Address).unwrap();
        let bytes = handle.as_b256();
        assert_eq!(&bytes[..21], &[0xab; 21]);
        assert_eq!(bytes[21], 3);
        assert_eq!(&bytes[22..30], &[1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(bytes[30], 7);
        assert_eq!(bytes[31], 0);
        assert_eq!(handle.origin(), HandleOrigin::Input(3));
        assert_eq!(handle.to_string().parse::<Handle>().unwrap(), handle);
    }

    #[test]
    fn the_computed_marker_is_not_an_input_index() {
        assert!(Handle::input(B256::ZERO, 255, 1, FheType::Bool).is_none());
        assert_eq!(Handle::computed(B256::ZERO, 1, FheType::Bool).origin(), HandleOrigin::Computed);
    }

    #[test]
    fn names_give_handles_of_their_own() {
        let handle = Handle::named(b"a", 5, FheType::Uint8);
        let hash = alloy_primitives::keccak256(b"cipherloom named handle 1a");
        assert_eq!(handle, Handle::computed(hash, 5, FheType::Uint8));
        assert_eq!(handle.as_slice()[..21], hash[..21]);
        for other in [
            Handle::named(b"b", 5, FheType::Uint8),
            Handle::named(b"a", 6, FheType::Uint8),
            Handle::named(b"a", 5, FheType::Bool),
        ] {
            assert_ne!(handle, other);
        }
    }

    #[test]
    fn unknown_versions_and_types_are_refused() {
        let mut bytes = Handle::computed(B256::ZERO, 1, FheType::Bool).as_b256();
        bytes.0[31] = 1;
        assert!(matches!(
            Handle::try_from(bytes),
            Err(HandleError::UnsupportedVersion { version: 1, .. })
        ));
        bytes.0[31] = 0;
        bytes.0[30] = 1;
        assert!(matches!(
            Handle::try_from(bytes),
            Err(HandleError::UnknownType {
                source: UnknownFheType(1),
                ..
            })
        ));
        assert_eq!(Handle::try_from([0u8; 31].as_slice()), Err(HandleError::Malformed));
        assert_eq!("0x12".parse::<Handle>(), Err(HandleError::Malformed));
    }
}
