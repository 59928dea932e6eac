//! The keys a server computes with, in the form they are used.

use tfhe::{
    CompressedServerKey,
    integer::{
        ServerKey,
        key_switching_key::{KeySwitchingKeyMaterial, KeySwitchingKeyView},
        oprf::OprfServerKey,
    },
    safe_serialization::safe_deserialize_conformant,
};

use crate::{error::FheError, fft_plan, input::InputKeys, parameters::CpuParameters, stored::StoredFormat};

/// The most bytes accepted as an evaluation key: twice the largest of any parameter set.
pub(crate) const MAX_EVALUATION_KEY_BYTES: u64 = 1 << 27;

/// The public evaluation keys of a CPU key set, decompressed and in the Fourier domain: several hundred megabytes with
/// production parameters, so share one behind an `Arc`.
pub struct EvaluationKeys {
    /// Bootstraps and key switches of the computation.
    pub(crate) integer: ServerKey,
    /// Takes input lists from the parameters of public-key encryption to those of the computation.
    pub(crate) casting: KeySwitchingKeyMaterial,
    /// Makes random values; a key of its own, so that the pseudo-random function shares no secret with computations.
    pub(crate) oprf: OprfServerKey,
    /// What input lists are checked with.
    pub(crate) input: InputKeys,
    /// How ciphertexts of this key set are stored.
    pub(crate) stored: StoredFormat,
}

impl EvaluationKeys {
    /// Reads the compressed form and decompresses it, which takes about a second of CPU with production parameters.
    pub(crate) fn read(parameters: &CpuParameters, compressed: &[u8], input: InputKeys, stored: StoredFormat) -> Result<Self, FheError> {
        // Decompression goes to the Fourier domain, where the plan decides the bits.
        fft_plan::fix();
        let conformance = parameters.evaluation_config().into();
        let key: CompressedServerKey = safe_deserialize_conformant(compressed, MAX_EVALUATION_KEY_BYTES, &conformance)
            .map_err(|reason| FheError::key("evaluation key", reason))?;
        let (integer, casting, .., oprf, _transciphering, _tag) = key.decompress().into_raw_parts();
        match (casting, oprf) {
            (Some(casting), Some(oprf)) => Ok(Self {
                integer,
                casting,
                oprf,
                input,
                stored,
            }),
            _ => Err(FheError::key("evaluation key", "has no casting or random key")),
        }
    }

    /// Returns the casting key bound to the computation key, as list expansion takes it.
    pub(crate) fn casting_key(&self) -> KeySwitchingKeyView<'_> {
        KeySwitchingKeyView::from_keyswitching_key_material(self.casting.as_view(), &self.integer, None)
    }
}
