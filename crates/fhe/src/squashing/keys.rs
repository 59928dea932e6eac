//! What noise squashing needs besides a key set: made once, from the key set's secret key.

use std::sync::Arc;

use cipherloom_primitives::{FheType, U256};
use tfhe::{
    integer::{
        ciphertext::{CompressedNoiseSquashingCompressionKey, NoiseSquashingCompressionPrivateKey},
        noise_squashing::{CompressedNoiseSquashingKey, NoiseSquashingPrivateKey},
    },
    named::Named,
    safe_serialization::{safe_deserialize_conformant, safe_serialize},
    shortint::parameters::{
        MetaNoiseSquashingParameters,
        noise_squashing::{NoiseSquashingCompressionParameters, NoiseSquashingParameters},
    },
};
use zeroize::Zeroizing;

use super::{NoiseSquasher, SquashedValue};
use crate::{
    cpu::Pools,
    decrypt::with_computation_secret,
    error::FheError,
    fft_plan,
    keys::{EvaluationKeys, KeySet, KeySetId},
    parameters::{CpuParameters, ParameterSet},
};

/// The most bytes accepted as one of the evaluation keys: twice the largest of any parameter set.
const MAX_KEY_BYTES: u64 = 1 << 29;

/// Everything that a key set needs for noise squashing.
pub struct SquashingMaterial {
    /// Squashes; 271 MB with production parameters.
    pub squashing_key: Vec<u8>,
    /// Packs squashed values into lists; 134 MB with production parameters.
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

/// What a file of secrets begins with.
const SECRETS_MAGIC: [u8; 5] = *b"CLSS\x01";
/// The most bits of a secret: several times those of any parameter set.
const MAX_SECRET_BITS: usize = 1 << 16;

impl SquashingSecrets {
    /// Decrypts the only value of a packed list, as its owner can while the secrets are not shared yet: to see whether keys belong together.
    ///
    /// # Errors
    /// As [`SquashedValue::from_list`].
    pub fn decrypt_list(&self, parameters: ParameterSet, ty: FheType, list: &[u8]) -> Result<U256, FheError> {
        let values = SquashedValue::from_list(parameters, &[ty], list)?;
        let value = values.first().filter(|value| value.dimension == self.listed.len());
        let value = value.ok_or_else(|| FheError::key("secrets of squashed values", "are of other parameters"))?;
        let mut plaintext = U256::ZERO;
        for (index, ciphertext) in value.words.chunks_exact(value.dimension + 1).enumerate() {
            let Some((body, mask)) = ciphertext.split_last() else { continue };
            let product = mask
                .iter()
                .zip(self.listed.iter())
                .fold(0u128, |sum, (number, bit)| sum.wrapping_add(number.wrapping_mul(*bit)));
            // Below a bit of padding there are four bits of plaintext, then noise.
            let rounded = body.wrapping_sub(product).wrapping_add(1 << 122) >> 123;
            plaintext |= U256::from(rounded & 15) << (4 * index);
        }
        Ok(ty.truncate(plaintext))
    }

    /// Writes them for a file: magic bytes, the key set, and per secret its number of bits (32 bits, little-endian) and the bits, lowest first.
    pub(crate) fn to_bytes(&self, key_set: KeySetId) -> Zeroizing<Vec<u8>> {
        let size = SECRETS_MAGIC.len()
            + 32
            + [&self.squashed, &self.listed]
                .map(|bits| 4 + bits.len().div_ceil(8))
                .iter()
                .sum::<usize>();
        // Reserved in one piece: growing would leave copies of a secret behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(size));
        bytes.extend_from_slice(&SECRETS_MAGIC);
        bytes.extend_from_slice(key_set.as_bytes());
        for secret in [&self.squashed, &self.listed] {
            bytes.extend_from_slice(&u32::try_from(secret.len()).unwrap_or(u32::MAX).to_le_bytes());
            let packed = secret.chunks(8).map(|bits| {
                let bits = bits.iter().enumerate();
                bits.fold(0u8, |byte, (place, bit)| byte | (u8::from(*bit == 1) << place))
            });
            bytes.extend(packed);
        }
        bytes
    }

