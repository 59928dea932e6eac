//! Where a native chain keeps ciphertexts in its state, and how bytes become words of storage.
//!
//! The account [`STORAGE_ACCOUNT`] has no code. At the slot with the number of a handle it has one word of metadata (type and length), and from the next slot on
//! the bytes, 32 in each slot, the last one filled up with zeros. They are written once. The public key for encryption is kept in the same form at
//! slot 0 of [`FHELIB`]. Source: interfaces of the 0.6 generation, section 2.4, layout A.
//!
//! Nodes write by these rules and light clients prove by them, so both take them from here.

use alloy_primitives::{Address, B256, U256, address};

use crate::{fhe_type::FheType, handle::Handle};

/// The account whose storage holds the ciphertexts.
pub const STORAGE_ACCOUNT: Address = address!("000000000000000000000000000000000000005e");

/// The precompiled contract for reading ciphertexts and the public key; its own storage holds the key.
pub const FHELIB: Address = address!("000000000000000000000000000000000000005d");

/// The slot of [`FHELIB`] at which the public key begins.
pub const PUBLIC_KEY_SLOT: B256 = B256::ZERO;

/// The most bytes at one place: no ciphertext and no public key is nearly as long.
pub const MAX_STORED_BYTES: u64 = 4 << 20;

/// The first word of something in storage: what it is, and how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredMetadata {
    /// The number of the encrypted type ([`FheType::id`]); of a public key, zero.
    pub kind: u64,
    /// How many bytes there are; at least 1, at most [`MAX_STORED_BYTES`].
    pub length: u64,
}

/// Words of storage are not what a chain writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoredError {
    /// The first word has something where zeros must be.
    #[error("the first word is no metadata")]
    NotMetadata,
    /// It says that there are too many bytes, or none.
    #[error("it says that {0} bytes are stored; 1 to {MAX_STORED_BYTES} can be")]
    Length(u64),
    /// It has another type than the handle.
    #[error("what is stored has type number {stored}, its handle {handle}")]
    Type {
        /// The number in storage.
        stored: u64,
        /// The number in the handle.
        handle: u8,
    },
    /// There are more or fewer words than the length needs.
    #[error("{found} words were given where {needed} hold the bytes")]
    Words {
        /// How many the length needs.
        needed: u64,
        /// How many there are.
        found: usize,
    },
    /// The last word goes on where only zeros can be.
    #[error("the last word does not end in zeros")]
    Padding,
}

impl StoredMetadata {
    /// Describes the bytes of a ciphertext.
    ///
    /// # Errors
    /// [`StoredError::Length`] if there are none or too many.
    pub fn of_ciphertext(ty: FheType, bytes: &[u8]) -> Result<Self, StoredError> {
        Self::new(u64::from(ty.id()), u64::try_from(bytes.len()).unwrap_or(u64::MAX))
    }

    /// Describes the bytes of a public key.
    ///
    /// # Errors
    /// As [`Self::of_ciphertext`].
    pub fn of_public_key(bytes: &[u8]) -> Result<Self, StoredError> {
        Self::new(0, u64::try_from(bytes.len()).unwrap_or(u64::MAX))
    }

    const fn new(kind: u64, length: u64) -> Result<Self, StoredError> {
        match length {
            1..=MAX_STORED_BYTES => Ok(Self { kind, length }),
            _ => Err(StoredError::Length(length)),
        }
    }

    /// Writes the word: 16 bytes of zeros, the type's number, the length.
    #[must_use]
    pub fn encode(self) -> U256 {
        U256::from_limbs([self.length, self.kind, 0, 0])
    }

    /// Reads the word; `None` if it is zero, which is how nothing is stored.
    ///
    /// # Errors
    /// [`StoredError::NotMetadata`] and [`StoredError::Length`].
    pub fn decode(word: U256) -> Result<Option<Self>, StoredError> {
        match *word.as_limbs() {
            [0, 0, 0, 0] => Ok(None),
            [length, kind, 0, 0] => Self::new(kind, length).map(Some),
            _ => Err(StoredError::NotMetadata),
        }
    }

    /// Reads the word at a handle's slot; the type must be the handle's.
    ///
    /// # Errors
    /// As [`Self::decode`], and [`StoredError::Type`].
    pub fn decode_for(handle: Handle, word: U256) -> Result<Option<Self>, StoredError> {
        let Some(found) = Self::decode(word)? else {
            return Ok(None);
        };
        let expected = handle.fhe_type().id();
        if found.kind != u64::from(expected) {
            return Err(StoredError::Type {
                stored: found.kind,
                handle: expected,
            });
        }
        Ok(Some(found))
    }

