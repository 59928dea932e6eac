//! Users' transport keys: ML-KEM-512 in the wrapping that published clients use (public protocol, section 5.2).

use cipherloom_primitives::decryption::USER_PUBLIC_KEY_BYTES;
use ml_kem::{Decapsulate, KeyExport, ml_kem_512};
use zeroize::Zeroizing;

use crate::error::SigncryptionError;

/// The length of a bare ML-KEM-512 encapsulation key.
pub const RAW_PUBLIC_KEY_BYTES: usize = 800;
/// The length of an ML-KEM-512 ciphertext.
pub const KEM_CIPHERTEXT_BYTES: usize = 768;

const HEADER_BYTES: usize = USER_PUBLIC_KEY_BYTES - RAW_PUBLIC_KEY_BYTES;

/// A user's public key as it was sent, checked to hold an ML-KEM-512 encapsulation key.
#[derive(Clone, Debug)]
pub struct UserPublicKey {
    blob: Vec<u8>,
    key: ml_kem_512::EncapsulationKey,
}

/// A user's key pair, made for one permit. It is wiped from memory when dropped, and is neither printable nor copyable.
pub struct UserKeypair {
    seed: Zeroizing<[u8; 64]>,
    public: UserPublicKey,
}

impl UserPublicKey {
    /// Reads a key as clients send it: a 69-byte header, which differs between client generations and is only hashed, and the
    /// 800-byte encapsulation key.
    ///
    /// # Errors
    /// [`SigncryptionError::PublicKeyLength`] unless there are 869 bytes, [`SigncryptionError::PublicKey`] if the key's
    /// coefficients are out of range.
    pub fn from_blob(blob: &[u8]) -> Result<Self, SigncryptionError> {
        if blob.len() != USER_PUBLIC_KEY_BYTES {
            return Err(SigncryptionError::PublicKeyLength(blob.len()));
        }
        let raw = blob.split_at_checked(HEADER_BYTES).map_or(blob, |(_, raw)| raw);
        let raw = raw.try_into().map_err(|_| SigncryptionError::PublicKeyLength(blob.len()))?;
        let key = ml_kem_512::EncapsulationKey::new(raw).map_err(|_| SigncryptionError::PublicKey)?;
        Ok(Self { blob: blob.to_vec(), key })
    }

    fn from_key(key: ml_kem_512::EncapsulationKey) -> Self {
        let mut blob = header();
        blob.extend_from_slice(&key.to_bytes());
        Self { blob, key }
    }

    /// Returns the 869 bytes as they were sent; requests are signed over these.
    #[must_use]
    pub fn blob(&self) -> &[u8] {
        &self.blob
    }

    /// Returns the bare 800-byte encapsulation key.
    #[must_use]
    pub fn raw(&self) -> &[u8] {
        self.blob.get(HEADER_BYTES..).unwrap_or_default()
    }

    /// Makes a shared secret and its encapsulation to this key from 32 uniformly random bytes, never used before.
    pub(crate) fn encapsulate(&self, randomness: &[u8; 32]) -> ([u8; KEM_CIPHERTEXT_BYTES], Zeroizing<[u8; 32]>) {
        let (ciphertext, secret) = self.key.encapsulate_deterministic(randomness.into());
        (ciphertext.into(), Zeroizing::new(secret.into()))
    }
}

impl UserKeypair {
    /// Makes a key pair from the operating system's randomness.
    ///
    /// # Errors
    /// [`SigncryptionError::Randomness`] if there is none.
    pub fn generate() -> Result<Self, SigncryptionError> {
        let mut seed = Zeroizing::new([0u8; 64]);
        getrandom::fill(seed.as_mut_slice()).map_err(|error| SigncryptionError::Randomness(error.to_string()))?;
        Ok(Self::from_seed(seed))
    }

    /// Makes the key pair that FIPS 203 derives from a seed (`d`, then `z`).
    #[must_use]
    pub fn from_seed(seed: Zeroizing<[u8; 64]>) -> Self {
        let secret = ml_kem_512::DecapsulationKey::from_seed((*seed).into());
        let public = UserPublicKey::from_key(secret.encapsulation_key().clone());
        Self { seed, public }
    }

