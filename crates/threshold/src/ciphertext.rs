//! Noise-squashed ciphertexts as plain numbers: what is decrypted, and what masks are bound to.
//!
//! A value of `bits` bits is a list of LWE ciphertexts modulo 2^128, each of which holds two blocks of two bits: 16 for 64 bits, 1 for a boolean. An LWE ciphertext is a mask
//! of `dimension` numbers and a body. Whoever holds a ciphertext in another encoding brings it into this form first, so that one ciphertext has one digest.

use sha2::{Digest, Sha256};

use crate::{codec::Reader, committee::Scope, error::ThresholdError, prss::expansion_tag, ring::DEGREE};

/// How many bits of plaintext an LWE ciphertext holds: two blocks of two.
pub const BITS_PER_LWE: u16 = 4;
/// How many blocks are packed into one LWE ciphertext, as answers to users name it.
pub const PACKING_FACTOR: u32 = 2;
/// The widest values there are.
pub const MAX_VALUE_BITS: u16 = 256;
/// The largest dimension accepted.
pub const MAX_DIMENSION: usize = 8192;
/// The dimension of squashed ciphertexts in the production parameters.
pub const SQUASHED_DIMENSION: usize = 4096;
/// The dimension of squashed ciphertexts taken out of a compressed list, in the production parameters.
pub const COMPRESSED_DIMENSION: usize = 6144;

/// Under which of the two shared secrets a ciphertext is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyKind {
    /// That of noise squashing itself.
    Squashed,
    /// That of the compression of squashed ciphertexts.
    Compressed,
}

/// How wide a value is, which says how many LWE ciphertexts it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ValueShape {
    bits: u16,
}

/// A squashed ciphertext of one value. Nothing in it is secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SquashedCiphertext {
    kind: KeyKind,
    shape: ValueShape,
    dimension: usize,
    /// For each LWE ciphertext its mask and its body.
    words: Vec<u128>,
    digest: [u8; 32],
}

/// What the masks of a decryption are derived from: a digest of the scope of the shares and of the ciphertext, and of nothing else. So the same ciphertext gets the same masks, and
/// partial decryptions of it are always the same; and no two ciphertexts ever share a mask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DecryptionTag(pub [u8; 32]);

impl KeyKind {
    /// Both kinds.
    pub const ALL: [Self; 2] = [Self::Squashed, Self::Compressed];

    /// Returns the number that encodings use.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Squashed => 0,
            Self::Compressed => 1,
        }
    }

    /// Finds the kind with this number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.number() == number)
    }

    /// Returns the dimension in the production parameters.
    #[must_use]
    pub const fn production_dimension(self) -> usize {
        match self {
            Self::Squashed => SQUASHED_DIMENSION,
            Self::Compressed => COMPRESSED_DIMENSION,
        }
    }
}

impl ValueShape {
    /// Makes the shape of values of this many bits; 1 is a boolean.
    ///
    /// # Errors
    /// [`ThresholdError::ValueBits`] unless there are 1 to 256.
    pub const fn new(bits: u16) -> Result<Self, ThresholdError> {
        if bits == 0 || bits > MAX_VALUE_BITS {
            return Err(ThresholdError::ValueBits(bits));
        }
        Ok(Self { bits })
    }

    /// Returns how many bits a value has.
    #[must_use]
    pub const fn bits(self) -> u16 {
        self.bits
    }

    /// Returns how many LWE ciphertexts a value has.
    #[must_use]
    pub const fn lwe_count(self) -> usize {
        self.bits.div_ceil(BITS_PER_LWE) as usize
    }

    /// Returns how many ring elements a partial decryption of it has.
    #[must_use]
    pub const fn element_count(self) -> usize {
        self.lwe_count().div_ceil(DEGREE)
    }
}

impl SquashedCiphertext {
    /// Makes a ciphertext from numbers: for each LWE ciphertext its mask of `dimension` numbers, then its body.
    ///
    /// # Errors
    /// [`ThresholdError::Ciphertext`] if the dimension is out of bounds or there are not exactly as many numbers as shape and dimension say.
    pub fn new(kind: KeyKind, shape: ValueShape, dimension: usize, words: Vec<u128>) -> Result<Self, ThresholdError> {
        if !(1..=MAX_DIMENSION).contains(&dimension) {
            return Err(ThresholdError::Ciphertext("its dimension is out of bounds"));
        }
        if words.len() != shape.lwe_count() * (dimension + 1) {
            return Err(ThresholdError::Ciphertext("it does not have as many numbers as its type needs"));
        }
        let digest = digest(kind, shape, dimension, &words);
        Ok(Self {
            kind,
            shape,
            dimension,
            words,
            digest,
        })
    }

    /// Returns under which secret it is.
    #[must_use]
    pub const fn kind(&self) -> KeyKind {
        self.kind
    }

    /// Returns how wide its value is.
    #[must_use]
    pub const fn shape(&self) -> ValueShape {
        self.shape
    }

    /// Returns how many numbers a mask has.
    #[must_use]
    pub const fn dimension(&self) -> usize {
        self.dimension
    }

