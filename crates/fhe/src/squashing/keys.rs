//! What noise squashing needs besides a key set: made once, from the key set's secret key.

use tfhe::{
    integer::{
        ciphertext::{CompressedNoiseSquashingCompressionKey, NoiseSquashingCompressionPrivateKey},
        noise_squashing::{CompressedNoiseSquashingKey, NoiseSquashingPrivateKey},
    },
    named::Named,
    safe_serialization::{safe_deserialize_conformant, safe_serialize},
};
use zeroize::Zeroizing;

use super::NoiseSquasher;
use crate::{cpu::Pools, decrypt::with_computation_secret, error::FheError, fft_plan, keys::KeySet, parameters::CpuParameters};

/// The most bytes accepted as one of the evaluation keys: twice the largest of any parameter set.
const MAX_KEY_BYTES: u64 = 1 << 29;

/// Everything that a key set needs for noise squashing.
pub struct SquashingMaterial {
    /// Squashes; 270 MB with production parameters.
    pub squashing_key: Vec<u8>,
    /// Packs squashed values into lists; 100 MB with production parameters.
    pub packing_key: Vec<u8>,
    /// What squashed values are decrypted with: to be shared among a committee and then dropped.
    pub secrets: SquashingSecrets,
}

/// The secrets of squashed values, as lists of bits. Wiped when dropped; neither printable nor copyable.
pub struct SquashingSecrets {
    squashed: Zeroizing<Vec<u128>>,
    listed: Zeroizing<Vec<u128>>,
}

impl SquashingSecrets {
    /// Returns the bits of the secret of squashed values.
    #[must_use]
    pub fn squashed(&self) -> &[u128] {
        &self.squashed
    }

    /// Returns the bits of the secret of squashed values taken out of a list.
    #[must_use]
    pub fn listed(&self) -> &[u128] {
        &self.listed
    }
}

impl SquashingMaterial {
    /// Makes fresh keys and secrets for a key set whose secret key is there. With production parameters this takes a minute or two.
    ///
    /// # Errors
    /// [`FheError::KeyFile`] or [`FheError::KeyMaterial`] if the secret key cannot be used, or the parameters have no noise squashing.
    pub fn generate(key_set: &KeySet) -> Result<Self, FheError> {
        let parameters = cpu_parameters(key_set)?;
        let missing = || FheError::key("key set", "is of parameters without noise squashing");
        let squashing = parameters.squashing().ok_or_else(missing)?;
        let compression = squashing.compression_parameters.ok_or_else(missing)?;
        fft_plan::fix();
        let private = NoiseSquashingPrivateKey::new(squashing.parameters);
        let private_packing = NoiseSquashingCompressionPrivateKey::new(compression);
        let squashing_key = with_computation_secret(&parameters, &key_set.secret_key_bytes()?, |secret| {
            write("noise squashing key", &private.new_compressed_noise_squashing_key(secret))
        })??;
        let packing_key = private.new_compressed_noise_squashing_compression_key(&private_packing);
        let packing_key = write("packing key of squashed values", &packing_key)?;
        let (squashed, _) = private.into_raw_parts().into_raw_parts();
        let (listed, _) = private_packing.into_raw_parts().into_raw_parts();
        Ok(Self {
            squashing_key,
            packing_key,
            secrets: SquashingSecrets {
                squashed: Zeroizing::new(squashed.into_container()),
                listed: Zeroizing::new(listed.into_container()),
            },
        })
    }
}

impl NoiseSquasher {
    /// Reads both evaluation keys and decompresses them: 1.8 GB with production parameters.
    ///
    /// # Errors
    /// [`FheError::KeyMaterial`] if they are not what this key set's parameters need.
    pub fn open(key_set: &KeySet, squashing_key: &[u8], packing_key: &[u8]) -> Result<Self, FheError> {
        let parameters = cpu_parameters(key_set)?;
        let missing = || FheError::key("key set", "is of parameters without noise squashing");
        let squashing = parameters.squashing().ok_or_else(missing)?;
        let compression = squashing.compression_parameters.ok_or_else(missing)?;
        fft_plan::fix();
        let conformance = (parameters.compute(), squashing.parameters)
            .try_into()
            .map_err(|reason| FheError::key("noise squashing key", reason))?;
        let squashing_key: CompressedNoiseSquashingKey = safe_deserialize_conformant(squashing_key, MAX_KEY_BYTES, &conformance)
            .map_err(|reason| FheError::key("noise squashing key", reason))?;
        let conformance = (squashing.parameters, compression).into();
        let packing_key: CompressedNoiseSquashingCompressionKey = safe_deserialize_conformant(packing_key, MAX_KEY_BYTES, &conformance)
            .map_err(|reason| FheError::key("packing key of squashed values", reason))?;
        Ok(Self {
            computation: key_set.evaluation_keys()?,
            squashing: squashing_key.decompress(),
            packing: packing_key.decompress().into_raw_parts(),
            pools: Pools::for_this_machine(),
        })
    }
}

fn cpu_parameters(key_set: &KeySet) -> Result<CpuParameters, FheError> {
    let clear = || FheError::key("key set", "is one of the clear backend, whose noise cannot be squashed");
    key_set.parameters().cpu().ok_or_else(clear)
}

fn write<T: serde::Serialize + tfhe::Versionize + Named>(what: &str, object: &T) -> Result<Vec<u8>, FheError> {
    let mut bytes = Vec::new();
    safe_serialize(object, &mut bytes, MAX_KEY_BYTES).map_err(|reason| FheError::key(what, reason))?;
    Ok(bytes)
}
