//! Decryption with the secret key.

use cipherloom_primitives::{FheType, U256};
use tfhe::{
    ClientKey,
    integer::{self, BooleanBlock, RadixCiphertext},
    safe_serialization::safe_deserialize,
    shortint::client_key::atomic_pattern::AtomicPatternClientKey,
};
use zeroize::Zeroize;

use crate::{
    backend::Decrypt,
    ciphertext::Value,
    error::FheError,
    keys::ClearKey,
    parameters::CpuParameters,
    stored::{StoredFormat, clear_deserialize},
};

/// The most bytes accepted as a secret key: several times the largest of any parameter set.
pub(crate) const MAX_SECRET_KEY_BYTES: u64 = 1 << 20;

/// Decrypts ciphertexts of a CPU key set.
pub(crate) struct CpuDecryptor {
    /// Taken out only to be wiped.
    key: Option<integer::ClientKey>,
    stored: StoredFormat,
}

impl CpuDecryptor {
    pub(crate) fn read(parameters: &CpuParameters, bytes: &[u8], stored: StoredFormat) -> Result<Self, FheError> {
        let client_key: ClientKey = safe_deserialize(bytes, MAX_SECRET_KEY_BYTES).map_err(|reason| FheError::key("secret key", reason))?;
        let matches = client_key.computation_parameters() == parameters.compute();
        let key = wipe_all_but_integer(client_key);
        if !matches {
            wipe_integer(key);
            return Err(FheError::key("secret key", "is of another parameter set"));
        }
        Ok(Self { key: Some(key), stored })
    }

    fn value(&self, ty: FheType, bytes: &[u8]) -> Result<U256, FheError> {
        let ciphertext = self.stored.read(ty, bytes)?;
        let key = self.key.as_ref().ok_or_else(|| FheError::key("secret key", "was wiped"))?;
        match &ciphertext.value {
            Value::Clear(_) => Err(FheError::ForeignCiphertext),
            Value::Bool(bit) => Ok(U256::from(decrypt_bool(key, bit))),
            Value::Radix(radix) => Ok(ty.truncate(decrypt_radix(key, radix))),
        }
    }
}

impl Decrypt for CpuDecryptor {
    fn decrypt(&self, ty: FheType, bytes: &[u8]) -> Result<U256, FheError> {
        self.value(ty, bytes)
    }
}

impl Drop for CpuDecryptor {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            wipe_integer(key);
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

/// Overwrites a secret key's memory before it is freed. tfhe does not do this itself.
pub(crate) fn wipe(client_key: ClientKey) {
    wipe_integer(wipe_all_but_integer(client_key));
}

/// Takes the computation's secret out of a whole secret key and overwrites the rest. The secrets of list compression and
/// of the random key are only freed: their types give no access to their memory.
fn wipe_all_but_integer(client_key: ClientKey) -> integer::ClientKey {
    let (key, compact, ..) = client_key.into_raw_parts();
    if let Some((compact, _)) = compact {
        let (secret, _) = compact.into_raw_parts().into_raw_parts();
        secret.into_container().zeroize();
    }
    key
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
        match clear_deserialize(&self.key, ty, bytes)?.value {
            Value::Clear(value) => Ok(value),
            Value::Bool(_) | Value::Radix(_) => Err(FheError::ForeignCiphertext),
        }
    }
}
