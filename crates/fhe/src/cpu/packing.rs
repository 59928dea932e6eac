//! Packing and unpacking: between a value's blocks and one compressed GLWE ciphertext.
//!
//! Packing is tfhe-rs's list compression of one value: blocks are multiplied by 4, because without a carry two bits above their plaintext
//! are free and noise has more room there; switched into one GLWE ciphertext; and rounded to few bits per coefficient. It takes no
//! bootstrap, and one per secret block undoes it. Both are pure functions of bytes.

use cipherloom_primitives::FheType;
use tfhe::{
    core_crypto::{
        fft_impl::common::modulus_switch,
        prelude::{
            CiphertextModulus, CiphertextModulusLog, GlweCiphertext, GlweCiphertextOwned, LweCiphertext, LweCiphertextList, MonomialDegree,
            PolynomialSize, extract_lwe_sample_from_glwe_ciphertext, par_keyswitch_lwe_ciphertext_list_and_pack_in_glwe_ciphertext,
        },
    },
    shortint::{Ciphertext as Block, parameters::NoiseLevel},
};

use super::lookups::{Lookup, LookupKey};
use crate::{
    ciphertext::Ciphertext,
    error::FheError,
    keys::EvaluationKeys,
    stored::{PackedBlock, PackedShape, PackedValue, from_blocks, malformed},
};

/// What blocks are multiplied by: the number of values without a carry.
const SCALE: u64 = 4;

/// The plaintext step of a block below its padding bit, with room for 16 values.
const VALUE_STEP: u64 = 1 << 59;

/// From the four values of a packed block to the same values of a block.
const IDENTITY: [u8; 4] = [0, 1, 2, 3];

/// Writes a clean ciphertext in packed form.
pub(super) fn pack(keys: &EvaluationKeys, ciphertext: &Ciphertext) -> Result<Vec<u8>, FheError> {
    let ty = ciphertext.ty;
    let blocks = keys.stored.clean_blocks(ciphertext)?;
    let described = blocks.iter().map(|block| describe(ty, block)).collect::<Result<Vec<_>, _>>()?;
    let secret: Vec<_> = blocks
        .iter()
        .zip(&described)
        .filter(|(_, described)| **described == PackedBlock::Secret)
        .map(|(block, _)| block)
        .collect();
    let value = PackedValue {
        blocks: described,
        coefficients: pack_blocks(keys, &secret),
    };
    Ok(keys.stored.write_packed(ty, &value))
}

fn describe(ty: FheType, block: &Block) -> Result<PackedBlock, FheError> {
    if block.noise_level() != NoiseLevel::ZERO {
        return Ok(PackedBlock::Secret);
    }
    let body = *block.ct.get_body().data;
    let digit = u8::try_from(body / VALUE_STEP).unwrap_or(u8::MAX);
    if !body.is_multiple_of(VALUE_STEP) || u64::from(digit) > block.degree.get() {
        return Err(malformed(ty, "has a public block that is no digit"));
    }
    Ok(PackedBlock::Public(digit))
}

/// Switches blocks into one GLWE ciphertext and rounds its coefficients.
fn pack_blocks(keys: &EvaluationKeys, blocks: &[&Block]) -> Vec<u64> {
    if blocks.is_empty() {
        return Vec::new();
    }
    let key = &keys.packing.packing_key_switching_key;
    let shape = keys.stored.packed;
    let modulus = CiphertextModulus::new_native();
    let scaled = blocks
        .iter()
        .flat_map(|block| block.ct.as_ref().iter().map(|word| word.wrapping_mul(SCALE)));
    let list = LweCiphertextList::from_container(scaled.collect::<Vec<u64>>(), keys.stored.shape.lwe_size, modulus);
    let mut packed = GlweCiphertext::new(0, key.output_glwe_size(), key.output_polynomial_size(), modulus);
    par_keyswitch_lwe_ciphertext_list_and_pack_in_glwe_ciphertext(key, &list, &mut packed);
    let kept = packed.as_ref().iter().take(shape.coefficient_count(blocks.len()));
    kept.map(|word| modulus_switch(*word, CiphertextModulusLog(shape.coefficient_bits)))
        .collect()
}

/// Reads a ciphertext from its packed form: one bootstrap per secret block.
pub(super) fn unpack(keys: &EvaluationKeys, ty: FheType, bytes: &[u8]) -> Result<Ciphertext, FheError> {
    let value = keys.stored.read_packed(ty, bytes)?;
    let secret = value.blocks.iter().filter(|block| **block == PackedBlock::Secret).count();
    let mut unpacked = unpack_blocks(keys, &value, secret)?.into_iter();
    let shape = &keys.stored.shape;
    // A public digit bounds itself; of a secret one only its type is known.
    let degree = if ty == FheType::Bool { 1 } else { 3 };
    let block = |block: &PackedBlock| match block {
        PackedBlock::Public(digit) => {
            let mut words = vec![0; shape.lwe_size.0];
            if let Some(body) = words.last_mut() {
                *body = u64::from(*digit) * VALUE_STEP;
            }
            shape.block(words, *digit, NoiseLevel::ZERO)
        }
        PackedBlock::Secret => {
            let words = unpacked.next().expect("as many blocks are unpacked as are secret");
            shape.block(words, degree, NoiseLevel::NOMINAL)
        }
    };
    from_blocks(ty, value.blocks.iter().map(block).collect())
}

fn unpack_blocks(keys: &EvaluationKeys, value: &PackedValue, secret: usize) -> Result<Vec<Vec<u64>>, FheError> {
    if secret == 0 {
        return Ok(Vec::new());
    }
    let shape = keys.stored.packed;
    let packed = restore(shape, value);
    let jobs: Vec<_> = (0..secret)
        .map(|index| {
            let dimension = packed
                .glwe_size()
                .to_glwe_dimension()
                .to_equivalent_lwe_dimension(packed.polynomial_size());
            let mut block = LweCiphertext::new(0, dimension.to_lwe_size(), packed.ciphertext_modulus());
            extract_lwe_sample_from_glwe_ciphertext(&packed, &mut block, MonomialDegree(index));
            Lookup {
                block: block.into_container(),
                table: &IDENTITY,
            }
        })
        .collect();
    Ok(LookupKey::of(&keys.unpacking)?.look_up(&jobs))
}

/// Rebuilds the GLWE ciphertext of a packed value: coefficients back at their full size, the absent ones of the body 0.
pub(crate) fn restore(shape: PackedShape, value: &PackedValue) -> GlweCiphertextOwned<u64> {
    let size = (shape.glwe_dimension + 1) * shape.polynomial_size;
    let shift = u64::BITS as usize - shape.coefficient_bits;
    let mut words: Vec<u64> = value.coefficients.iter().map(|coefficient| coefficient << shift).collect();
    words.resize(size, 0);
    GlweCiphertext::from_container(words, PolynomialSize(shape.polynomial_size), CiphertextModulus::new_native())
}

/// Returns the digit that a decrypted coefficient of a packed ciphertext stands for.
pub(crate) fn digit(phase: u64) -> u8 {
    let step = VALUE_STEP * SCALE;
    // Half a step of noise in either direction; of the result's three bits the upper one is the padding.
    let value = phase.wrapping_add(step / 2) / step;
    u8::try_from(value % SCALE).unwrap_or_default()
}
