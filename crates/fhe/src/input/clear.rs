//! Input lists of the clear backend: plaintext, with a digest where the real ones have a proof.
//!
//! `insecure-clear-list` ‖ version 1 ‖ key set id (32) ‖ nonce (16) ‖ count (1) ‖ count × (type (1) ‖ value (32, big-endian)) ‖
//! SHA3-256 of the metadata and all before. The nonce makes two lists of equal values differ, as encryption does.

use cipherloom_primitives::{
    FheType, U256,
    input::{InputMetadata, MAX_INPUT_VALUES},
};
use sha3::{Digest, Sha3_256};

use super::{check_list_size, check_types, check_values, malformed};
use crate::{
    backend::{EncryptInputs, VerifiedInput},
    ciphertext::{Ciphertext, Value},
    error::FheError,
    keys::{ClearKey, random_bytes},
};

const MAGIC: &[u8] = b"insecure-clear-list\x01";
const KEY_SET_BYTES: usize = 32;
const NONCE_BYTES: usize = 16;
const VALUE_BYTES: usize = 33;
const DIGEST_BYTES: usize = 32;

/// Encrypts nothing: writes the values as they are.
pub(super) struct ClearEncryptor {
    key: ClearKey,
}

impl ClearEncryptor {
    pub(super) const fn new(key: ClearKey) -> Self {
        Self { key }
    }
}

impl EncryptInputs for ClearEncryptor {
    fn encrypt(&self, values: &[(FheType, U256)], metadata: &InputMetadata) -> Result<Vec<u8>, FheError> {
        check_values(values)?;
        let count = u8::try_from(values.len()).map_err(|_| malformed("more than 255 values"))?;
        let mut list = [MAGIC, self.key.key_set().as_bytes(), &random_bytes::<NONCE_BYTES>()?, &[count]].concat();
        for (ty, value) in values {
            list.push(ty.id());
            list.extend_from_slice(&value.to_be_bytes::<32>());
        }
        let digest = digest(metadata, &list);
        list.extend_from_slice(&digest);
        Ok(list)
    }

    fn check(&self, list: &[u8], metadata: &InputMetadata) -> Result<Vec<FheType>, FheError> {
        clear_verify(&self.key, list, metadata).map(|verified| verified.types)
    }
}

/// Checks a list against the metadata, with the outcomes a real proof has.
pub(crate) fn clear_verify(key: &ClearKey, list: &[u8], metadata: &InputMetadata) -> Result<VerifiedInput, FheError> {
    let parsed = parse(key, list)?;
    let types = types_of(&parsed)?;
    if digest(metadata, parsed.signed) != *parsed.digest {
        return Err(FheError::InvalidProof);
    }
    Ok(VerifiedInput {
        types,
        list: list.to_vec(),
    })
}

/// Tells the types of a list with all checks short of the proof.
pub(crate) fn clear_types(key: &ClearKey, list: &[u8]) -> Result<Vec<FheType>, FheError> {
    types_of(&parse(key, list)?)
}

fn types_of(parsed: &Parsed<'_>) -> Result<Vec<FheType>, FheError> {
    let types: Vec<FheType> = parsed.values.iter().map(|(ty, _)| *ty).collect();
    check_types(&types)?;
    Ok(types)
}

/// Reads the values of a list that was verified before.
pub(crate) fn clear_expand(key: &ClearKey, list: &[u8]) -> Result<Vec<Ciphertext>, FheError> {
    let values = parse(key, list)?.values;
    Ok(values
        .into_iter()
        .map(|(ty, value)| Ciphertext {
            ty,
            value: Value::Clear(value),
        })
        .collect())
}

struct Parsed<'a> {
    values: Vec<(FheType, U256)>,
    signed: &'a [u8],
    digest: &'a [u8; DIGEST_BYTES],
}

fn parse<'a>(key: &ClearKey, list: &'a [u8]) -> Result<Parsed<'a>, FheError> {
    check_list_size(list)?;
    let truncated = || malformed("the list is truncated");
    let (signed, digest) = list.split_last_chunk::<DIGEST_BYTES>().ok_or_else(truncated)?;
    let rest = signed
        .strip_prefix(MAGIC)
        .ok_or_else(|| malformed("not a list of the clear backend"))?;
    let (key_set, rest) = rest.split_first_chunk::<KEY_SET_BYTES>().ok_or_else(truncated)?;
    if key_set != key.key_set().as_bytes() {
        return Err(malformed("the list is for another key set"));
    }
    let (_nonce, rest) = rest.split_first_chunk::<NONCE_BYTES>().ok_or_else(truncated)?;
    let (&count, values) = rest.split_first().ok_or_else(truncated)?;
    if usize::from(count) > MAX_INPUT_VALUES || values.len() != usize::from(count) * VALUE_BYTES {
        return Err(malformed("the list's length does not match its number of values"));
    }
    let values = values.chunks_exact(VALUE_BYTES).map(parse_value).collect::<Result<_, _>>()?;
    Ok(Parsed { values, signed, digest })
}

fn parse_value(bytes: &[u8]) -> Result<(FheType, U256), FheError> {
    let (&id, value) = bytes.split_first().ok_or_else(|| malformed("the list is truncated"))?;
    let ty = FheType::try_from(id).map_err(malformed)?;
    let value = U256::from_be_slice(value);
    if value > ty.max_value() {
        return Err(malformed(format!("a value does not fit {ty}")));
    }
    Ok((ty, value))
}

fn digest(metadata: &InputMetadata, signed: &[u8]) -> [u8; DIGEST_BYTES] {
    Sha3_256::new()
        .chain_update(metadata.to_bytes())
        .chain_update(signed)
        .finalize()
        .into()
}
