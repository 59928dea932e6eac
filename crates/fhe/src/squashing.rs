//! Noise squashing: from ciphertexts to numbers that a committee can decrypt.
//!
//! The noise of a ciphertext depends on the secret key and on what was computed, so a threshold decryption must hide it under masks that are far wider. Ciphertexts modulo 2^64 have no room for that.
//! Noise squashing bootstraps them to ciphertexts modulo 2^128 under another secret, with four bits in each and noise below 2^70. A *list* packs up to 128 of those into one ciphertext of some 98 KB,
//! whose parts, taken out again, are under a third secret.
//!
//! * [`SquashingMaterial`] is what a key set needs for it: two evaluation keys for coprocessors, and two [`SquashingSecrets`] to be shared among a committee. It is made from a key set with its secret key, and kept beside it, so key sets without it
//!   stay as small as they are.
//! * [`NoiseSquasher`] squashes, packs and unpacks; a [`SquashingBatch`] does it for several values in small steps.
//! * [`SquashedValue`] holds plain numbers; its layout is what the crate `cipherloom-threshold` takes.
//!
//! Decrypting squashed values needs no evaluation key, so that committees need none.

mod batch;
mod keys;
mod list;

use std::{borrow::Borrow, sync::Arc};

use cipherloom_primitives::FheType;
use tfhe::{
    integer::noise_squashing::NoiseSquashingKey,
    shortint::{ciphertext::SquashedNoiseCiphertext, list_compression::NoiseSquashingCompressionKey},
};

pub use self::{
    batch::{SquashedInBatch, SquashingBatch},
    keys::{SquashingMaterial, SquashingSecrets},
};
use crate::{
    ciphertext::{Ciphertext, Value},
    cpu::Pools,
    error::FheError,
    keys::EvaluationKeys,
};

/// A squashed value as numbers. Nothing in it is secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SquashedValue {
    /// How many bits the value has.
    pub bits: u16,
    /// How many numbers the mask of each ciphertext has.
    pub dimension: usize,
    /// For each ciphertext of four bits, lowest first, its mask and its body.
    pub words: Vec<u128>,
}

/// Squashes the noise of a CPU key set's ciphertexts.
pub struct NoiseSquasher {
    computation: Arc<EvaluationKeys>,
    squashing: NoiseSquashingKey,
    packing: NoiseSquashingCompressionKey,
    pools: Pools,
}

impl NoiseSquasher {
    /// Squashes one value: a large bootstrap for every four bits.
    ///
    /// # Errors
    /// [`FheError::ForeignCiphertext`] if the value is of the clear backend, [`FheError::KeyMaterial`] if it is of other parameters.
    pub fn squash(&self, ciphertext: &Ciphertext) -> Result<SquashedValue, FheError> {
        numbers(ciphertext.ty, self.squashed(ciphertext)?.iter().map(Ok))
    }

    /// Squashes values and packs them into one list of at most 128 squashed ciphertexts.
    ///
    /// # Errors
    /// As [`Self::squash`], and [`FheError::MalformedCiphertext`] if they are none, or more than a list has room for.
    pub fn squash_list(&self, ciphertexts: &[&Ciphertext]) -> Result<Vec<u8>, FheError> {
        let types: Vec<FheType> = ciphertexts.iter().map(|one| one.ty).collect();
        list::check_types(&types)?;
        let mut squashed = Vec::new();
        for ciphertext in ciphertexts {
            squashed.extend(self.squashed(ciphertext)?);
        }
        self.pools.run(|| list::write(&self.packing, &types, &squashed))
    }

    fn squashed(&self, ciphertext: &Ciphertext) -> Result<Vec<SquashedNoiseCiphertext>, FheError> {
        let key = &self.computation.integer;
        let squashed = self.pools.run(|| match &ciphertext.value {
            Value::Clear(_) => None,
            Value::Bool(bit) => {
                let squashed = self.squashing.squash_boolean_block_noise(key, bit);
                Some(squashed.map(|block| vec![block.packed_blocks().clone()]))
            }
            Value::Radix(radix) => {
                let squashed = self.squashing.squash_radix_ciphertext_noise(key, radix);
                Some(squashed.map(|radix| radix.packed_blocks().to_vec()))
            }
        });
        squashed
            .ok_or(FheError::ForeignCiphertext)?
            .map_err(|reason| FheError::key("noise squashing key", reason))
    }
}

/// Takes the numbers out of squashed ciphertexts, which can come one after the other.
fn numbers<C: Borrow<SquashedNoiseCiphertext>>(
    ty: FheType,
    ciphertexts: impl Iterator<Item = Result<C, FheError>>,
) -> Result<SquashedValue, FheError> {
    let wrong = || crate::stored::malformed(ty, "it is not squashed to as many ciphertexts as its type has");
    let expected = list::ciphertext_count(ty);
    let (mut count, mut size, mut words) = (0, 0, Vec::new());
    for ciphertext in ciphertexts {
        let ciphertext = ciphertext?;
        let lwe: &[u128] = ciphertext.borrow().lwe_ciphertext().as_ref();
        if count == 0 {
            size = lwe.len();
            // Megabytes, so all at once: growing would copy them and touch as much memory again.
            words.reserve_exact(expected.saturating_mul(size));
        }
        if count == expected || lwe.len() != size {
            return Err(wrong());
        }
        words.extend_from_slice(lwe);
        count += 1;
    }
    if count != expected {
        return Err(wrong());
    }
    Ok(SquashedValue {
        // At most 256.
        bits: u16::try_from(ty.bits()).unwrap_or(u16::MAX),
        // All but the body.
        dimension: size.saturating_sub(1),
        words,
    })
}
