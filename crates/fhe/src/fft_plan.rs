//! The FFT plan of every polynomial size, fixed instead of measured.
//!
//! tfhe picks the algorithm of its fast Fourier transform by a timing race of a few milliseconds when a polynomial size is first
//! used. The algorithms round differently, so without a fixed plan the bytes of a result would change from process to process.
//! A plan also decides the order of coefficients in Fourier-domain keys: changing it after a key was decompressed makes the key
//! garbage. Whoever makes or reads such a key therefore calls [`fix`] first.

use std::sync::Once;

use tfhe::core_crypto::fft_impl::fft64::math::fft::{FftAlgo, Method, Plan, setup_custom_fft_plan};

/// The polynomial sizes of all parameter sets: 256 of the toy parameters, 2048 of the production parameters, and the sizes between,
/// which other parts of production key sets use.
const POLYNOMIAL_SIZES: [usize; 4] = [256, 512, 1024, 2048];

/// Fixes the plan of every polynomial size for this process: decimation in frequency, radix 4, in one piece. Only the first call does
/// anything.
pub(crate) fn fix() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        for polynomial_size in POLYNOMIAL_SIZES {
            // A negacyclic product of N real coefficients takes a complex transform of N/2.
            let fft_size = polynomial_size / 2;
            setup_custom_fft_plan(Plan::new(
                fft_size,
                Method::UserProvided {
                    base_algo: FftAlgo::Dif4,
                    base_n: fft_size,
                },
            ));
        }
    });
}

#[cfg(test)]
mod tests {
    use tfhe::core_crypto::{fft_impl::fft64::math::fft::Fft, prelude::PolynomialSize};

    use super::*;

    #[test]
    fn every_size_uses_the_fixed_plan() {
        fix();
        fix();
        for polynomial_size in POLYNOMIAL_SIZES {
            let plan = format!("{:?}", Fft::new(PolynomialSize(polynomial_size)));
            let n = polynomial_size / 2;
            let expected = format!("Plan {{ base_algo: Dif4, base_size: {n}, fft_size: {n} }}");
            assert!(plan.contains(&expected), "size {polynomial_size} does not use {expected}");
        }
    }
}
