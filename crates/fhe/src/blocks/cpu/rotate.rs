//! Blind rotations of a batch: each accumulator is turned by its block's value, under encryption.
//!
//! Step *i* of a rotation adds `key[i] ⊡ (X^e − 1)·A` to the accumulator *A*, where *e* is the block's exponent for that step: the difference is
//! cut to the key's precision, brought to the Fourier domain, multiplied with the key's matrix and brought back. The whole batch takes a
//! step before any of it takes the next one, so that a step's part of the key is read from memory once.
//!
//! The transforms are tfhe-rs's own. What lies between them is done here, in registers as wide as the processor has, with the same roundings: the bits are
//! those of tfhe-rs. It compiles these loops for the oldest processor of the architecture, and they were a third of a bootstrap.

use pulp::{Arch, Simd, WithSimd};
use tfhe::core_crypto::{
    fft_impl::fft64::{
        AVec, c64,
        crypto::bootstrap::FourierLweBootstrapKeyView,
        math::{fft::FftView, polynomial::FourierPolynomialMutView},
    },
    prelude::{ComputationBuffers, Polynomial},
};

use super::LANE_ALIGNMENT;

/// Accumulators are pairs of polynomials: a mask and a body.
pub(crate) const POLYNOMIALS: usize = 2;

/// Turns every accumulator by its exponents, one for each part of the key. Accumulators follow each other, [`POLYNOMIALS`] each.
pub(super) fn rotate(arch: Arch, key: FourierLweBootstrapKeyView<'_>, accumulators: &mut [u64], exponents: &[&[usize]], fft: FftView<'_>) {
    let size = key.polynomial_size().0;
    let precision = Precision {
        bits: key.decomposition_base_log().0,
    };
    let mut digits: AVec<u64> = AVec::from_iter(LANE_ALIGNMENT, std::iter::repeat_n(0, size));
    // Complex numbers are half as many as the coefficients of a polynomial.
    let mut fourier: AVec<c64> = AVec::from_iter(LANE_ALIGNMENT, std::iter::repeat_n(c64::default(), POLYNOMIALS * size / 2));
    let mut buffers = ComputationBuffers::new();
    buffers.resize(fft.backward_scratch().unaligned_bytes_required());
    for (step, matrix) in key.into_ggsw_iter().enumerate() {
        let matrix = matrix.data();
        for (accumulator, exponents) in accumulators.chunks_exact_mut(POLYNOMIALS * size).zip(exponents) {
            let exponent = exponents.get(step).copied().unwrap_or_default();
            if exponent == 0 {
                continue;
            }
            for (polynomial, fourier) in accumulator.chunks_exact(size).zip(fourier.chunks_exact_mut(size / 2)) {
                arch.dispatch(Difference {
                    digits: &mut digits,
                    polynomial,
                    exponent,
                    precision,
                });
                let digits = Polynomial::from_container(digits.as_slice());
                fft.forward_as_integer(FourierPolynomialMutView { data: fourier }, digits, buffers.stack());
            }
            arch.dispatch(Product {
                fourier: &mut fourier,
                matrix,
            });
            for (polynomial, fourier) in accumulator.chunks_exact_mut(size).zip(fourier.chunks_exact_mut(size / 2)) {
                let polynomial = Polynomial::from_container(polynomial);
                fft.add_backward_in_place_as_torus(polynomial, FourierPolynomialMutView { data: fourier }, buffers.stack());
            }
        }
    }
}

/// How many of a word's highest bits a bootstrap looks at.
#[derive(Clone, Copy)]
struct Precision {
    bits: usize,
}

impl Precision {
    /// Rounds a word, as a signed fraction, to a signed number of this many bits.
    ///
    /// Half a unit is added and the low bits are cut off. One case differs, as it does in the library, which rounds the two
    /// words that lie half the range away from 0 towards 0: from the lowest numbers up to half a unit above them, the result is positive.
    #[inline(always)]
    fn digit(self, word: u64) -> u64 {
        let cut = u64::BITS as usize - self.bits;
        let nudged = word.wrapping_add(1 << (cut - 1));
        let digit = (nudged.cast_signed() >> cut).cast_unsigned();
        if nudged >> (cut - 1) == (1 << self.bits) + 1 {
            digit.wrapping_neg()
        } else {
            digit
        }
    }
}

