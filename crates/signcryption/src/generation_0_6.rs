//! Answers to reencryption requests of the 0.6 generation: one value, in a NaCl box to the user's X25519 key.
//!
//! The client is WebAssembly (`node-tkms` and `tkms` 0.9.0), and every byte is given by what it accepts:
//!
//! ```text
//! payload   = version 1 ‖ bytes(bytes(node key)) ‖ bytes(link) ‖ type ‖ bytes(box) ‖ party 1 ‖ degree 0
//! signature = ECDSA over SHA-256(payload), 64 bytes
//! link      = EIP-712 digest of the user's request ‖ SHA3-256(ciphertext)
//! box       = bytes(X25519-XSalsa20-Poly1305 of content) ‖ bytes(nonce) ‖ bytes(node's one-time key)
//! content   = message ‖ inner signature ‖ SHA3-256(bytes(node key)) ‖ SHA3-256(bytes(one-time key))
//! message   = bytes(value, little-endian) ‖ bytes(type) ‖ bytes(link)
//! inner signature = ECDSA over SHA-256(message ‖ user ‖ SHA3-256(user's key as sent))
//! ```
//!
//! `bytes` puts a 64-bit little-endian length in front; numbers are 32-bit little-endian. The link ties an answer to a request and a ciphertext, the
//! inner signature a value to user and key, and the digests in the box name both keys that made it.

use cipherloom_primitives::{Address, B256, FheType, U256};
use crypto_box::{PublicKey, SalsaBox, SecretKey, aead::Aead};
use k256::ecdsa::{Signature, SigningKey, signature::Signer};
use sha3::{Digest, Sha3_256};
use zeroize::{Zeroize, Zeroizing};

use crate::{error::SigncryptionError, wire::put_bytes};

/// The length of a user's key as it is sent: 32 bytes after their number.
pub const SENT_KEY_BYTES: usize = 40;
/// The length of the link.
pub const LINK_BYTES: usize = 64;

const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 24;
/// Message with its lengths, signature, two digests and the box's tag.
const MAX_CONTENT_BYTES: usize = 8 + 32 + 8 + 4 + 8 + LINK_BYTES + 64 + 32 + 32 + 16;

/// A user's public key as it was sent.
#[derive(Clone, Debug)]
pub struct BoxKey {
    sent: [u8; SENT_KEY_BYTES],
    key: PublicKey,
}

impl BoxKey {
    /// Reads a key as clients send it: the number 32 in eight bytes, then 32 bytes.
    ///
    /// # Errors
    /// [`SigncryptionError::BoxKey`] if it has another form, or is a point that makes a shared secret everybody knows.
    pub fn from_sent(sent: &[u8]) -> Result<Self, SigncryptionError> {
        let sent: [u8; SENT_KEY_BYTES] = sent.try_into().map_err(|_| SigncryptionError::BoxKey)?;
        let (length, key) = sent.split_first_chunk::<8>().ok_or(SigncryptionError::BoxKey)?;
        let key: [u8; KEY_BYTES] = key.try_into().map_err(|_| SigncryptionError::BoxKey)?;
        if *length != (KEY_BYTES as u64).to_le_bytes() || is_of_low_order(&key) {
            return Err(SigncryptionError::BoxKey);
        }
        Ok(Self {
            sent,
            key: PublicKey::from_bytes(key),
        })
    }

    /// Returns the bytes that were sent, which the user's request is signed over.
    #[must_use]
    pub const fn sent(&self) -> &[u8; SENT_KEY_BYTES] {
        &self.sent
    }
}

/// The randomness of one answer. It must be uniformly random and is used once.
#[derive(Zeroize)]
#[zeroize(drop)]
pub struct BoxRandomness {
    /// The node's one-time secret.
    pub secret: [u8; KEY_BYTES],
    /// The box's nonce.
    pub nonce: [u8; NONCE_BYTES],
}

impl BoxRandomness {
    /// Draws from the operating system.
    ///
    /// # Errors
    /// [`SigncryptionError::Randomness`] if there is none.
    pub fn generate() -> Result<Self, SigncryptionError> {
        let mut randomness = Self {
            secret: [0; KEY_BYTES],
            nonce: [0; NONCE_BYTES],
        };
        getrandom::fill(&mut randomness.secret)
            .and_then(|()| getrandom::fill(&mut randomness.nonce))
            .map_err(|error| SigncryptionError::Randomness(error.to_string()))?;
        Ok(randomness)
    }
}

