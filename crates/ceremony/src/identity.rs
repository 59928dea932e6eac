//! Who a node is: the key that it signs answers, cards and records with.

use alloy_primitives::Address;
use cipherloom_signcryption::{SigningKey, node_address};
use zeroize::Zeroizing;

use crate::{CeremonyError, digest::random};

/// A node's signing key. Its address is what the chain knows the node by. Neither printable nor copyable; wiped when dropped.
pub struct Identity {
    key: SigningKey,
    address: Address,
}

impl Identity {
    /// Makes a new one.
    ///
    /// # Errors
    /// [`CeremonyError::Randomness`].
    pub fn generate() -> Result<Self, CeremonyError> {
        loop {
            // All but 2^-128 of the numbers are keys.
            let secret = Zeroizing::new(random::<32>()?);
            if let Ok(identity) = Self::from_bytes(secret.as_slice()) {
                return Ok(identity);
            }
        }
    }

    /// Takes a key that is known from elsewhere: 32 bytes.
    ///
    /// # Errors
    /// [`CeremonyError::Malformed`] if it is no key.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CeremonyError> {
        let key = SigningKey::from_slice(bytes).map_err(|_| CeremonyError::malformed("signing key", "it is not a key"))?;
        Ok(Self {
            address: node_address(&key),
            key,
        })
    }

    pub(crate) fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(self.key.to_bytes().to_vec())
    }

    /// Returns the address.
    #[must_use]
    pub const fn address(&self) -> Address {
        self.address
    }

    /// Returns the key, for signing answers.
    #[must_use]
    pub const fn signing_key(&self) -> &SigningKey {
        &self.key
    }
}