    /// Reads a file of secrets, which must be a key set's and as long as its parameters say.
    pub(crate) fn from_bytes(parameters: ParameterSet, key_set: KeySetId, bytes: &[u8]) -> Result<Self, FheError> {
        let refused = |reason: &str| FheError::key("secrets of squashed values", reason);
        let cpu = cpu_parameters(parameters)?;
        let (squashing, compression) = squashing_parameters(&cpu)?;
        let NoiseSquashingParameters::Classic(classic) = squashing.parameters else {
            return Err(refused("are of parameters that this software does not share among committees"));
        };
        let expected = [
            classic.glwe_dimension.0 * classic.polynomial_size.0,
            compression.packing_ks_glwe_dimension.0 * compression.packing_ks_polynomial_size.0,
        ];
        let rest = bytes
            .strip_prefix(&SECRETS_MAGIC)
            .ok_or_else(|| refused("are not in a file of version 1"))?;
        let mut rest = rest
            .strip_prefix(key_set.as_bytes())
            .ok_or_else(|| refused("are those of another key set"))?;
        let mut secrets = Vec::with_capacity(2);
        for expected in expected {
            let (length, after) = rest.split_first_chunk::<4>().ok_or_else(|| refused("are cut short"))?;
            let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
            if length != expected || length > MAX_SECRET_BITS {
                return Err(refused("are of other parameters"));
            }
            let (packed, after) = after.split_at_checked(length.div_ceil(8)).ok_or_else(|| refused("are cut short"))?;
            let mut bits = Zeroizing::new(Vec::with_capacity(packed.len() * 8));
            bits.extend(
                packed
                    .iter()
                    .flat_map(|byte| (0..8).map(move |place| u128::from((byte >> place) & 1))),
            );
            bits.truncate(length);
            secrets.push(bits);
            rest = after;
        }
        match (rest.is_empty(), secrets.pop(), secrets.pop()) {
            (true, Some(listed), Some(squashed)) => Ok(Self { squashed, listed }),
            _ => Err(refused("are followed by something else")),
        }
    }
}

impl SquashingMaterial {
    /// Makes fresh keys and secrets for a key set whose secret key is there. With production parameters this takes half a minute.
    ///
    /// # Errors
    /// [`FheError::KeyFile`] or [`FheError::KeyMaterial`] if the secret key cannot be used, or the parameters have no noise squashing.
    pub fn generate(key_set: &KeySet) -> Result<Self, FheError> {
        Self::of_secret_key(&cpu_parameters(key_set.parameters())?, &key_set.secret_key_bytes()?)
    }

    /// Makes them for a secret key of these parameters.
    pub(crate) fn of_secret_key(parameters: &CpuParameters, secret_key: &[u8]) -> Result<Self, FheError> {
        let (squashing, compression) = squashing_parameters(parameters)?;
        fft_plan::fix();
        let private = NoiseSquashingPrivateKey::new(squashing.parameters);
        let private_packing = NoiseSquashingCompressionPrivateKey::new(compression);
        let squashing_key = with_computation_secret(parameters, secret_key, |secret| {
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
        Self::with_keys(key_set.parameters(), key_set.evaluation_keys()?, squashing_key, packing_key)
    }

    /// Reads both keys, for a key set whose other evaluation keys are in memory.
    pub(crate) fn with_keys(
        parameters: ParameterSet,
        computation: Arc<EvaluationKeys>,
        squashing_key: &[u8],
        packing_key: &[u8],
    ) -> Result<Self, FheError> {
        let parameters = cpu_parameters(parameters)?;
        let (squashing, compression) = squashing_parameters(&parameters)?;
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
            computation,
            squashing: squashing_key.decompress(),
            packing: packing_key.decompress().into_raw_parts(),
            pools: Pools::for_this_machine(),
        })
    }
}

fn cpu_parameters(parameters: ParameterSet) -> Result<CpuParameters, FheError> {
    let clear = || FheError::key("key set", "is one of the clear backend, whose noise cannot be squashed");
    parameters.cpu().ok_or_else(clear)
}

fn squashing_parameters(
    parameters: &CpuParameters,
) -> Result<(MetaNoiseSquashingParameters, NoiseSquashingCompressionParameters), FheError> {
    let missing = || FheError::key("key set", "is of parameters without noise squashing");
    let squashing = parameters.squashing().ok_or_else(missing)?;
    Ok((squashing, squashing.compression_parameters.ok_or_else(missing)?))
}

fn write<T: serde::Serialize + tfhe::Versionize + Named>(what: &str, object: &T) -> Result<Vec<u8>, FheError> {
    let mut bytes = Vec::new();
    safe_serialize(object, &mut bytes, MAX_KEY_BYTES).map_err(|reason| FheError::key(what, reason))?;
    Ok(bytes)
}