/// What an answer is bound to.
#[derive(Clone, Copy, Debug)]
pub struct ReencryptionContext<'a> {
    /// The digest of the request, as if the user had signed it without acting for another account
    /// ([`cipherloom_primitives::generation_0_6::reencryption_digest`]).
    pub request: B256,
    /// The account whose value it is.
    pub user: Address,
    /// The key the answer is encrypted to.
    pub key: &'a BoxKey,
    /// The SHA3-256 digest of the ciphertext.
    pub ciphertext_digest: B256,
}

/// An answer, encrypted and signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReencryptionAnswer {
    /// What the client opens.
    pub payload: Vec<u8>,
    /// The node's signature over it: r and s.
    pub signature: [u8; 64],
    /// The SHA3-256 digest of the ciphertext.
    pub ciphertext_digest: B256,
}

/// Returns the digest of a ciphertext, as answers are bound to it.
#[must_use]
pub fn ciphertext_digest(ciphertext: &[u8]) -> B256 {
    B256::from(<[u8; 32]>::from(Sha3_256::digest(ciphertext)))
}

/// Encrypts a value to the user's key and signs the whole.
///
/// # Errors
/// [`SigncryptionError::Encryption`] and [`SigncryptionError::Signing`], which do not happen for values of the type.
pub fn seal_reencryption(
    context: &ReencryptionContext<'_>,
    ty: FheType,
    value: U256,
    node_key: &SigningKey,
    randomness: &BoxRandomness,
) -> Result<ReencryptionAnswer, SigncryptionError> {
    let link = [context.request.0, context.ciphertext_digest.0].concat();
    let node_key_bytes = prefixed(node_key.verifying_key().to_encoded_point(true).as_bytes());
    let secret = SecretKey::from_bytes(randomness.secret);
    let one_time_key = prefixed(secret.public_key().as_bytes());

    let mut content = message(ty, value, &link);
    let signed = Zeroizing::new([content.as_slice(), context.user.as_slice(), &sha3(context.key.sent())].concat());
    content.extend_from_slice(&sign(node_key, &signed)?);
    content.extend_from_slice(&sha3(&node_key_bytes));
    content.extend_from_slice(&sha3(&one_time_key));
    let boxed = SalsaBox::new(&context.key.key, &secret)
        .encrypt(&randomness.nonce.into(), content.as_slice())
        .map_err(|_| SigncryptionError::Encryption)?;

    let mut sealed = prefixed(&boxed);
    put_bytes(&mut sealed, &randomness.nonce);
    sealed.extend_from_slice(&one_time_key);

    let mut payload = 1u32.to_le_bytes().to_vec();
    put_bytes(&mut payload, &node_key_bytes);
    put_bytes(&mut payload, &link);
    payload.extend_from_slice(&i32::from(ty.id()).to_le_bytes());
    put_bytes(&mut payload, &sealed);
    payload.extend_from_slice(&1u32.to_le_bytes());
    payload.extend_from_slice(&0u32.to_le_bytes());
    let signature = sign(node_key, &payload)?;
    Ok(ReencryptionAnswer {
        payload,
        signature,
        ciphertext_digest: context.ciphertext_digest,
    })
}

fn message(ty: FheType, value: U256, link: &[u8]) -> Zeroizing<Vec<u8>> {
    let value = Zeroizing::new(value.to_le_bytes::<32>());
    let length = ty.bits().div_ceil(8) as usize;
    // Room for everything that follows: a reallocation would leave a copy of the plaintext in freed memory.
    let mut message = Zeroizing::new(Vec::with_capacity(MAX_CONTENT_BYTES));
    put_bytes(&mut message, value.get(..length).unwrap_or(value.as_slice()));
    put_bytes(&mut message, &i32::from(ty.id()).to_le_bytes());
    put_bytes(&mut message, link);
    message
}

fn sign(key: &SigningKey, message: &[u8]) -> Result<[u8; 64], SigncryptionError> {
    let signature: Signature = key.try_sign(message).map_err(|_| SigncryptionError::Signing)?;
    let signature = signature.normalize_s().unwrap_or(signature);
    Ok(signature.to_bytes().into())
}

fn sha3(bytes: &[u8]) -> [u8; 32] {
    Sha3_256::digest(bytes).into()
}

fn prefixed(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(8 + bytes.len());
    put_bytes(&mut out, bytes);
    out
}

/// Says whether the shared secret with this key is the same for everybody: then two secrets make the same box.
fn is_of_low_order(key: &[u8; KEY_BYTES]) -> bool {
    let key = PublicKey::from_bytes(*key);
    let boxed =
        |secret: u8| SalsaBox::new(&key, &SecretKey::from_bytes([secret; KEY_BYTES])).encrypt(&[0; NONCE_BYTES].into(), [].as_slice());
    boxed(1) == boxed(2)
}
