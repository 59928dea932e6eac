//! Many bootstraps in one pass over the key.
//!
//! A keyswitch and a bootstrap read each of their keys once from beginning to end, 60 megabytes each with production
//! parameters. One block at a time, that is memory traffic of 120 megabytes per lookup. Here the loops are turned inside out: each part of a
//! key is read once and applied to all blocks of the batch. The arithmetic on every block, and its order, are those of a lookup
//! alone, so the bits are too.

use tfhe::core_crypto::{
    algorithms::slice_algorithms::slice_wrapping_sub_scalar_mul_assign,
    fft_impl::fft64::crypto::bootstrap::batch_blind_rotate_assign_scratch,
    prelude::{
        CiphertextCount, CiphertextModulus, CiphertextModulusLog, ComputationBuffers, ContiguousEntityContainer,
        ContiguousEntityContainerMut, Fft, GlweCiphertextCount, GlweCiphertextList, LweCiphertext, LweDimension, LweSize,
        ModulusSwitchedLweCiphertext, MonomialDegree, PolynomialSize, SignedDecomposer, extract_lwe_sample_from_glwe_ciphertext,
    },
};

use super::{SecretJob, VALUE_STEP, keys::BootstrapKeys};
use crate::blocks::{Block, LookupTable, MAX_BLOCK_VALUE, block::Content};

/// Looks all blocks up together, on this thread.
pub(super) fn bootstrap(keys: &BootstrapKeys<'_>, jobs: &[SecretJob<'_>]) -> Vec<Vec<Block>> {
    if jobs.is_empty() {
        return Vec::new();
    }
    let polynomial_size = keys.bootstrap.polynomial_size();
    let exponents = switch_keys(keys, jobs);
    let mut rotated = GlweCiphertextList::new(
        0,
        keys.bootstrap.glwe_size(),
        polynomial_size,
        GlweCiphertextCount(jobs.len()),
        CiphertextModulus::new_native(),
    );
    for (mut accumulator, job) in rotated.iter_mut().zip(jobs) {
        fill(accumulator.get_mut_body().as_mut(), job.table);
    }
    let fft = Fft::new(polynomial_size);
    let fft = fft.as_view();
    let mut buffers = ComputationBuffers::new();
    let scratch = batch_blind_rotate_assign_scratch::<u64>(keys.bootstrap.glwe_size(), polynomial_size, CiphertextCount(jobs.len()), fft);
    buffers.resize(scratch.unaligned_bytes_required());
    keys.bootstrap
        .batch_blind_rotate_assign(rotated.as_mut_view(), &exponents, fft, buffers.stack());
    let lwe_size = keys.bootstrap.output_lwe_dimension().to_lwe_size();
    let extract = |(rotated, job): (_, &SecretJob<'_>)| extract_outputs(&rotated, job.table, polynomial_size, lwe_size);
    rotated.iter().zip(jobs).map(extract).collect()
}

/// A block after keyswitch and modulus switch: exponents of the ring's variable, mask first, body last.
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

/// Brings all blocks to the small key, each row of the key applied to every block before the next is read, and rounds them.
fn switch_keys(keys: &BootstrapKeys<'_>, jobs: &[SecretJob<'_>]) -> Vec<Exponents> {
    let decomposer = SignedDecomposer::<u64>::new(keys.keyswitch.decomposition_base_log(), keys.keyswitch.decomposition_level_count());
    let small_size = keys.keyswitch.output_key_lwe_dimension().to_lwe_size();
    let with_body = |job: &SecretJob<'_>| {
        let mut small = LweCiphertext::new(0, small_size, CiphertextModulus::new_native());
        *small.get_mut_body().data = job.words.last().copied().unwrap_or_default();
        small
    };
    let mut switched: Vec<_> = jobs.iter().map(with_body).collect();
    let mut masks: Vec<_> = jobs.iter().map(|job| job.words.iter()).collect();
    for row in keys.keyswitch.iter() {
        for (small, mask) in switched.iter_mut().zip(&mut masks) {
            let element = mask.next().copied().unwrap_or_default();
            for (level, digit) in row.iter().zip(decomposer.decompose(element)) {
                slice_wrapping_sub_scalar_mul_assign(small.as_mut(), level.as_ref(), digit.value());
            }
        }
    }
    let log_modulus = keys.bootstrap.polynomial_size().to_blind_rotation_input_modulus_log();
    let round = |small: &LweCiphertext<Vec<u64>>| {
        let rounded = keys.modulus_switch.lwe_ciphertext_modulus_switch::<usize, _>(small, log_modulus);
        Exponents {
            mask: rounded.mask().collect(),
            body: rounded.body(),
            log_modulus,
        }
    };
    switched.iter().map(round).collect()
}

/// Writes the table as the polynomial that is rotated by the block's value: for every place as many equal coefficients as noise needs,
/// centred on the place. The first half of place 0 therefore comes round from the end, where signs are turned.
fn fill(polynomial: &mut [u64], table: &LookupTable) {
    let places = usize::from(MAX_BLOCK_VALUE) + 1;
    let width = polynomial.len() / places;
    let outputs = table
        .functions()
        .iter()
        .flat_map(|function| function.iter().take(places / table.function_count()));
    for (place, output) in polynomial.chunks_exact_mut(width).zip(outputs) {
        place.fill(u64::from(*output) * VALUE_STEP);
    }
    let half = width / 2;
    for coefficient in polynomial.iter_mut().take(half) {
        *coefficient = coefficient.wrapping_neg();
    }
    polynomial.rotate_left(half);
}

/// Takes every function's result out of the rotated polynomial: the coefficient where the function's places begin.
fn extract_outputs(
    rotated: &tfhe::core_crypto::prelude::GlweCiphertextView<'_, u64>,
    table: &LookupTable,
    polynomial_size: PolynomialSize,
    lwe_size: LweSize,
) -> Vec<Block> {
    let places = usize::from(MAX_BLOCK_VALUE) + 1;
    let stride = places / table.function_count() * (polynomial_size.0 / places);
    let extract = |(function, bounds)| {
        let mut result = LweCiphertext::new(0, lwe_size, CiphertextModulus::new_native());
        extract_lwe_sample_from_glwe_ciphertext(rotated, &mut result, MonomialDegree(function * stride));
        Block::new(Content::Lwe(result.into_container().into()), bounds)
    };
    table.output_bounds().enumerate().map(extract).collect()
}
