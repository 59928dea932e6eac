//! Decryption with the secret key.

use cipherloom_primitives::{CiphertextForm, FheType, U256};
use tfhe::{
    ClientKey,
    core_crypto::prelude::{GlweSecretKeyOwned, PlaintextCount, PlaintextList, decrypt_glwe_ciphertext},
    integer::{self, BooleanBlock, RadixCiphertext},
    safe_serialization::safe_deserialize,
    shortint::client_key::atomic_pattern::AtomicPatternClientKey,
};
use zeroize::{Zeroize, Zeroizing};

use crate::{
    backend::Decrypt,
    ciphertext::Value,
    cpu::packing,
    error::FheError,
    keys::ClearKey,
    parameters::CpuParameters,
    stored::{PackedBlock, StoredFormat, clear_deserialize, clear_unpack, form_of},
};

/// The most bytes accepted as a secret key: several times the largest of any parameter set.
pub(crate) const MAX_SECRET_KEY_BYTES: u64 = 1 << 20;

/// Decrypts ciphertexts of a CPU key set.
pub(crate) struct CpuDecryptor {
    /// Taken out only to be wiped.
    key: Option<Secrets>,
    stored: StoredFormat,
}

impl CpuDecryptor {
    pub(crate) fn read(parameters: &CpuParameters, bytes: &[u8], stored: StoredFormat) -> Result<Self, FheError> {
        let client_key: ClientKey = safe_deserialize(bytes, MAX_SECRET_KEY_BYTES).map_err(|reason| FheError::key("secret key", reason))?;
        let matches = client_key.computation_parameters() == parameters.compute();
        let secrets = Secrets::of(client_key);
        if !matches || !secrets.fit(&stored) {
            secrets.wipe();
            return Err(FheError::key("secret key", "is of another parameter set"));
        }
        Ok(Self {
            key: Some(secrets),
            stored,
        })
    }

    fn secrets(&self) -> Result<&Secrets, FheError> {
        self.key.as_ref().ok_or_else(|| FheError::key("secret key", "was wiped"))
    }

    fn raw(&self, ty: FheType, bytes: &[u8]) -> Result<U256, FheError> {
        let ciphertext = self.stored.read(ty, bytes)?;
        let key = &self.secrets()?.computation;
        match &ciphertext.value {
            Value::Clear(_) => Err(FheError::ForeignCiphertext),
            Value::Bool(bit) => Ok(U256::from(decrypt_bool(key, bit))),
            Value::Radix(radix) => Ok(ty.truncate(decrypt_radix(key, radix))),
        }
    }

    /// Decrypts without the bootstraps that would bring the blocks back: the packed ciphertext has a secret key of its own.
    fn packed(&self, ty: FheType, bytes: &[u8]) -> Result<U256, FheError> {
        let value = self.stored.read_packed(ty, bytes)?;
        let key = self.secrets()?.packing.as_ref();
        let key = key.ok_or_else(|| FheError::key("secret key", "has no secret of the packed form"))?;
        let packed = packing::restore(self.stored.packed, &value);
        let mut phases = PlaintextList::new(0, PlaintextCount(self.stored.packed.polynomial_size));
        decrypt_glwe_ciphertext(key, &packed, &mut phases);
        let phases = Zeroizing::new(phases.into_container());
        let mut secret = phases.iter().map(|phase| packing::digit(*phase));
        let mut plain = U256::ZERO;
        for (index, block) in value.blocks.iter().enumerate() {
            let digit = match block {
                PackedBlock::Public(digit) => *digit,
                PackedBlock::Secret => secret.next().unwrap_or_default(),
            };
            plain |= U256::from(digit) << (2 * index);
        }
        Ok(ty.truncate(plain))
    }
}

impl Decrypt for CpuDecryptor {
    fn decrypt(&self, ty: FheType, bytes: &[u8]) -> Result<U256, FheError> {
        match form_of(bytes) {
            Some(CiphertextForm::Packed) => self.packed(ty, bytes),
            // Reading says what is wrong with anything else.
            Some(CiphertextForm::Raw) | None => self.raw(ty, bytes),
        }
    }
}

impl Drop for CpuDecryptor {
    fn drop(&mut self) {
        if let Some(secrets) = self.key.take() {
            secrets.wipe();
        }
    }
}