    /// Returns how many words hold the bytes.
    #[must_use]
    pub const fn words(self) -> u64 {
        self.length.div_ceil(32)
    }
}

/// Returns the slot of a word of the bytes that begin after a slot. Slots are counted modulo 2^256.
#[must_use]
pub fn word_slot(base: B256, index: u64) -> B256 {
    let first = U256::from_be_bytes(base.0).wrapping_add(U256::ONE);
    B256::from(first.wrapping_add(U256::from(index)))
}

/// Cuts bytes into words, in order; the last one is filled up with zeros on the right.
pub fn words_of(bytes: &[u8]) -> impl Iterator<Item = U256> + '_ {
    bytes.chunks(32).map(|chunk| {
        let mut word = [0; 32];
        for (to, from) in word.iter_mut().zip(chunk) {
            *to = *from;
        }
        U256::from_be_bytes(word)
    })
}

/// Puts words together to the bytes they hold.
///
/// # Errors
/// [`StoredError::Words`] if there are more or fewer than there must be, [`StoredError::Padding`] if something follows the bytes.
pub fn bytes_of(metadata: StoredMetadata, words: &[U256]) -> Result<Vec<u8>, StoredError> {
    let needed = metadata.words();
    if u64::try_from(words.len()) != Ok(needed) {
        let found = words.len();
        return Err(StoredError::Words { needed, found });
    }
    let mut bytes: Vec<u8> = words.iter().flat_map(U256::to_be_bytes::<32>).collect();
    let length = usize::try_from(metadata.length).map_err(|_| StoredError::Length(metadata.length))?;
    if bytes.iter().skip(length).any(|byte| *byte != 0) {
        return Err(StoredError::Padding);
    }
    bytes.truncate(length);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use alloy_primitives::uint;

    use super::*;

    #[test]
    fn metadata_have_the_type_before_the_length() {
        let metadata = StoredMetadata::of_ciphertext(FheType::Uint64, &[7; 300]).unwrap();
        assert_eq!(metadata.encode(), uint!(0x0000000000000005000000000000012c_U256));
        assert_eq!(StoredMetadata::decode(metadata.encode()), Ok(Some(metadata)));
        assert_eq!(StoredMetadata::decode(U256::ZERO), Ok(None));
        assert_eq!(metadata.words(), 10);
    }

    #[test]
    fn words_that_no_chain_writes_are_refused() {
        let top = U256::from(1) << 128;
        assert_eq!(StoredMetadata::decode(top), Err(StoredError::NotMetadata));
        // A type without bytes.
        assert_eq!(StoredMetadata::decode(U256::from(5) << 64), Err(StoredError::Length(0)));
        assert_eq!(
            StoredMetadata::decode(U256::from(MAX_STORED_BYTES + 1)),
            Err(StoredError::Length(MAX_STORED_BYTES + 1))
        );
        assert_eq!(StoredMetadata::of_ciphertext(FheType::Bool, &[]), Err(StoredError::Length(0)));
        let handle = Handle::computed(B256::repeat_byte(1), 31337, FheType::Uint64);
        let of_another = StoredMetadata::of_ciphertext(FheType::Uint32, &[1]).unwrap();
        assert_eq!(
            StoredMetadata::decode_for(handle, of_another.encode()),
            Err(StoredError::Type { stored: 4, handle: 5 })
        );
    }

    #[test]
    fn bytes_survive_and_nothing_can_hide_behind_them() {
        for length in [1usize, 31, 32, 33, 64, 100] {
            let bytes: Vec<u8> = (1..=length).map(|value| u8::try_from(value).unwrap()).collect();
            let metadata = StoredMetadata::of_ciphertext(FheType::Uint8, &bytes).unwrap();
            let mut words: Vec<U256> = words_of(&bytes).collect();
            assert_eq!(bytes_of(metadata, &words), Ok(bytes));
            if length % 32 != 0 {
                *words.last_mut().unwrap() |= U256::ONE;
                assert_eq!(bytes_of(metadata, &words), Err(StoredError::Padding));
            }
            words.push(U256::ZERO);
            assert!(matches!(bytes_of(metadata, &words), Err(StoredError::Words { .. })));
            assert!(matches!(bytes_of(metadata, &[]), Err(StoredError::Words { .. })));
        }
    }

    #[test]
    fn the_bytes_begin_after_the_slot_and_go_round() {
        assert_eq!(word_slot(B256::ZERO, 0), B256::with_last_byte(1));
        assert_eq!(word_slot(B256::with_last_byte(0xfe), 1), B256::from(U256::from(0x100)));
        assert_eq!(word_slot(B256::repeat_byte(0xff), 2), B256::with_last_byte(2));
    }
}
