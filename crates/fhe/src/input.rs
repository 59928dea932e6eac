//! Input lists: encrypted values with a proof, made by clients and admitted by coprocessors.
//!
//! A list of the CPU backend is exactly what existing clients send (public protocol, section 5.1): the safe-serialized
//! `ProvenCompactCiphertextList` of tfhe's high-level interface, packed, with the proof bound to
//! [`InputMetadata::to_bytes`](cipherloom_primitives::input::InputMetadata::to_bytes). A list of the clear backend has a format of
//! its own, with the same limits and the same refusals.

mod clear;
mod cpu;
mod generation_0_6;

use cipherloom_primitives::{
    FheType, U256,
    input::{MAX_INPUT_BITS, MAX_INPUT_LIST_BYTES, MAX_INPUT_VALUES},
};

pub(crate) use self::{
    clear::{clear_expand, clear_types, clear_verify},
    cpu::{InputKeys, cpu_encrypt, cpu_verify, write_public_key},
    generation_0_6::{write_crs_0_6, write_public_key_0_6},
};
use crate::{
    backend::EncryptInputs,
    error::FheError,
    keys::{ClearKey, KeySetId},
    parameters::ParameterSet,
};

/// Makes an encryptor from key material of unknown origin, such as a gateway serves. Which backend it belongs to follows from
/// the bytes. Every point of the reference string is checked, which takes seconds of CPU with real parameters; who knows the
/// key set's id uses [`encryptor_for_key_set`].
///
/// # Errors
/// [`FheError::KeyMaterial`] if the bytes are not a public key and a reference string of one known parameter set.
pub fn encryptor_from_bytes(public_key: &[u8], crs: &[u8]) -> Result<Box<dyn EncryptInputs>, FheError> {
    if ClearKey::is_public_key(public_key) {
        return Ok(Box::new(clear::ClearEncryptor::new(ClearKey::from_public(public_key, crs)?)));
    }
    Ok(Box::new(cpu::CpuEncryptor::new(InputKeys::read_foreign(public_key, crs)?)))
}

/// Says which parameter set a public key is of, so that a client can refuse to encrypt to an insecure one: the encryptor of an
/// insecure key set leaves plaintext in the open.
///
/// # Errors
/// [`FheError::KeyMaterial`] if the bytes are not a public key of a known parameter set.
pub fn parameters_of_public_key(public_key: &[u8]) -> Result<ParameterSet, FheError> {
    if ClearKey::is_public_key(public_key) {
        Ok(ParameterSet::InsecureClear)
    } else {
        cpu::parameters_of(public_key)
    }
}

/// Makes an encryptor for one key set. The id is a digest of the material, so that it takes the place of the lengthy checks.
///
/// # Errors
/// [`FheError::KeyMaterial`] if the bytes are not the public key and the reference string of this key set.
pub fn encryptor_for_key_set(id: KeySetId, public_key: &[u8], crs: &[u8]) -> Result<Box<dyn EncryptInputs>, FheError> {
    if !ParameterSet::ALL
        .iter()
        .any(|parameters| KeySetId::of(*parameters, public_key, crs) == id)
    {
        return Err(FheError::key("public key or CRS", format!("is not that of key set {id}")));
    }
    if ClearKey::is_public_key(public_key) {
        return Ok(Box::new(clear::ClearEncryptor::new(ClearKey::from_public(public_key, crs)?)));
    }
    Ok(Box::new(cpu::CpuEncryptor::new(InputKeys::read_authentic(public_key, crs)?)))
}

/// Checks the limits of a list before anything is encrypted.
fn check_values(values: &[(FheType, U256)]) -> Result<(), FheError> {
    if values.is_empty() {
        return Err(malformed("there is nothing to encrypt"));
    }
    let bits = values.iter().fold(0u32, |bits, (ty, _)| bits.saturating_add(ty.request_bits()));
    if values.len() > MAX_INPUT_VALUES || bits > MAX_INPUT_BITS {
        return Err(FheError::TooManyInputs { count: values.len(), bits });
    }
    match values.iter().find(|(ty, value)| *value > ty.max_value()) {
        Some(&(ty, value)) => Err(FheError::ValueOutOfRange { value, ty }),
        None => Ok(()),
    }
}

/// Checks the size of a list before it is read.
fn check_list_size(list: &[u8]) -> Result<(), FheError> {
    if list.len() > MAX_INPUT_LIST_BYTES {
        return Err(malformed(format!(
            "{} bytes; at most {MAX_INPUT_LIST_BYTES} are accepted",
            list.len()
        )));
    }
    Ok(())
}

/// Checks the types of a received list.
fn check_types(types: &[FheType]) -> Result<(), FheError> {
    let bits = types.iter().fold(0u32, |bits, ty| bits.saturating_add(ty.request_bits()));
    if types.is_empty() {
        return Err(malformed("the list is empty"));
    }
    if types.len() > MAX_INPUT_VALUES || bits > MAX_INPUT_BITS {
        return Err(malformed(format!("{} values with {bits} bits are too many", types.len())));
    }
    Ok(())
}

pub(crate) fn malformed(reason: impl ToString) -> FheError {
    FheError::MalformedInput(reason.to_string())
}
