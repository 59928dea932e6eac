//! Many bootstraps in one pass over the key.
//!
//! A keyswitch and a bootstrap read each of their keys once from beginning to end, 60 megabytes each with production
//! parameters. One block at a time, that is memory traffic of 120 megabytes per lookup. Here the loops are turned inside out: each part of a
//! key is read once and applied to all blocks of the batch. The arithmetic on every block, and its order, are those of a lookup
//! alone, so the bits are too.

use pulp::Arch;
use tfhe::{
    core_crypto::{
        fft_impl::fft64::{AVec, crypto::bootstrap::FourierLweBootstrapKeyView},
        prelude::{
            CiphertextModulus, Fft, GlweCiphertext, GlweCiphertextView, LweCiphertext, LweCiphertextView, LweSize,
            ModulusSwitchedLweCiphertext, MonomialDegree, Polynomial, PolynomialSize, extract_lwe_sample_from_glwe_ciphertext,
            polynomial_algorithms::polynomial_wrapping_monic_monomial_div,
        },
    },
    shortint::server_key::ModulusSwitchConfiguration,
};

use super::{
    LANE_ALIGNMENT, SecretJob, VALUE_STEP,
    keys::BootstrapKeys,
    rotate::{POLYNOMIALS, rotate},
    switch::switch_keys,
};
use crate::blocks::{Block, LookupTable, MAX_BLOCK_VALUE, block::Content};

/// Looks all blocks up together, on this thread.
pub(super) fn bootstrap(keys: &BootstrapKeys<'_>, jobs: &[SecretJob<'_>]) -> Vec<Vec<Block>> {
    bootstrap_on(Arch::new(), keys, jobs)
}

/// As [`bootstrap`], with the instructions of this kind of processor.
pub(super) fn bootstrap_on(arch: Arch, keys: &BootstrapKeys<'_>, jobs: &[SecretJob<'_>]) -> Vec<Vec<Block>> {
    if jobs.is_empty() {
        return Vec::new();
    }
    let polynomial_size = keys.bootstrap.polynomial_size();
    let blocks: Vec<_> = jobs.iter().map(|job| job.words).collect();
    let switched = switch_keys(arch, keys.keyswitch, &blocks);
    let blocks: Vec<_> = switched.iter().collect();
    let tables = jobs.iter().map(|job| move |polynomial: &mut [u64]| fill(polynomial, job.table));
    let accumulators = rotate_tables(arch, keys.bootstrap, keys.modulus_switch, &blocks, tables);
    let lwe_size = keys.bootstrap.output_lwe_dimension().to_lwe_size();
    let extract = |(rotated, job): (_, &SecretJob<'_>)| {
        let rotated = GlweCiphertext::from_container(rotated, polynomial_size, CiphertextModulus::new_native());
        extract_outputs(&rotated, job.table, polynomial_size, lwe_size)
    };
    accumulators
        .chunks_exact(POLYNOMIALS * polynomial_size.0)
        .zip(jobs)
        .map(extract)
        .collect()
}

/// Rotates a table by each of these blocks, which are under the key's small key, on this thread. The tables are written by functions, one per block.
/// Returns the accumulators, one after the other.
pub(crate) fn rotate_tables(
    arch: Arch,
    key: FourierLweBootstrapKeyView<'_>,
    modulus_switch: &ModulusSwitchConfiguration<u64>,
    blocks: &[&[u64]],
    tables: impl Iterator<Item = impl FnOnce(&mut [u64])>,
) -> AVec<u64> {
    let polynomial_size = key.polynomial_size();
    let size = polynomial_size.0;
    let exponents: Vec<_> = blocks
        .iter()
        .map(|block| Exponents::of(polynomial_size, modulus_switch, block))
        .collect();
    let mut accumulators: AVec<u64> = AVec::from_iter(LANE_ALIGNMENT, std::iter::repeat_n(0, POLYNOMIALS * size * blocks.len()));
    let mut table = vec![0; size];
    let pairs = accumulators.chunks_exact_mut(POLYNOMIALS * size);
    for ((accumulator, fill), exponents) in pairs.zip(tables).zip(&exponents) {
        fill(&mut table);
        // The mask is 0. Only the body, the table, is turned back by the body of the block.
        let (_, body) = accumulator.split_at_mut(size);
        let mut body = Polynomial::from_container(body);
        let table = Polynomial::from_container(table.as_slice());
        polynomial_wrapping_monic_monomial_div(&mut body, &table, MonomialDegree(exponents.body));
    }
    let masks: Vec<_> = exponents.iter().map(|exponents| exponents.mask.as_slice()).collect();
    let fft = Fft::new(polynomial_size);
    rotate(arch, key, &mut accumulators, &masks, fft.as_view());
    accumulators
}

/// A block after keyswitch and modulus switch: exponents of the ring's variable.
struct Exponents {
    mask: Vec<usize>,
    body: usize,
}

impl Exponents {
    /// Rounds a block of the small key as the key set says.
    fn of(polynomial_size: PolynomialSize, modulus_switch: &ModulusSwitchConfiguration<u64>, block: &[u64]) -> Self {
        let log_modulus = polynomial_size.to_blind_rotation_input_modulus_log();
        let block: LweCiphertextView<'_, u64> = LweCiphertext::from_container(block, CiphertextModulus::new_native());
        let rounded = modulus_switch.lwe_ciphertext_modulus_switch::<usize, _>(&block, log_modulus);
        Self {
            mask: rounded.mask().collect(),
            body: rounded.body(),
        }
    }
}

/// Writes the table as the polynomial that is rotated by the block's value: for every place as many equal coefficients as noise needs,
/// centred on the place. The first half of place 0 therefore comes round from the end, where signs are turned.
fn fill(polynomial: &mut [u64], table: &LookupTable) {
    let places = usize::from(MAX_BLOCK_VALUE) + 1;
    let width = polynomial.len() / places;
    // Three functions leave a place over, which no input reaches; it holds nothing.
    polynomial.fill(0);
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
    rotated: &GlweCiphertextView<'_, u64>,
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
