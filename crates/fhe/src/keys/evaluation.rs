//! The keys a server computes with, in the form they are used.

use tfhe::{
    CompressedServerKey, ReRandomizationKey,
    core_crypto::prelude::LweKeyswitchKeyOwned,
    integer::{ServerKey, oprf::OprfServerKey},
    safe_serialization::safe_deserialize_conformant,
    shortint::{self, EncryptionKeyChoice, list_compression::CompressionKey, server_key::ShortintBootstrappingKey},
};

use crate::{error::FheError, fft_plan, input::InputKeys, parameters::CpuParameters, stored::StoredFormat};

/// The most bytes accepted as an evaluation key: twice the largest of any parameter set.
pub(crate) const MAX_EVALUATION_KEY_BYTES: u64 = 1 << 28;

/// The public evaluation keys of a CPU key set, decompressed and in the Fourier domain: several hundred megabytes with
/// production parameters, so share one behind an `Arc`.
pub struct EvaluationKeys {
    /// Bootstraps and key switches of the computation.
    pub(crate) integer: ServerKey,
    /// Takes the blocks of input lists from the key of public-key encryption to the computation's small key.
    pub(crate) casting: LweKeyswitchKeyOwned<u64>,
    /// Makes random values; a key of its own, so that the pseudo-random function shares no secret with computations.
    pub(crate) oprf: OprfServerKey,
    /// Switches blocks into one packed ciphertext.
    pub(crate) packing: CompressionKey,
    /// Bootstraps the blocks of a packed ciphertext.
    pub(crate) unpacking: ShortintBootstrappingKey<u64>,
    /// Encrypts zeros to the computation's key.
    pub(crate) randomising: shortint::CompactPublicKey,
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
        let (integer, casting, packing, unpacking, _, _, randomising, oprf, _transciphering, _tag) = key.decompress().into_raw_parts();
        let missing = |what: &str| FheError::key("evaluation key", format!("has no {what} key"));
        let (casting, shift, small, _) = casting.ok_or_else(|| missing("casting"))?.into_raw_parts().into_raw_parts();
        if shift != 0 || small != EncryptionKeyChoice::Small {
            return Err(FheError::key("evaluation key", "casts inputs to blocks of another size or key"));
        }
        let Some(ReRandomizationKey::DerivedCPKWithoutKeySwitch { cpk }) = randomising else {
            return Err(missing("re-randomisation"));
        };
        Ok(Self {
            integer,
            casting,
            oprf: oprf.ok_or_else(|| missing("random"))?,
            packing: packing.ok_or_else(|| missing("packing"))?.into_raw_parts(),
            unpacking: unpacking.ok_or_else(|| missing("unpacking"))?.into_raw_parts().into_raw_parts().0,
            randomising: cpk.into_raw_parts(),
            input,
            stored,
        })
    }
}
