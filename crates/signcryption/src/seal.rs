//! The KMS side: from plaintexts to a signed, encrypted answer.

use aes_gcm::{Aes256Gcm, KeyInit, aead::AeadInOut};
use cipherloom_primitives::{Address, B256, FheType, Handle, U256, decryption::UserDecryptionShare, eip712::SigningDomains};
use k256::ecdsa::{Signature, SigningKey, signature::hazmat::PrehashSigner};
use zeroize::{Zeroize, Zeroizing};

use crate::{
    binding::{inner_digest, key_fingerprint},
    error::SigncryptionError,
    keys::UserPublicKey,
    wire::{MAX_VALUES, NODE_KEY_BYTES, Payload, Sealed, SealedValue, put_bytes},
};

const AES_TAG_BYTES: usize = 16;

/// What an answer is bound to; both sides must see the same.
#[derive(Clone, Copy, Debug)]
pub struct AnswerContext<'a> {
    /// Where signatures are valid.
    pub domains: &'a SigningDomains,
    /// The key the answer is encrypted to.
    pub public_key: &'a UserPublicKey,
    /// The account that asked; the delegate for delegated requests.
    pub user: Address,
    /// The extra data of the request.
    pub extra_data: &'a [u8],
}

/// The randomness of one encrypted value. It must be uniformly random and is used once: a repeated pair would repeat an
/// AES-GCM key and nonce.
#[derive(Zeroize)]
#[zeroize(drop)]
pub struct Randomness {
    /// What the encapsulated secret is derived from.
    pub encapsulation: [u8; 32],
    /// The AES-GCM nonce.
    pub nonce: [u8; 12],
}

impl Randomness {
    /// Draws from the operating system.
    ///
    /// # Errors
    /// [`SigncryptionError::Randomness`] if there is none.
    pub fn generate() -> Result<Self, SigncryptionError> {
        let mut randomness = Self {
            encapsulation: [0; 32],
            nonce: [0; 12],
        };
        getrandom::fill(&mut randomness.encapsulation)
            .and_then(|()| getrandom::fill(&mut randomness.nonce))
            .map_err(|error| SigncryptionError::Randomness(error.to_string()))?;
        Ok(randomness)
    }
}

/// Returns the address of a node's signing key.
#[must_use]
pub fn node_address(key: &SigningKey) -> Address {
    Address::from_public_key(key.verifying_key())
}

/// Signs a digest as Ethereum contracts check it: 65 bytes, low s, v of 27 or 28.
///
/// # Errors
/// [`SigncryptionError::Signing`], which does not happen for a valid key.
pub fn sign_digest(key: &SigningKey, digest: B256) -> Result<[u8; 65], SigncryptionError> {
    let (signature, recovery) = key
        .sign_prehash_recoverable(digest.as_slice())
        .map_err(|_| SigncryptionError::Signing)?;
    let mut bytes = [0u8; 65];
    let (rs, v) = bytes.split_at_mut(64);
    rs.copy_from_slice(&signature.to_bytes());
    v.fill(27 + recovery.to_byte());
    Ok(bytes)
}

/// Signs and encrypts values to the user's key and signs the whole.
///
/// `randomness` is asked once per value; pass [`Randomness::generate`] outside known-answer tests.
///
/// # Errors
/// [`SigncryptionError::TooManyValues`] and [`SigncryptionError::ValueOutOfRange`] if the values are not what a request can ask for,
/// and what `randomness` returns.
pub fn seal(
    context: &AnswerContext<'_>,
    values: &[(Handle, U256)],
    node_key: &SigningKey,
    randomness: impl FnMut() -> Result<Randomness, SigncryptionError>,
) -> Result<UserDecryptionShare, SigncryptionError> {
    if values.len() > MAX_VALUES {
        return Err(SigncryptionError::TooManyValues {
            max: MAX_VALUES,
            found: values.len(),
        });
    }
    let plaintexts = values
        .iter()
        .map(|(handle, value)| Ok((*handle, little_endian(*handle, *value)?)))
        .collect::<Result<Vec<_>, SigncryptionError>>()?;
    let borrowed: Vec<(Handle, &[u8])> = plaintexts.iter().map(|(handle, value)| (*handle, value.as_slice())).collect();
    seal_plaintexts(context, &borrowed, Place::ALONE, node_key, randomness)
}

/// What a payload says about the node it is from and about its plaintexts.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    pub(crate) party_id: u32,
    pub(crate) degree: u32,
    pub(crate) packing_factor: u32,
}

