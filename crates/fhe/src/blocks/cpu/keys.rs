//! The two keys of a bootstrap, taken out of a key set's evaluation keys.

use tfhe::{
    core_crypto::{fft_impl::fft64::crypto::bootstrap::FourierLweBootstrapKeyView, prelude::LweKeyswitchKeyOwned},
    shortint::{
        self, PBSOrder,
        atomic_pattern::AtomicPatternServerKey,
        server_key::{ModulusSwitchConfiguration, ShortintBootstrappingKey},
    },
};

use super::rotate::POLYNOMIALS;
use crate::{
    blocks::{MAX_BLOCK_VALUE, MAX_NOISE_LEVEL},
    error::FheError,
    keys::EvaluationKeys,
};

/// A keyswitch from the blocks' large key to a small one, then a bootstrap back.
pub(super) struct BootstrapKeys<'a> {
    pub(super) keyswitch: &'a LweKeyswitchKeyOwned<u64>,
    pub(super) bootstrap: FourierLweBootstrapKeyView<'a>,
    /// How the keyswitched block is rounded to the ring's exponents. Production parameters centre the error of the rounding,
    /// without which their failure probability would not hold.
    pub(super) modulus_switch: &'a ModulusSwitchConfiguration<u64>,
}

impl<'a> BootstrapKeys<'a> {
    /// Finds the keys, whose kind is the same in all parameter sets.
    ///
    /// # Errors
    /// [`FheError::KeyMaterial`] if they are of another kind after all.
    pub(super) fn of(keys: &'a EvaluationKeys) -> Result<Self, FheError> {
        let unsupported = |reason: &str| FheError::key("evaluation key", reason);
        let key: &shortint::ServerKey = keys.integer.as_ref();
        let values = key.message_modulus.0 * key.carry_modulus.0;
        if values != u64::from(MAX_BLOCK_VALUE) + 1 || key.max_noise_level.get() < MAX_NOISE_LEVEL.into() {
            return Err(unsupported("has blocks of another size"));
        }
        if !key.ciphertext_modulus.is_native_modulus() {
            return Err(unsupported("has a modulus other than 2^64"));
        }
        let AtomicPatternServerKey::Standard(standard) = &key.atomic_pattern else {
            return Err(unsupported("has another atomic pattern"));
        };
        let ShortintBootstrappingKey::Classic {
            bsk,
            modulus_switch_noise_reduction_key,
        } = &standard.bootstrapping_key
        else {
            return Err(unsupported("is for bootstraps over groups of bits"));
        };
        if standard.pbs_order != PBSOrder::KeyswitchBootstrap {
            return Err(unsupported("bootstraps before it switches keys"));
        }
        if bsk.decomposition_level_count().0 != 1 || bsk.glwe_size().0 != POLYNOMIALS {
            return Err(unsupported("rotates more than one pair of polynomials at a time"));
        }
        Ok(Self {
            keyswitch: &standard.key_switching_key,
            bootstrap: bsk.as_view(),
            modulus_switch: modulus_switch_noise_reduction_key,
        })
    }
}