    /// Returns the digest over kind, shape, dimension and all numbers.
    #[must_use]
    pub const fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// Returns mask and body of each LWE ciphertext.
    pub(crate) fn lwes(&self) -> impl Iterator<Item = (&[u128], u128)> {
        let chunks = self.words.chunks_exact(self.dimension + 1);
        chunks.filter_map(|lwe| lwe.split_last().map(|(body, mask)| (mask, *body)))
    }

    /// Returns the tag its masks have in a scope.
    #[must_use]
    pub fn tag(&self, scope: &Scope) -> DecryptionTag {
        DecryptionTag(expansion_tag(scope, b"decryption", &[&[self.kind.number()], &self.digest]))
    }

    /// Writes kind, bits, dimension and numbers.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(7 + 16 * self.words.len());
        out.extend_from_slice(&header(self.kind, self.shape, self.dimension));
        self.words.iter().for_each(|word| out.extend_from_slice(&word.to_le_bytes()));
        out
    }

    /// Reads a ciphertext.
    ///
    /// # Errors
    /// [`ThresholdError::Malformed`] or [`ThresholdError::Ciphertext`] says what is wrong.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ThresholdError> {
        let mut reader = Reader::new(bytes, "squashed ciphertext");
        let kind = KeyKind::from_number(reader.byte()?).ok_or_else(|| reader.malformed("there is no such kind of key"))?;
        let shape = ValueShape::new(reader.u16()?)?;
        let dimension = reader.count(MAX_DIMENSION)?;
        // Taken before anything is allocated; at most 64 ciphertexts of 8193 numbers.
        let words = reader.take(16 * shape.lwe_count() * (dimension + 1))?;
        reader.finish()?;
        let words = words.as_chunks::<16>().0.iter().map(|word| u128::from_le_bytes(*word)).collect();
        Self::new(kind, shape, dimension, words)
    }
}

fn header(kind: KeyKind, shape: ValueShape, dimension: usize) -> [u8; 7] {
    let [bits0, bits1] = shape.bits.to_le_bytes();
    let [d0, d1, d2, d3] = u32::try_from(dimension).unwrap_or(u32::MAX).to_le_bytes();
    [kind.number(), bits0, bits1, d0, d1, d2, d3]
}

fn digest(kind: KeyKind, shape: ValueShape, dimension: usize, words: &[u128]) -> [u8; 32] {
    let mut hasher = Sha256::new()
        .chain_update(b"cipherloom/threshold/ciphertext/1")
        .chain_update(header(kind, shape, dimension));
    let mut buffer = [0u8; 4096];
    for words in words.chunks(256) {
        let (bytes, _) = buffer.split_at_mut(16 * words.len());
        for (chunk, word) in bytes.as_chunks_mut::<16>().0.iter_mut().zip(words) {
            *chunk = word.to_le_bytes();
        }
        hasher.update(bytes);
    }
    hasher.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_have_the_block_counts_of_the_public_protocol() {
        let counts = [(1, 1), (4, 1), (8, 2), (16, 4), (32, 8), (64, 16), (128, 32), (160, 40), (256, 64)];
        for (bits, lwes) in counts {
            assert_eq!(ValueShape::new(bits).unwrap().lwe_count(), lwes, "{bits}");
        }
        assert_eq!(ValueShape::new(64).unwrap().element_count(), 4);
        assert_eq!(ValueShape::new(160).unwrap().element_count(), 10);
        assert!(ValueShape::new(0).is_err() && ValueShape::new(257).is_err());
    }

    #[test]
    fn numbers_must_be_as_many_as_the_type_needs() {
        let shape = ValueShape::new(8).unwrap();
        let make = |dimension, count| SquashedCiphertext::new(KeyKind::Squashed, shape, dimension, vec![0; count]);
        assert!(make(3, 8).is_ok());
        for (dimension, count) in [(3, 7), (3, 9), (3, 0), (0, 2), (8193, 2 * 8194)] {
            assert!(matches!(make(dimension, count), Err(ThresholdError::Ciphertext(_))));
        }
    }

    #[test]
    fn the_digest_depends_on_everything() {
        let shape = ValueShape::new(8).unwrap();
        let make = |kind, bits, dimension, words: &[u128]| {
            SquashedCiphertext::new(kind, ValueShape::new(bits).unwrap(), dimension, words.to_vec())
                .unwrap()
                .digest()
        };
        let one = make(KeyKind::Squashed, 8, 3, &[1, 2, 3, 4, 5, 6, 7, 8]);
        let others = [
            make(KeyKind::Compressed, 8, 3, &[1, 2, 3, 4, 5, 6, 7, 8]),
            make(KeyKind::Squashed, 7, 3, &[1, 2, 3, 4, 5, 6, 7, 8]),
            make(KeyKind::Squashed, 4, 7, &[1, 2, 3, 4, 5, 6, 7, 8]),
            make(KeyKind::Squashed, 8, 3, &[1, 2, 3, 4, 5, 6, 7, 9]),
        ];
        assert!(others.iter().all(|other| *other != one));
        assert_eq!(shape.lwe_count(), 2);
    }
}
