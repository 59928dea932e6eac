//! The raw form: all blocks as they are.
//!
//! A CPU value is its blocks, least significant first: degree (the largest plaintext the block can hold, one byte), noise level (0
//! trivial, 1 nominal, one byte), then mask and body as little-endian 64-bit words. A clear value is 32 big-endian bytes.

use cipherloom_primitives::{CiphertextForm, FheType};
use tfhe::{
    integer::{BooleanBlock, IntegerCiphertext, RadixCiphertext},
    shortint::{Ciphertext as Block, parameters::NoiseLevel},
};

use super::{CLEAR, CPU, StoredFormat, block_count, body_of, clear_value, expect_length, header, largest_digit, malformed};
use crate::{
    ciphertext::{Ciphertext, Value},
    error::FheError,
    keys::ClearKey,
};

const CLEAR_VALUE_BYTES: usize = 32;
const WORD_BYTES: usize = 8;
/// Degree and noise level.
const BLOCK_HEADER_BYTES: usize = 2;

/// Writes a ciphertext of the clear backend.
pub(crate) fn clear_serialize(key: &ClearKey, ciphertext: &Ciphertext) -> Result<Vec<u8>, FheError> {
    let Value::Clear(value) = &ciphertext.value else {
        return Err(FheError::ForeignCiphertext);
    };
    let mut bytes = header(CLEAR, ciphertext.ty, CiphertextForm::Raw, &key.key_set());
    bytes.extend_from_slice(&value.to_be_bytes::<CLEAR_VALUE_BYTES>());
    Ok(bytes)
}

/// Reads a ciphertext of the clear backend.
pub(crate) fn clear_deserialize(key: &ClearKey, ty: FheType, bytes: &[u8]) -> Result<Ciphertext, FheError> {
    let body = body_of(CLEAR, ty, CiphertextForm::Raw, &key.key_set(), bytes)?;
    clear_value(ty, body, CLEAR_VALUE_BYTES)
}

impl StoredFormat {
    /// Returns the length of a block's stored form.
    fn block_bytes(&self) -> usize {
        BLOCK_HEADER_BYTES + WORD_BYTES * self.shape.lwe_size.0
    }

    pub(crate) fn write(&self, ciphertext: &Ciphertext) -> Result<Vec<u8>, FheError> {
        let ty = ciphertext.ty;
        let blocks = self.clean_blocks(ciphertext)?;
        let mut bytes = header(CPU, ty, CiphertextForm::Raw, &self.key_set);
        bytes.reserve_exact(blocks.len() * self.block_bytes());
        for block in blocks {
            bytes.extend_from_slice(&[degree(block), noise(block)]);
            let words: &[u64] = block.ct.as_ref();
            words.iter().for_each(|word| bytes.extend_from_slice(&word.to_le_bytes()));
        }
        Ok(bytes)
    }

    /// Returns the blocks of a ciphertext of this key set's shape, which is in the state that everything stored is in.
    pub(crate) fn clean_blocks<'a>(&self, ciphertext: &'a Ciphertext) -> Result<&'a [Block], FheError> {
        let ty = ciphertext.ty;
        let blocks = match &ciphertext.value {
            Value::Clear(_) => return Err(FheError::ForeignCiphertext),
            Value::Bool(bit) => std::slice::from_ref(bit.as_ref()),
            Value::Radix(radix) => radix.blocks(),
        };
        if blocks.len() != block_count(ty) {
            return Err(malformed(ty, format!("has {} blocks", blocks.len())));
        }
        for block in blocks {
            self.check_block(ty, degree(block), noise(block), block.ct.as_ref())?;
        }
        Ok(blocks)
    }

    pub(crate) fn read(&self, ty: FheType, bytes: &[u8]) -> Result<Ciphertext, FheError> {
        let body = body_of(CPU, ty, CiphertextForm::Raw, &self.key_set, bytes)?;
        expect_length(ty, body, block_count(ty) * self.block_bytes())?;
        let blocks = body
            .chunks_exact(self.block_bytes())
            .map(|block| self.read_block(ty, block))
            .collect::<Result<Vec<_>, _>>()?;
        from_blocks(ty, blocks)
    }

    fn read_block(&self, ty: FheType, bytes: &[u8]) -> Result<Block, FheError> {
        let (&[degree, noise], words) = bytes.split_first_chunk().ok_or_else(|| malformed(ty, "is truncated"))?;
        let (words, _) = words.as_chunks::<WORD_BYTES>();
        let words: Vec<u64> = words.iter().map(|word| u64::from_le_bytes(*word)).collect();
        self.check_block(ty, degree, noise, &words)?;
        let noise = if noise == 0 { NoiseLevel::ZERO } else { NoiseLevel::NOMINAL };
        Ok(self.shape.block(words, degree, noise))
    }

    /// Checks what every operation relies on: no carry, nominal noise, and no noise only where nothing is encrypted.
    fn check_block(&self, ty: FheType, degree: u8, noise: u8, words: &[u64]) -> Result<(), FheError> {
        if words.len() != self.shape.lwe_size.0 {
            return Err(malformed(ty, "has a block of another size"));
        }
        if degree > largest_digit(ty) {
            return Err(malformed(ty, format!("has a block of degree {degree}")));
        }
        let mask = words.split_last().map_or(&[][..], |(_, mask)| mask);
        match noise {
            0 if mask.iter().all(|word| *word == 0) => Ok(()),
            1 => Ok(()),
            _ => Err(malformed(ty, format!("has a block of noise level {noise}"))),
        }
    }
}

/// Puts blocks together to a ciphertext of this type.
pub(crate) fn from_blocks(ty: FheType, mut blocks: Vec<Block>) -> Result<Ciphertext, FheError> {
    if blocks.len() != block_count(ty) {
        return Err(malformed(ty, format!("has {} blocks", blocks.len())));
    }
    let value = match (ty, blocks.pop()) {
        (FheType::Bool, Some(bit)) => Value::Bool(BooleanBlock::new_unchecked(bit)),
        (_, last) => {
            blocks.extend(last);
            Value::Radix(RadixCiphertext::from_blocks(blocks))
        }
    };
    Ok(Ciphertext { ty, value })
}

fn degree(block: &Block) -> u8 {
    u8::try_from(block.degree.get()).unwrap_or(u8::MAX)
}

fn noise(block: &Block) -> u8 {
    u8::try_from(block.noise_level().get()).unwrap_or(u8::MAX)
}
