//! Packed lists of squashed values: four magic bytes, version, number of values, their type numbers, and the list as tfhe lays it out (bincode).
//!
//! tfhe's own encoding of such lists says nothing about parameters and is not checked when it is read, so lists have a header here, and what follows is checked
//! against the parameters before anything is taken out of it.

use bincode::Options;
use cipherloom_primitives::FheType;
use tfhe::{
    conformance::ParameterSetConformant,
    core_crypto::prelude::GlweCiphertextConformanceParams,
    shortint::{
        ciphertext::{CompressedSquashedNoiseCiphertextList, SquashedNoiseCiphertext},
        list_compression::NoiseSquashingCompressionKey,
        parameters::{CompressedSquashedNoiseCiphertextConformanceParams, noise_squashing::NoiseSquashingCompressionParameters},
    },
};

use super::{SquashedValue, numbers};
use crate::{
    error::FheError,
    parameters::ParameterSet,
    stored::{block_count, malformed},
};

const HEADER: [u8; 5] = *b"CLSQ\x01";
/// The most bytes accepted as a list: several times what 128 ciphertexts take.
const MAX_LIST_BYTES: u64 = 1 << 20;
/// How many squashed ciphertexts a list has room for.
pub(super) const MAX_LIST_CIPHERTEXTS: usize = 128;

/// Returns how many squashed ciphertexts a value of this type has.
pub(super) fn ciphertext_count(ty: FheType) -> usize {
    block_count(ty).div_ceil(2)
}

/// Checks that values of these types fill a list, at least one of them.
pub(super) fn check_types(types: &[FheType]) -> Result<(), FheError> {
    let count: usize = types.iter().map(|ty| ciphertext_count(*ty)).sum();
    if (1..=MAX_LIST_CIPHERTEXTS).contains(&count) {
        return Ok(());
    }
    let ty = types.first().copied().unwrap_or(FheType::Bool);
    Err(malformed(
        ty,
        format!("a list of {count} squashed ciphertexts; there can be 1 to {MAX_LIST_CIPHERTEXTS}"),
    ))
}

/// Packs the squashed ciphertexts of values of these types.
pub(super) fn write(
    key: &NoiseSquashingCompressionKey,
    types: &[FheType],
    ciphertexts: &[SquashedNoiseCiphertext],
) -> Result<Vec<u8>, FheError> {
    check_types(types)?;
    let list = key.compress_noise_squashed_ciphertexts_into_list(ciphertexts);
    let mut bytes = HEADER.to_vec();
    // At most 128 values, since each has a ciphertext.
    bytes.push(u8::try_from(types.len()).unwrap_or(u8::MAX));
    bytes.extend(types.iter().map(|ty| ty.id()));
    encoding()
        .serialize_into(&mut bytes, &list)
        .map_err(|reason| malformed(first(types), reason.to_string()))?;
    Ok(bytes)
}

impl SquashedValue {
    /// Takes the values of these types out of a packed list of a key set of these parameters. They are under the secret of lists. Needs no key.
    ///
    /// # Errors
    /// [`FheError::MalformedCiphertext`] if the bytes are no list of values of these types, [`FheError::KeyMaterial`] if the parameters have no noise squashing.
    pub fn from_list(parameters: ParameterSet, types: &[FheType], bytes: &[u8]) -> Result<Vec<Self>, FheError> {
        let missing = || FheError::key("key set", "is of parameters without noise squashing");
        let squashing = parameters.cpu().and_then(|cpu| cpu.squashing()).ok_or_else(missing)?;
        let conformance = conformance(squashing.compression_parameters.ok_or_else(missing)?);
        check_types(types)?;
        let refused = |reason: &str| malformed(first(types), reason);
        let body = bytes
            .strip_prefix(&HEADER)
            .ok_or_else(|| refused("is not a list of squashed values of version 1"))?;
        let (count, body) = body.split_first().ok_or_else(|| refused("the list is cut short"))?;
        let (ids, body) = body
            .split_at_checked((*count).into())
            .ok_or_else(|| refused("the list is cut short"))?;
        if !ids.iter().copied().eq(types.iter().map(|ty| ty.id())) {
            return Err(refused("the list has values of other types"));
        }
        let list: CompressedSquashedNoiseCiphertextList = encoding()
            .deserialize(body)
            .map_err(|reason| malformed(first(types), reason.to_string()))?;
        let expected: usize = types.iter().map(|ty| ciphertext_count(*ty)).sum();
        if !list.is_conformant(&conformance) || list.len() != expected {
            return Err(refused("the list is of other parameters or another length"));
        }
        let mut next = 0..expected;
        types
            .iter()
            .map(|ty| {
                let places = next.by_ref().take(ciphertext_count(*ty));
                // One after the other: all of them are megabytes, and as much again as numbers.
                let taken = places.map(|place| list.unpack(place).map_err(|reason| malformed(*ty, reason.to_string())));
                numbers(*ty, taken)
            })
            .collect()
    }
}

fn encoding() -> impl Options {
    bincode::DefaultOptions::new()
        .with_fixint_encoding()
        .with_limit(MAX_LIST_BYTES)
        .reject_trailing_bytes()
}

fn first(types: &[FheType]) -> FheType {
    types.first().copied().unwrap_or(FheType::Bool)
}

/// What a list of these parameters must look like.
const fn conformance(parameters: NoiseSquashingCompressionParameters) -> CompressedSquashedNoiseCiphertextConformanceParams {
    CompressedSquashedNoiseCiphertextConformanceParams {
        ct_params: GlweCiphertextConformanceParams {
            glwe_dim: parameters.packing_ks_glwe_dimension,
            polynomial_size: parameters.packing_ks_polynomial_size,
            ct_modulus: parameters.ciphertext_modulus,
        },
        lwe_per_glwe: parameters.lwe_per_glwe,
        message_modulus: parameters.message_modulus,
        carry_modulus: parameters.carry_modulus,
    }
}