/// The secrets that decryption needs.
struct Secrets {
    /// Of raw ciphertexts.
    computation: integer::ClientKey,
    /// Of packed ones.
    packing: Option<GlweSecretKeyOwned<u64>>,
}

impl Secrets {
    /// Takes the secrets out of a whole secret key and overwrites that of public-key encryption. That of the random key is only freed:
    /// its type gives no access to its memory.
    fn of(client_key: ClientKey) -> Self {
        let (computation, compact, packing, ..) = client_key.into_raw_parts();
        if let Some((compact, _)) = compact {
            let (secret, _) = compact.into_raw_parts().into_raw_parts();
            secret.into_container().zeroize();
        }
        Self {
            computation,
            packing: packing.map(|keys| keys.into_raw_parts().post_packing_ks_key),
        }
    }

    /// Says whether the secret of the packed form has the size that goes with this format.
    fn fit(&self, stored: &StoredFormat) -> bool {
        self.packing.as_ref().is_some_and(|key| {
            key.glwe_dimension().0 == stored.packed.glwe_dimension && key.polynomial_size().0 == stored.packed.polynomial_size
        })
    }

    fn wipe(self) {
        wipe_integer(self.computation);
        if let Some(packing) = self.packing {
            packing.into_container().zeroize();
        }
    }
}

fn decrypt_bool(key: &integer::ClientKey, bit: &BooleanBlock) -> bool {
    key.decrypt_bool(bit)
}

fn decrypt_radix(key: &integer::ClientKey, radix: &RadixCiphertext) -> U256 {
    let value: integer::U256 = key.decrypt_radix(radix);
    let mut bytes = [0u8; 32];
    value.copy_to_le_byte_slice(&mut bytes);
    let plain = U256::from_le_bytes(bytes);
    bytes.zeroize();
    plain
}

/// Lets something use the secret of computations, and wipes it afterwards.
pub(crate) fn with_computation_secret<T>(
    parameters: &CpuParameters,
    bytes: &[u8],
    use_it: impl FnOnce(&integer::ClientKey) -> T,
) -> Result<T, FheError> {
    let client_key: ClientKey = safe_deserialize(bytes, MAX_SECRET_KEY_BYTES).map_err(|reason| FheError::key("secret key", reason))?;
    let matches = client_key.computation_parameters() == parameters.compute();
    let secrets = Secrets::of(client_key);
    let result = matches.then(|| use_it(&secrets.computation));
    secrets.wipe();
    result.ok_or_else(|| FheError::key("secret key", "is of another parameter set"))
}

/// Overwrites a secret key's memory before it is freed. tfhe does not do this itself.
pub(crate) fn wipe(client_key: ClientKey) {
    Secrets::of(client_key).wipe();
}

fn wipe_integer(key: integer::ClientKey) {
    match key.into_raw_parts().atomic_pattern {
        AtomicPatternClientKey::Standard(key) => {
            let (glwe, lwe, ..) = key.into_raw_parts();
            glwe.into_container().zeroize();
            lwe.into_container().zeroize();
        }
        AtomicPatternClientKey::KeySwitch32(key) => {
            let (glwe, lwe, _) = key.into_raw_parts();
            glwe.into_container().zeroize();
            lwe.into_container().zeroize();
        }
    }
}

/// Reads the plaintext out of ciphertexts of a clear key set.
pub(crate) struct ClearDecryptor {
    key: ClearKey,
}

impl ClearDecryptor {
    pub(crate) const fn new(key: ClearKey) -> Self {
        Self { key }
    }
}

impl Decrypt for ClearDecryptor {
    fn decrypt(&self, ty: FheType, bytes: &[u8]) -> Result<U256, FheError> {
        let ciphertext = match form_of(bytes) {
            Some(CiphertextForm::Packed) => clear_unpack(&self.key, ty, bytes)?,
            Some(CiphertextForm::Raw) | None => clear_deserialize(&self.key, ty, bytes)?,
        };
        match ciphertext.value {
            Value::Clear(value) => Ok(value),
            Value::Bool(_) | Value::Radix(_) => Err(FheError::ForeignCiphertext),
        }
    }
}
