//! What a parameter set is made of, in numbers, for people who have to judge it.

use serde::Serialize;
use tfhe::core_crypto::prelude::DynamicDistribution;

use super::{CpuParameters, ParameterSet};

/// The numbers of a parameter set with real ciphertexts.
///
/// Security and failure probability are what the authors of the parameters state for them (tfhe-rs 1.8,
/// `V1_8_META_PARAM_CPU_2_2_KS_PBS_PKE_TO_SMALL_ZKV2_TUNIFORM_2M128`); nothing here estimates them again.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ParameterDescription {
    /// Bits of security; zero where a set gives none.
    pub security_bits: u16,
    /// The binary logarithm of the probability that a bootstrap gives a wrong result. Of no meaning without security.
    pub failure_probability_log2: f64,
    /// Bits of plaintext in a block, and as many of carry.
    pub message_bits: u32,
    /// Dimension and noise of the small key, which bootstraps start from.
    pub small_key: KeyDescription,
    /// Dimension and noise of the large key, which blocks are stored under.
    pub large_key: KeyDescription,
    /// Dimension and noise of the key that clients encrypt to.
    pub public_key: KeyDescription,
    /// The degree of the polynomials that bootstraps compute with.
    pub polynomial_size: usize,
    /// How often noise of one bootstrap may be added up before the next.
    pub max_noise_level: u64,
}

/// A secret key's size and the noise of what is encrypted under it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeyDescription {
    /// How many bits the secret has.
    pub dimension: usize,
    /// The distribution of the noise.
    pub noise: String,
}

impl ParameterSet {
    /// Describes the numbers behind the set; `None` for the clear backend, which encrypts nothing.
    #[must_use]
    pub fn description(self) -> Option<ParameterDescription> {
        let parameters: CpuParameters = self.cpu()?;
        let compute = parameters.compute();
        let large_dimension = compute.glwe_dimension().0.saturating_mul(compute.polynomial_size().0);
        Some(ParameterDescription {
            security_bits: if self.is_secure() { 128 } else { 0 },
            failure_probability_log2: compute.log2_p_fail(),
            message_bits: compute.message_modulus().0.ilog2(),
            small_key: key(compute.lwe_dimension().0, compute.lwe_noise_distribution()),
            large_key: key(large_dimension, compute.glwe_noise_distribution()),
            public_key: key(
                parameters.public_key.encryption_lwe_dimension.0,
                parameters.public_key.encryption_noise_distribution,
            ),
            polynomial_size: compute.polynomial_size().0,
            max_noise_level: compute.max_noise_level().get(),
        })
    }
}

fn key(dimension: usize, noise: DynamicDistribution<u64>) -> KeyDescription {
    let noise = match noise {
        DynamicDistribution::TUniform(uniform) => format!("TUniform(2^{})", uniform.bound_log2()),
        DynamicDistribution::Gaussian(gaussian) => format!("Gaussian(standard deviation {:e})", gaussian.std),
    };
    KeyDescription { dimension, noise }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_production_set_says_what_it_promises() {
        let description = ParameterSet::Production.description().unwrap();
        assert_eq!(description.security_bits, 128);
        assert!(description.failure_probability_log2 <= -128.0, "{description:?}");
        assert_eq!((description.message_bits, description.polynomial_size), (2, 2048));
        assert!(description.small_key.noise.starts_with("TUniform("), "{description:?}");
    }

    #[test]
    fn sets_without_security_promise_none() {
        for set in ParameterSet::ALL.iter().filter(|set| !set.is_secure()) {
            assert!(set.description().is_none_or(|description| description.security_bits == 0), "{set}");
        }
    }
}
