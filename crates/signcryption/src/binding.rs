//! The hashes that tie a value to key, node and user.

use cipherloom_primitives::Address;
use sha2::Digest;
use shake::{ExtendableOutput, Shake256, Update, XofReader};

/// Domain separator of key fingerprints.
const KEY_DOMAIN: &[u8; 8] = b"SIGNCRYP";
/// Domain separator of inner signatures.
const SIGNATURE_DOMAIN: &[u8; 8] = b"USER_DEC";

/// Fingerprints a key given in its bincode form, which is a u64 length and the bytes.
pub(crate) fn key_fingerprint(raw_key: &[u8]) -> [u8; 32] {
    let mut hasher = Shake256::default();
    hasher.update(KEY_DOMAIN);
    hasher.update(&(raw_key.len() as u64).to_le_bytes());
    hasher.update(raw_key);
    let mut fingerprint = [0u8; 32];
    hasher.finalize_xof().read(&mut fingerprint);
    fingerprint
}

/// Returns the SHA-256 digest that the inner signature of a value is over.
pub(crate) fn inner_digest(message: &[u8], user: Address, user_key_fingerprint: &[u8; 32]) -> [u8; 32] {
    sha2::Sha256::new()
        .chain_update(SIGNATURE_DOMAIN)
        .chain_update(message)
        .chain_update(user)
        .chain_update(user_key_fingerprint)
        .finalize()
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fingerprint_is_shake256_over_domain_length_and_key() {
        // Computed with an independent implementation (Python's hashlib.shake_256).
        assert_eq!(
            hex::encode(key_fingerprint(&[0; 33])),
            "874564b7751b1d5c360682543d8599a9d4b5efe4656050735bba7eb0a4c67a40"
        );
        assert_ne!(key_fingerprint(&[0; 33]), key_fingerprint(&[0; 34]));
    }

    #[test]
    fn the_inner_digest_depends_on_message_user_and_key() {
        let digest = inner_digest(b"m", Address::ZERO, &[0; 32]);
        assert_eq!(
            hex::encode(digest),
            "9ecd33cf84559b5669c280572d97c57b8644f5622c83819fa0d50dbef1d8f63f"
        );
        assert_ne!(digest, inner_digest(b"n", Address::ZERO, &[0; 32]));
        assert_ne!(digest, inner_digest(b"m", Address::repeat_byte(1), &[0; 32]));
        assert_ne!(digest, inner_digest(b"m", Address::ZERO, &[1; 32]));
    }
}