/// `digits = round(X^exponent · polynomial − polynomial)`, modulo `X^N + 1`.
struct Difference<'a> {
    digits: &'a mut [u64],
    polynomial: &'a [u64],
    /// Below 2N.
    exponent: usize,
    precision: Precision,
}

impl WithSimd for Difference<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self {
            digits,
            polynomial,
            exponent,
            precision,
        } = self;
        let size = polynomial.len();
        let shift = exponent % size;
        // What is pushed over the end comes back at the beginning with its sign turned; half a turn more turns all signs.
        let (moved, wrapped) = polynomial.split_at(size - shift);
        let (digits_of_wrapped, digits_of_moved) = digits.split_at_mut(shift);
        let (before_wrapped, before_moved) = polynomial.split_at(shift);
        let kept = |new: u64, old| precision.digit(new.wrapping_sub(old));
        let turned = |new: u64, old| precision.digit(new.wrapping_neg().wrapping_sub(old));
        if exponent < size {
            subtract(digits_of_wrapped, wrapped, before_wrapped, turned);
            subtract(digits_of_moved, moved, before_moved, kept);
        } else {
            subtract(digits_of_wrapped, wrapped, before_wrapped, kept);
            subtract(digits_of_moved, moved, before_moved, turned);
        }
    }
}

#[inline(always)]
fn subtract(digits: &mut [u64], new: &[u64], old: &[u64], digit: impl Fn(u64, u64) -> u64) {
    for ((out, new), old) in digits.iter_mut().zip(new).zip(old) {
        *out = digit(*new, *old);
    }
}

/// `fourier = fourier · matrix`, pairs times two rows of two polynomials, in the place of the pair.
struct Product<'a> {
    fourier: &'a mut [c64],
    matrix: &'a [c64],
}

impl WithSimd for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let size = self.fourier.len() / POLYNOMIALS;
        let (mask, body) = self.fourier.split_at_mut(size);
        let (first_row, second_row) = self.matrix.split_at(POLYNOMIALS * size);
        let (mask_to_mask, mask_to_body) = first_row.split_at(size);
        let (body_to_mask, body_to_body) = second_row.split_at(size);
        // Sizes are powers of two of at least 128, so that nothing is left over.
        let (mask, _) = S::as_mut_simd_c64s(mask);
        let (body, _) = S::as_mut_simd_c64s(body);
        let vectors = |polynomial| S::as_simd_c64s(polynomial).0.iter();
        let rows = vectors(mask_to_mask)
            .zip(vectors(mask_to_body))
            .zip(vectors(body_to_mask).zip(vectors(body_to_body)));
        for ((mask, body), ((mask_to_mask, mask_to_body), (body_to_mask, body_to_body))) in mask.iter_mut().zip(body).zip(rows) {
            let (old_mask, old_body) = (*mask, *body);
            *mask = simd.mul_add_c64s(*body_to_mask, old_body, simd.mul_c64s(*mask_to_mask, old_mask));
            *body = simd.mul_add_c64s(*body_to_body, old_body, simd.mul_c64s(*mask_to_body, old_mask));
        }
    }
}

#[cfg(test)]
mod tests {
    use tfhe::core_crypto::prelude::{DecompositionBaseLog, DecompositionLevelCount, SignedDecomposer};

    use super::*;
    use crate::blocks::cpu::measure::pseudo_random;

    #[test]
    fn digits_are_those_of_the_library() {
        for bits in [1, 2, 8, 22, 23, 24, 40, 62] {
            let library = SignedDecomposer::<u64>::new(DecompositionBaseLog(bits), DecompositionLevelCount(1));
            let half_unit = 1_u64 << (63 - bits);
            // Around every multiple of half a unit near the ends and the middle of the range.
            let edges = [0, 1, 2, 3].into_iter().flat_map(|multiple| {
                let distance = half_unit.wrapping_mul(multiple);
                [0, 1 << 62, 1 << 63, 3 << 62].map(|centre: u64| [centre.wrapping_add(distance), centre.wrapping_sub(distance)])
            });
            let near = |word: u64| [word.wrapping_sub(1), word, word.wrapping_add(1)];
            for word in edges.flatten().flat_map(near).chain(pseudo_random().take(10_000)) {
                let expected: Vec<u64> = library.decompose(word).map(|digit| digit.value()).collect();
                assert_eq!([Precision { bits }.digit(word)], expected[..], "{word:#x} to {bits} bits");
            }
        }
    }
}
