//! The stored form of ciphertexts: a header of 16 bytes and the raw value, with one encoding per value.
//!
//! | bytes | header field |
//! |---|---|
//! | 0–3 | `CLCT` |
//! | 4 | version, 1 |
//! | 5 | backend: 1 CPU, 2 clear |
//! | 6 | type number of the public protocol |
//! | 7 | 0 |
//! | 8–15 | first bytes of the key set's id |
//!
//! A CPU value follows as its blocks, least significant first: degree (the largest plaintext the block can hold, one byte),
//! noise level (0 trivial, 1 nominal, one byte), then mask and body as little-endian 64-bit words. A clear value follows as
//! 32 big-endian bytes. Every length follows from type and parameters, so that a reader compares one number before it
//! allocates, and nothing in the bytes can make it allocate more.

use cipherloom_primitives::{FheType, U256};
use tfhe::{
    core_crypto::prelude::LweCiphertext,
    integer::{BooleanBlock, IntegerCiphertext, RadixCiphertext},
    shortint::{
        Ciphertext as Block,
        parameters::{Degree, NoiseLevel},
    },
};

use crate::{
    ciphertext::{Ciphertext, Value},
    error::FheError,
    keys::{ClearKey, EvaluationKeys, KeySetId},
    parameters::BlockShape,
};

const MAGIC: &[u8; 4] = b"CLCT";
const VERSION: u8 = 1;
const CPU: u8 = 1;
const CLEAR: u8 = 2;
const HEADER_BYTES: usize = 16;
const KEY_SET_PREFIX_BYTES: usize = 8;
const CLEAR_VALUE_BYTES: usize = 32;
const WORD_BYTES: usize = 8;
/// Degree and noise level.
const BLOCK_HEADER_BYTES: usize = 2;
/// How many bits of plaintext a block holds in every parameter set.
const BITS_PER_BLOCK: u32 = 2;

/// How ciphertexts of one CPU key set are stored.
#[derive(Clone, Copy)]
pub(crate) struct StoredFormat {
    pub(crate) shape: BlockShape,
    pub(crate) key_set: KeySetId,
}

/// Writes a CPU ciphertext.
pub(crate) fn cpu_serialize(keys: &EvaluationKeys, ciphertext: &Ciphertext) -> Result<Vec<u8>, FheError> {
    keys.stored.write(ciphertext)
}

/// Reads a CPU ciphertext of this type.
pub(crate) fn cpu_deserialize(keys: &EvaluationKeys, ty: FheType, bytes: &[u8]) -> Result<Ciphertext, FheError> {
    keys.stored.read(ty, bytes)
}

/// Writes a ciphertext of the clear backend.
pub(crate) fn clear_serialize(key: &ClearKey, ciphertext: &Ciphertext) -> Result<Vec<u8>, FheError> {
    let Value::Clear(value) = &ciphertext.value else {
        return Err(FheError::ForeignCiphertext);
    };
    let mut bytes = header(CLEAR, ciphertext.ty, &key.key_set());
    bytes.extend_from_slice(&value.to_be_bytes::<CLEAR_VALUE_BYTES>());
    Ok(bytes)
}

/// Reads a ciphertext of the clear backend.
pub(crate) fn clear_deserialize(key: &ClearKey, ty: FheType, bytes: &[u8]) -> Result<Ciphertext, FheError> {
    let body = body_of(CLEAR, ty, &key.key_set(), bytes, CLEAR_VALUE_BYTES)?;
    let value = U256::from_be_slice(body);
    if value > ty.max_value() {
        return Err(malformed(ty, "the value does not fit the type"));
    }
    Ok(Ciphertext {
        ty,
        value: Value::Clear(value),
    })
}

impl StoredFormat {
    /// Returns the length of a block's stored form.
    fn block_bytes(&self) -> usize {
        BLOCK_HEADER_BYTES + WORD_BYTES * self.shape.lwe_size.0
    }

    pub(crate) fn write(&self, ciphertext: &Ciphertext) -> Result<Vec<u8>, FheError> {
        let ty = ciphertext.ty;
        let blocks = match &ciphertext.value {
            Value::Clear(_) => return Err(FheError::ForeignCiphertext),
            Value::Bool(bit) => std::slice::from_ref(bit.as_ref()),
            Value::Radix(radix) => radix.blocks(),
        };
        if blocks.len() != block_count(ty) {
            return Err(malformed(ty, format!("has {} blocks", blocks.len())));
        }
        let mut bytes = header(CPU, ty, &self.key_set);
        bytes.reserve_exact(blocks.len() * self.block_bytes());
        for block in blocks {
            self.write_block(ty, block, &mut bytes)?;
        }
        Ok(bytes)
    }