impl Place {
    /// The only node there is, whose plaintexts are the values themselves.
    const ALONE: Self = Self {
        party_id: 1,
        degree: 0,
        packing_factor: 1,
    };
}

/// Signs and encrypts plaintexts, whatever they mean, and signs the whole.
pub(crate) fn seal_plaintexts(
    context: &AnswerContext<'_>,
    plaintexts: &[(Handle, &[u8])],
    place: Place,
    node_key: &SigningKey,
    mut randomness: impl FnMut() -> Result<Randomness, SigncryptionError>,
) -> Result<UserDecryptionShare, SigncryptionError> {
    let handles: Vec<Handle> = plaintexts.iter().map(|(handle, _)| *handle).collect();
    let link = context
        .domains
        .user_decryption_link(context.public_key.blob(), &handles, context.user);
    let sealed = plaintexts
        .iter()
        .map(|(handle, plaintext)| {
            Ok(SealedValue {
                fhe_type: handle.fhe_type().id().into(),
                sealed: seal_plaintext(context, link, (*handle, plaintext), node_key, &randomness()?)?,
                handle: handle.as_b256(),
                packing_factor: place.packing_factor,
            })
        })
        .collect::<Result<_, SigncryptionError>>()?;
    let payload = Payload {
        node_key: compressed(node_key),
        link,
        values: sealed,
        party_id: place.party_id,
        degree: place.degree,
    }
    .to_bytes();
    let digest = context
        .domains
        .user_decryption_answer_digest(context.public_key.blob(), &handles, &payload, context.extra_data);
    Ok(UserDecryptionShare {
        payload: payload.into(),
        signature: sign_digest(node_key, digest)?.to_vec().into(),
        extra_data: context.extra_data.to_vec().into(),
    })
}

fn seal_plaintext(
    context: &AnswerContext<'_>,
    link: B256,
    (handle, plaintext): (Handle, &[u8]),
    node_key: &SigningKey,
    randomness: &Randomness,
) -> Result<Vec<u8>, SigncryptionError> {
    let mut plain = message(handle.fhe_type(), plaintext, link);
    let digest = inner_digest(&plain, context.user, &key_fingerprint(context.public_key.raw()));
    let signature: Signature = node_key.sign_prehash(&digest).map_err(|_| SigncryptionError::Signing)?;
    plain.extend_from_slice(&signature.normalize_s().unwrap_or(signature).to_bytes());
    plain.extend_from_slice(&key_fingerprint(&compressed(node_key)));

    let (encapsulation, secret) = context.public_key.encapsulate(&randomness.encapsulation);
    let cipher = Aes256Gcm::new((&*secret).into());
    // Encrypted in place, so that no second copy of the plaintext is left behind.
    cipher
        .encrypt_in_place(&randomness.nonce.into(), &[], &mut *plain)
        .map_err(|_| SigncryptionError::Malformed("value too long"))?;
    Ok(Sealed {
        nonce: randomness.nonce,
        encapsulation: &encapsulation,
        ciphertext: &plain,
    }
    .to_bytes())
}

/// Writes a value little-endian, in as many bytes as its type has.
fn little_endian(handle: Handle, value: U256) -> Result<Zeroizing<Vec<u8>>, SigncryptionError> {
    if value > handle.fhe_type().max_value() {
        return Err(SigncryptionError::ValueOutOfRange(handle));
    }
    let value = Zeroizing::new(value.to_le_bytes::<32>());
    let length = handle.fhe_type().bits().div_ceil(8) as usize;
    Ok(Zeroizing::new(value.get(..length).unwrap_or(value.as_slice()).to_vec()))
}

/// Writes what the inner signature covers: plaintext, type and link.
fn message(ty: FheType, plaintext: &[u8], link: B256) -> Zeroizing<Vec<u8>> {
    // Room for everything that follows: a reallocation would leave a copy of the plaintext in freed memory.
    let mut message = Zeroizing::new(Vec::with_capacity(8 + plaintext.len() + 4 + 8 + 32 + 64 + 32 + AES_TAG_BYTES));
    put_bytes(&mut message, plaintext);
    message.extend_from_slice(&i32::from(ty.id()).to_le_bytes());
    put_bytes(&mut message, link.as_slice());
    message
}

fn compressed(key: &SigningKey) -> [u8; NODE_KEY_BYTES] {
    let point = key.verifying_key().to_encoded_point(true);
    let mut bytes = [0u8; NODE_KEY_BYTES];
    bytes.copy_from_slice(point.as_bytes());
    bytes
}
