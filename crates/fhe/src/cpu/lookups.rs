//! Lookups of blocks that are under a small key already: what unpacking and the expansion of inputs consist of.
//!
//! They are done by the machinery of blocks, in batches, with the bits of tfhe-rs's own bootstraps.

use pulp::Arch;
use rayon::prelude::*;
use tfhe::{
    core_crypto::{
        fft_impl::fft64::crypto::bootstrap::FourierLweBootstrapKeyView,
        prelude::{CiphertextModulus, GlweCiphertext, LweCiphertext, MonomialDegree, extract_lwe_sample_from_glwe_ciphertext},
    },
    shortint::server_key::{ModulusSwitchConfiguration, ShortintBootstrappingKey},
};

use crate::{
    blocks::{POLYNOMIALS, rotate_tables},
    error::FheError,
};

/// How many lookups share a pass over the key. Results do not depend on it.
const BATCH: usize = 16;

/// The distance of two neighbouring values of a result: 16 of them below the padding bit.
const VALUE_STEP: u64 = 1 << 59;

/// A block under the small key, and the table it is looked up in.
pub(super) struct Lookup<'a> {
    /// Mask and body.
    pub(super) block: Vec<u64>,
    /// The results for the inputs from 0 on, a power of two of them.
    pub(super) table: &'a [u8],
}

/// A key that turns blocks under a small key into blocks under the large one.
#[derive(Clone, Copy)]
pub(super) struct LookupKey<'a> {
    bootstrap: FourierLweBootstrapKeyView<'a>,
    modulus_switch: &'a ModulusSwitchConfiguration<u64>,
}

impl<'a> LookupKey<'a> {
    /// Takes the key out of tfhe-rs's, whose kind is the same in all parameter sets.
    ///
    /// # Errors
    /// [`FheError::KeyMaterial`] if it is of another kind after all.
    pub(super) fn of(key: &'a ShortintBootstrappingKey<u64>) -> Result<Self, FheError> {
        match key {
            ShortintBootstrappingKey::Classic { bsk, .. } if bsk.decomposition_level_count().0 != 1 || bsk.glwe_size().0 != POLYNOMIALS => {
                Err(FheError::key(
                    "evaluation key",
                    "rotates more than one pair of polynomials at a time",
                ))
            }
            ShortintBootstrappingKey::Classic {
                bsk,
                modulus_switch_noise_reduction_key,
            } => Ok(Self {
                bootstrap: bsk.as_view(),
                modulus_switch: modulus_switch_noise_reduction_key,
            }),
            ShortintBootstrappingKey::MultiBit { .. } => Err(FheError::key("evaluation key", "is for bootstraps over groups of bits")),
        }
    }

    /// Looks all blocks up, in the threads of the pool it is called in. Returns masks and bodies.
    pub(super) fn look_up(&self, jobs: &[Lookup<'_>]) -> Vec<Vec<u64>> {
        let batch = jobs.len().div_ceil(rayon::current_num_threads().max(1)).clamp(1, BATCH);
        let batches: Vec<_> = jobs.par_chunks(batch).map(|jobs| self.batch(jobs)).collect();
        batches.into_iter().flatten().collect()
    }

    fn batch(&self, jobs: &[Lookup<'_>]) -> Vec<Vec<u64>> {
        let key = self.bootstrap;
        let polynomial_size = key.polynomial_size();
        let blocks: Vec<_> = jobs.iter().map(|job| job.block.as_slice()).collect();
        let tables = jobs.iter().map(|job| move |polynomial: &mut [u64]| fill(polynomial, job.table));
        let rotated = rotate_tables(Arch::new(), key, self.modulus_switch, &blocks, tables);
        let lwe_size = key.output_lwe_dimension().to_lwe_size();
        let extract = |rotated: &[u64]| {
            let rotated = GlweCiphertext::from_container(rotated, polynomial_size, CiphertextModulus::new_native());
            let mut result = LweCiphertext::new(0, lwe_size, CiphertextModulus::new_native());
            extract_lwe_sample_from_glwe_ciphertext(&rotated, &mut result, MonomialDegree(0));
            result.into_container()
        };
        rotated.chunks_exact(POLYNOMIALS * polynomial_size.0).map(extract).collect()
    }
}

/// Writes the table as the polynomial that is rotated by the block's value: for every place as many equal coefficients as noise needs,
/// centred on the place. The first half of place 0 therefore comes round from the end, where signs are turned.
fn fill(polynomial: &mut [u64], table: &[u8]) {
    let width = polynomial.len() / table.len().max(1);
    for (place, output) in polynomial.chunks_exact_mut(width.max(1)).zip(table) {
        place.fill(u64::from(*output) * VALUE_STEP);
    }
    let half = width / 2;
    for coefficient in polynomial.iter_mut().take(half) {
        *coefficient = coefficient.wrapping_neg();
    }
    polynomial.rotate_left(half);
}
