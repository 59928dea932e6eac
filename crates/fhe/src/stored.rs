//! The stored forms of ciphertexts: a header of 16 bytes and the value, with one encoding per value and form.
//!
//! | bytes | header field |
//! |---|---|
//! | 0–3 | `CLCT` |
//! | 4 | version, 1 |
//! | 5 | backend: 1 CPU, 2 clear |
//! | 6 | type number of the public protocol |
//! | 7 | form: 0 raw, 1 packed |
//! | 8–15 | first bytes of the key set's id |
//!
//! What follows is described at [`raw`] and [`packed`], and for everyone in `spec/boundary.md`. Every length follows from type and
//! parameters, and in a packed form from at most 128 bytes that come first, so that a reader compares one number before it allocates,
//! and nothing in the bytes can make it allocate more.

mod packed;
mod raw;

use cipherloom_primitives::{CiphertextForm, FheType, U256};

pub(crate) use self::{
    packed::{PackedBlock, PackedShape, PackedValue, clear_pack, clear_unpack},
    raw::{clear_deserialize, clear_serialize, from_blocks},
};
use crate::{
    ciphertext::{Ciphertext, Value},
    error::FheError,
    keys::KeySetId,
    parameters::BlockShape,
};

const MAGIC: &[u8; 4] = b"CLCT";
const VERSION: u8 = 1;
const CPU: u8 = 1;
const CLEAR: u8 = 2;
const HEADER_BYTES: usize = 16;
const KEY_SET_PREFIX_BYTES: usize = 8;
/// How many bits of plaintext a block holds in every parameter set.
const BITS_PER_BLOCK: u32 = 2;

/// How ciphertexts of one CPU key set are stored.
#[derive(Clone, Copy)]
pub(crate) struct StoredFormat {
    pub(crate) shape: BlockShape,
    pub(crate) packed: PackedShape,
    pub(crate) key_set: KeySetId,
}

/// Says which form these bytes claim to be, from their header alone; `None` if they are no stored ciphertext.
#[must_use]
pub fn form_of(bytes: &[u8]) -> Option<CiphertextForm> {
    match bytes.first_chunk::<HEADER_BYTES>()? {
        [b'C', b'L', b'C', b'T', VERSION, _, _, RAW, ..] => Some(CiphertextForm::Raw),
        [b'C', b'L', b'C', b'T', VERSION, _, _, PACKED, ..] => Some(CiphertextForm::Packed),
        _ => None,
    }
}

const RAW: u8 = 0;
const PACKED: u8 = 1;

const fn form_byte(form: CiphertextForm) -> u8 {
    match form {
        CiphertextForm::Raw => RAW,
        CiphertextForm::Packed => PACKED,
    }
}

/// Returns how many blocks a value of this type has.
pub(crate) fn block_count(ty: FheType) -> usize {
    ty.bits().div_ceil(BITS_PER_BLOCK) as usize
}

/// Returns the largest plaintext of a block without carry.
const fn largest_digit(ty: FheType) -> u8 {
    if matches!(ty, FheType::Bool) {
        1
    } else {
        (1 << BITS_PER_BLOCK) - 1
    }
}

fn header(backend: u8, ty: FheType, form: CiphertextForm, key_set: &KeySetId) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&[VERSION, backend, ty.id(), form_byte(form)]);
    bytes.extend_from_slice(prefix(key_set));
    bytes
}

fn prefix(key_set: &KeySetId) -> &[u8] {
    key_set.as_bytes().get(..KEY_SET_PREFIX_BYTES).unwrap_or_default()
}

/// Checks the header and returns what follows it.
fn body_of<'a>(backend: u8, ty: FheType, form: CiphertextForm, key_set: &KeySetId, bytes: &'a [u8]) -> Result<&'a [u8], FheError> {
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
    if fields.get(2) != Some(&ty.id()) {
        return Err(malformed(ty, "has another type"));
    }
    if fields.get(3) != Some(&form_byte(form)) {
        return Err(malformed(ty, format!("is not in {form} form")));
    }
    if found_key_set != prefix(key_set) {
        return Err(malformed(ty, "belongs to another key set"));
    }
    Ok(body)
}

/// Checks the length of what follows a header.
fn expect_length(ty: FheType, body: &[u8], expected: usize) -> Result<(), FheError> {
    if body.len() == expected {
        Ok(())
    } else {
        Err(malformed(
            ty,
            format!("has {} bytes after the header instead of {expected}", body.len()),
        ))
    }
}

/// Reads a clear value of this many big-endian bytes.
fn clear_value(ty: FheType, body: &[u8], length: usize) -> Result<Ciphertext, FheError> {
    expect_length(ty, body, length)?;
    let value = U256::from_be_slice(body);
    if value > ty.max_value() {
        return Err(malformed(ty, "the value does not fit the type"));
    }
    Ok(Ciphertext {
        ty,
        value: Value::Clear(value),
    })
}

pub(crate) fn malformed(ty: FheType, reason: impl Into<String>) -> FheError {
    FheError::MalformedCiphertext { ty, reason: reason.into() }
}