    /// Returns the seed that [`Self::from_seed`] takes. It is the secret.
    #[must_use]
    pub fn seed(&self) -> &[u8; 64] {
        &self.seed
    }

    /// Returns the public half.
    #[must_use]
    pub const fn public_key(&self) -> &UserPublicKey {
        &self.public
    }

    /// Opens an encapsulation. As the scheme prescribes, a forged one gives a wrong secret, not an error.
    pub(crate) fn decapsulate(&self, ciphertext: &[u8; KEM_CIPHERTEXT_BYTES]) -> Zeroizing<[u8; 32]> {
        // The secret key is expanded for one use, so that between uses only the seed, which is wiped on drop, is in memory.
        let secret = ml_kem_512::DecapsulationKey::from_seed((*self.seed).into());
        Zeroizing::new(secret.decapsulate(ciphertext.into()).into())
    }
}

/// Writes the header in front of a key: version strings, type name, variant numbers and length, as 64-bit little-endian
/// lengths and 32-bit numbers.
fn header() -> Vec<u8> {
    let mut header = Vec::with_capacity(USER_PUBLIC_KEY_BYTES);
    let text = |header: &mut Vec<u8>, text: &str| {
        header.extend_from_slice(&(text.len() as u64).to_le_bytes());
        header.extend_from_slice(text.as_bytes());
    };
    text(&mut header, "0.5");
    header.extend_from_slice(&0u32.to_le_bytes());
    text(&mut header, "0.1");
    text(&mut header, "UnifiedPublicEncKey");
    header.extend_from_slice(&0u32.to_le_bytes());
    header.extend_from_slice(&0u32.to_le_bytes());
    header.extend_from_slice(&(RAW_PUBLIC_KEY_BYTES as u64).to_le_bytes());
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_key_is_a_69_byte_header_and_800_bytes() {
        let keys = UserKeypair::from_seed(Zeroizing::new([3; 64]));
        let blob = keys.public_key().blob();
        assert_eq!(header().len(), HEADER_BYTES);
        assert_eq!(blob.len(), USER_PUBLIC_KEY_BYTES);
        assert_eq!(&blob[..11], b"\x03\0\0\0\0\0\0\x000.5");
        assert_eq!(&blob[34..53], b"UnifiedPublicEncKey");
        assert_eq!(&blob[61..69], &[0x20, 3, 0, 0, 0, 0, 0, 0]);
        assert_eq!(&blob[69..], keys.public_key().raw());
    }

    #[test]
    fn any_header_is_kept_as_sent() {
        let keys = UserKeypair::from_seed(Zeroizing::new([3; 64]));
        let mut blob = keys.public_key().blob().to_vec();
        blob[..69].fill(0xee);
        let key = UserPublicKey::from_blob(&blob).unwrap();
        assert_eq!(key.blob(), blob);
        assert_eq!(key.raw(), keys.public_key().raw());
    }

    #[test]
    fn wrong_lengths_and_coefficients_out_of_range_are_refused() {
        for length in [0, 69, 800, 868, 870] {
            assert_eq!(
                UserPublicKey::from_blob(&vec![0; length]).unwrap_err(),
                SigncryptionError::PublicKeyLength(length)
            );
        }
        // All ones: every 12-bit coefficient is 4095, above the modulus 3329.
        assert_eq!(
            UserPublicKey::from_blob(&[0xff; USER_PUBLIC_KEY_BYTES]).unwrap_err(),
            SigncryptionError::PublicKey
        );
    }

    #[test]
    fn both_sides_agree_on_the_secret_and_forgeries_do_not() {
        let keys = UserKeypair::generate().unwrap();
        let (mut ciphertext, secret) = keys.public_key().encapsulate(&[9; 32]);
        assert_eq!(keys.decapsulate(&ciphertext), secret);
        ciphertext[5] ^= 1;
        assert_ne!(keys.decapsulate(&ciphertext), secret);
    }
}
