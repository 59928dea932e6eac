//! Lookups of blocks that are under a small key already: what unpacking and the expansion of inputs consist of.
//!
//! They are tfhe-rs's own bootstraps, each the same bits as alone, in batches that read the key once.

use rayon::prelude::*;
use tfhe::{
    core_crypto::{
        fft_impl::fft64::crypto::bootstrap::{FourierLweBootstrapKeyView, batch_blind_rotate_assign_scratch},
        prelude::{
            CiphertextCount, CiphertextModulus, CiphertextModulusLog, ComputationBuffers, ContiguousEntityContainer,
            ContiguousEntityContainerMut, Fft, GlweCiphertextCount, GlweCiphertextList, LweCiphertext, LweCiphertextView, LweDimension,
            ModulusSwitchedLweCiphertext, MonomialDegree, extract_lwe_sample_from_glwe_ciphertext,
        },
    },
    shortint::server_key::{ModulusSwitchConfiguration, ShortintBootstrappingKey},
};

use crate::error::FheError;

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
        let key = &self.bootstrap;
        let modulus = CiphertextModulus::new_native();
        let exponents: Vec<_> = jobs.iter().map(|job| self.exponents(&job.block)).collect();
        let mut rotated = GlweCiphertextList::new(0, key.glwe_size(), key.polynomial_size(), GlweCiphertextCount(jobs.len()), modulus);
        for (mut accumulator, job) in rotated.iter_mut().zip(jobs) {
            fill(accumulator.get_mut_body().as_mut(), job.table);
        }
        let fft = Fft::new(key.polynomial_size());
        let fft = fft.as_view();
        let mut buffers = ComputationBuffers::new();
        let scratch = batch_blind_rotate_assign_scratch::<u64>(key.glwe_size(), key.polynomial_size(), CiphertextCount(jobs.len()), fft);
        buffers.resize(scratch.unaligned_bytes_required());
        key.batch_blind_rotate_assign(rotated.as_mut_view(), &exponents, fft, buffers.stack());
        let lwe_size = key.output_lwe_dimension().to_lwe_size();
        let extract = |rotated: tfhe::core_crypto::prelude::GlweCiphertextView<'_, u64>| {
            let mut result = LweCiphertext::new(0, lwe_size, modulus);
            extract_lwe_sample_from_glwe_ciphertext(&rotated, &mut result, MonomialDegree(0));
            result.into_container()
        };
        rotated.iter().map(extract).collect()
    }

    fn exponents(&self, block: &[u64]) -> Exponents {
        let log_modulus = self.bootstrap.polynomial_size().to_blind_rotation_input_modulus_log();
        let block: LweCiphertextView<'_, u64> = LweCiphertext::from_container(block, CiphertextModulus::new_native());
        let rounded = self.modulus_switch.lwe_ciphertext_modulus_switch::<usize, _>(&block, log_modulus);
        Exponents {
            mask: rounded.mask().collect(),
            body: rounded.body(),
            log_modulus,
        }
    }
}

/// A block after the modulus switch: exponents of the ring's variable.
///
/// The library's own type computes an exponent whenever it is asked for one, and finds the n-th by computing all before it.
struct Exponents {
    mask: Vec<usize>,
    body: usize,
    log_modulus: CiphertextModulusLog,
}

impl ModulusSwitchedLweCiphertext<usize> for Exponents {
    fn log_modulus(&self) -> CiphertextModulusLog {
        self.log_modulus
    }

    fn lwe_dimension(&self) -> LweDimension {
        LweDimension(self.mask.len())
    }

    fn body(&self) -> usize {
        self.body
    }

    fn mask(&self) -> impl ExactSizeIterator<Item = usize> + '_ {
        self.mask.iter().copied()
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
