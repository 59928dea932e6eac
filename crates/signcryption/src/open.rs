//! The client side: from an answer to checked plaintexts.

use aes_gcm::{Aes256Gcm, KeyInit, aead::AeadInOut};
use cipherloom_primitives::{Address, B256, Handle, U256, decryption::UserDecryptionShare, eip712::recover_signer};
use k256::ecdsa::{Signature, VerifyingKey, signature::hazmat::PrehashVerifier};
use zeroize::Zeroizing;

use crate::{
    binding::{inner_digest, key_fingerprint},
    error::SigncryptionError,
    keys::{KEM_CIPHERTEXT_BYTES, UserKeypair},
    seal::AnswerContext,
    wire::{MAX_PAYLOAD_BYTES, Payload, Reader, Sealed, SealedValue},
};

/// The signature and the fingerprint of the node's key at the end of every plain value.
const TRAILER_BYTES: usize = 64 + 32;

/// Checks the answer of the one node with address `node` to a request for `handles`, and decrypts it.
///
/// The values come in the order of the handles. All checks of the published clients are made, and three more: handles and types in the
/// payload are the requested ones, values fit their types, and no byte is left over.
///
/// # Errors
/// [`SigncryptionError`] says which check failed. Nothing of an answer that fails is returned.
pub fn open(
    context: &AnswerContext<'_>,
    handles: &[Handle],
    share: &UserDecryptionShare,
    keys: &UserKeypair,
    node: Address,
) -> Result<Vec<U256>, SigncryptionError> {
    let (checks, payload) = Checks::verify(context, handles, share, keys, node)?;
    handles
        .iter()
        .zip(&payload.values)
        .map(|(handle, value)| checks.open_value(*handle, value))
        .collect()
}

/// What anybody can check of an answer: all but what is in the encrypted values.
pub(crate) struct Outside {
    pub(crate) payload: Payload,
    node_key: VerifyingKey,
}

impl Outside {
    /// Checks the signature of `node`, and that the answer is for this request.
    pub(crate) fn verify(
        context: &AnswerContext<'_>,
        handles: &[Handle],
        share: &UserDecryptionShare,
        node: Address,
    ) -> Result<Self, SigncryptionError> {
        if *share.extra_data != *context.extra_data {
            return Err(SigncryptionError::ExtraData);
        }
        if share.payload.len() > MAX_PAYLOAD_BYTES {
            return Err(SigncryptionError::Malformed("the payload is too long"));
        }
        // Signature first: bytes that no node signed are not even parsed.
        let blob = context.public_key.blob();
        let digest = context
            .domains
            .user_decryption_answer_digest(blob, handles, &share.payload, context.extra_data);
        if recover_signer(digest, &share.signature) != Some(node) {
            return Err(SigncryptionError::WrongSigner { expected: node });
        }
        let payload = Payload::from_bytes(&share.payload)?;
        if payload.link != context.domains.user_decryption_link(blob, handles, context.user) {
            return Err(SigncryptionError::WrongRequest);
        }
        let node_key = VerifyingKey::from_sec1_bytes(&payload.node_key).map_err(|_| SigncryptionError::Malformed("verification key"))?;
        if Address::from_public_key(&node_key) != node {
            return Err(SigncryptionError::WrongSigner { expected: node });
        }
        if payload.values.len() != handles.len() {
            return Err(SigncryptionError::WrongRequest);
        }
        Ok(Self { payload, node_key })
    }
}

/// What every value of an answer is checked against.
pub(crate) struct Checks<'a> {
    context: &'a AnswerContext<'a>,
    keys: &'a UserKeypair,
    link: B256,
    node_key: VerifyingKey,
    node_fingerprint: [u8; 32],
    user_fingerprint: [u8; 32],
}

impl<'a> Checks<'a> {
    /// Checks everything outside of the encrypted values: the signature of `node`, and that the answer is for this request.
    pub(crate) fn verify(
        context: &'a AnswerContext<'a>,
        handles: &[Handle],
        share: &UserDecryptionShare,
        keys: &'a UserKeypair,
        node: Address,
    ) -> Result<(Self, Payload), SigncryptionError> {
        let outside = Outside::verify(context, handles, share, node)?;
        let checks = Self {
            context,
            keys,
            link: outside.payload.link,
            node_fingerprint: key_fingerprint(&outside.payload.node_key),
            user_fingerprint: key_fingerprint(context.public_key.raw()),
            node_key: outside.node_key,
        };
        Ok((checks, outside.payload))
    }

    fn open_value(&self, handle: Handle, value: &SealedValue) -> Result<U256, SigncryptionError> {
        let plaintext = self.open_plaintext(handle, value, 32)?;
        let value = U256::try_from_le_slice(&plaintext).ok_or(SigncryptionError::ValueOutOfRange(handle))?;
        if value > handle.fhe_type().max_value() {
            return Err(SigncryptionError::ValueOutOfRange(handle));
        }
        Ok(value)
    }

    /// Decrypts a value and checks all that binds it to node, user, request and type. What it means is for the caller.
    pub(crate) fn open_plaintext(
        &self,
        handle: Handle,
        value: &SealedValue,
        max_bytes: usize,
    ) -> Result<Zeroizing<Vec<u8>>, SigncryptionError> {
        if value.handle != handle.as_b256() || value.fhe_type != i32::from(handle.fhe_type().id()) {
            return Err(SigncryptionError::WrongRequest);
        }
        let plain = self.decrypt(handle, &value.sealed)?;
        let message_length = plain
            .len()
            .checked_sub(TRAILER_BYTES)
            .ok_or(SigncryptionError::Malformed("plain value"))?;
        let mut trailer = Reader(&plain);
        let message = trailer.take(message_length, "plain value")?;
        let signature = trailer.take(64, "inner signature")?;
        let failed = |what| SigncryptionError::InnerCheck { handle, what };
        if trailer.0 != self.node_fingerprint {
            return Err(failed("the node's key"));
        }
        self.check_signature(message, signature)
            .ok_or_else(|| failed("the node's signature"))?;

        let mut fields = Reader(message);
        let plaintext = fields.bytes(max_bytes, "plaintext")?;
        let fhe_type = i32::from_le_bytes(fields.array("type")?);
        let link = fields.word("link")?;
        fields.finish()?;
        if link != self.link {
            return Err(failed("the request"));
        }
        if fhe_type != i32::from(handle.fhe_type().id()) {
            return Err(failed("the type"));
        }
        Ok(Zeroizing::new(plaintext.to_vec()))
    }

    fn decrypt(&self, handle: Handle, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SigncryptionError> {
        let sealed = Sealed::from_bytes(sealed)?;
        let encapsulation: &[u8; KEM_CIPHERTEXT_BYTES] = sealed
            .encapsulation
            .try_into()
            .map_err(|_| SigncryptionError::Malformed("encapsulation"))?;
        let secret = self.keys.decapsulate(encapsulation);
        let mut plain = Zeroizing::new(sealed.ciphertext.to_vec());
        Aes256Gcm::new((&*secret).into())
            .decrypt_in_place(&sealed.nonce.into(), &[], &mut *plain)
            .map_err(|_| SigncryptionError::Undecryptable(handle))?;
        Ok(plain)
    }

    fn check_signature(&self, message: &[u8], signature: &[u8]) -> Option<()> {
        let signature = Signature::from_slice(signature).ok()?;
        if signature.normalize_s().is_some() {
            return None;
        }
        let digest = inner_digest(message, self.context.user, &self.user_fingerprint);
        self.node_key.verify_prehash(&digest, &signature).ok()
    }
}