    fn write_block(&self, ty: FheType, block: &Block, bytes: &mut Vec<u8>) -> Result<(), FheError> {
        let words: &[u64] = block.ct.as_ref();
        let degree = u8::try_from(block.degree.get()).unwrap_or(u8::MAX);
        let noise = u8::try_from(block.noise_level().get()).unwrap_or(u8::MAX);
        self.check_block(ty, degree, noise, words)?;
        bytes.extend_from_slice(&[degree, noise]);
        words.iter().for_each(|word| bytes.extend_from_slice(&word.to_le_bytes()));
        Ok(())
    }

    pub(crate) fn read(&self, ty: FheType, bytes: &[u8]) -> Result<Ciphertext, FheError> {
        let body = body_of(CPU, ty, &self.key_set, bytes, block_count(ty) * self.block_bytes())?;
        let mut blocks = body
            .chunks_exact(self.block_bytes())
            .map(|block| self.read_block(ty, block))
            .collect::<Result<Vec<_>, _>>()?;
        let value = match ty {
            FheType::Bool => Value::Bool(BooleanBlock::new_unchecked(
                blocks.pop().ok_or_else(|| malformed(ty, "has no block"))?,
            )),
            _ => Value::Radix(RadixCiphertext::from_blocks(blocks)),
        };
        Ok(Ciphertext { ty, value })
    }

    fn read_block(&self, ty: FheType, bytes: &[u8]) -> Result<Block, FheError> {
        let (&[degree, noise], words) = bytes.split_first_chunk().ok_or_else(|| malformed(ty, "is truncated"))?;
        let (words, _) = words.as_chunks::<WORD_BYTES>();
        let words: Vec<u64> = words.iter().map(|word| u64::from_le_bytes(*word)).collect();
        self.check_block(ty, degree, noise, &words)?;
        let noise = if noise == 0 { NoiseLevel::ZERO } else { NoiseLevel::NOMINAL };
        let shape = &self.shape;
        Ok(Block::new(
            LweCiphertext::from_container(words, shape.ciphertext_modulus),
            Degree::new(u64::from(degree)),
            noise,
            shape.message_modulus,
            shape.carry_modulus,
            shape.atomic_pattern,
        ))
    }

    /// Checks what every operation relies on: no carry, nominal noise, and no noise only where nothing is encrypted.
    fn check_block(&self, ty: FheType, degree: u8, noise: u8, words: &[u64]) -> Result<(), FheError> {
        if words.len() != self.shape.lwe_size.0 {
            return Err(malformed(ty, "has a block of another size"));
        }
        let largest = if ty == FheType::Bool { 1 } else { self.shape.message_modulus.0 - 1 };
        if u64::from(degree) > largest {
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

/// Returns how many blocks a value of this type has.
pub(crate) fn block_count(ty: FheType) -> usize {
    ty.bits().div_ceil(BITS_PER_BLOCK) as usize
}

fn header(backend: u8, ty: FheType, key_set: &KeySetId) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES + CLEAR_VALUE_BYTES);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&[VERSION, backend, ty.id(), 0]);
    bytes.extend_from_slice(prefix(key_set));
    bytes
}

fn prefix(key_set: &KeySetId) -> &[u8] {
    key_set.as_bytes().get(..KEY_SET_PREFIX_BYTES).unwrap_or_default()
}

/// Checks header and length, and returns what follows the header.
fn body_of<'a>(backend: u8, ty: FheType, key_set: &KeySetId, bytes: &'a [u8], body_bytes: usize) -> Result<&'a [u8], FheError> {
    let (header, body) = bytes
        .split_first_chunk::<HEADER_BYTES>()
        .ok_or_else(|| malformed(ty, "is shorter than its header"))?;
    let (magic, rest) = header.split_at(MAGIC.len());
    let (fields, found_key_set) = rest.split_at(4);
    if magic != MAGIC || fields.first() != Some(&VERSION) {
        return Err(malformed(ty, "is not a stored ciphertext of version 1"));
    }
    if fields.get(1) != Some(&backend) {
        return Err(malformed(ty, "belongs to another backend"));
    }
    if fields.get(2..) != Some(&[ty.id(), 0]) {
        return Err(malformed(ty, "has another type"));
    }
    if found_key_set != prefix(key_set) {
        return Err(malformed(ty, "belongs to another key set"));
    }
    if body.len() != body_bytes {
        return Err(malformed(
            ty,
            format!("has {} bytes after the header instead of {body_bytes}", body.len()),
        ));
    }
    Ok(body)
}

fn malformed(ty: FheType, reason: impl Into<String>) -> FheError {
    FheError::MalformedCiphertext { ty, reason: reason.into() }
}
