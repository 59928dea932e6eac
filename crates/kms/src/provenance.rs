//! Whether a ciphertext is the one behind its handle.
//!
//! A KMS that decrypts whatever it is given is an oracle that gives the secret key away: crafted ciphertexts make decryption results depend on key
//! bits. So bytes are decrypted only if enough registered coprocessors signed that they are the ciphertext of this handle under this key set; or, on a native
//! chain, if they are proven to stand in the state that its validators signed.

use std::collections::BTreeSet;

use alloy_primitives::keccak256;
use cipherloom_primitives::{
    Address, B256, Bytes, Handle,
    eip712::{ciphertext_attestation_digest, recover_signer, squashed_ciphertext_attestation_digest},
};

use crate::{
    error::KmsError,
    ports::{CoprocessorSet, SignedCiphertext, SignedSquashed},
};

/// The longest ciphertext looked at; a stored `euint256` has a fraction of it.
const MAX_CIPHERTEXT_BYTES: usize = 64 << 20;
/// The longest squashed list looked at: ten times one of production parameters.
const MAX_SQUASHED_BYTES: usize = 1 << 20;
/// The most attestations looked at.
const MAX_ATTESTATIONS: usize = 256;

/// What is said about the bytes of a ciphertext, in either form.
pub(crate) struct Claim<'a> {
    handle: Handle,
    key_set_id: B256,
    bytes: &'a [u8],
    max_bytes: usize,
    attestations: &'a [Bytes],
    /// What attestations in this form are signatures over.
    digest: fn(Handle, B256, B256) -> B256,
}

impl<'a> From<&'a SignedCiphertext> for Claim<'a> {
    fn from(ciphertext: &'a SignedCiphertext) -> Self {
        Self {
            handle: ciphertext.handle,
            key_set_id: ciphertext.key_set_id,
            bytes: &ciphertext.bytes,
            max_bytes: MAX_CIPHERTEXT_BYTES,
            attestations: &ciphertext.attestations,
            digest: ciphertext_attestation_digest,
        }
    }
}

impl<'a> From<&'a SignedSquashed> for Claim<'a> {
    fn from(squashed: &'a SignedSquashed) -> Self {
        Self {
            handle: squashed.handle,
            key_set_id: squashed.key_set_id,
            bytes: &squashed.bytes,
            max_bytes: MAX_SQUASHED_BYTES,
            attestations: &squashed.attestations,
            digest: squashed_ciphertext_attestation_digest,
        }
    }
}

/// Checks that the ciphertexts of a native chain are under this key set.
pub(crate) fn check_stored(of_chain: B256, handle: Handle, key_set_id: B256) -> Result<(), KmsError> {
    if of_chain == key_set_id {
        return Ok(());
    }
    Err(KmsError::Provenance {
        handle,
        reason: format!("its chain is under key set {of_chain}, not {key_set_id}"),
    })
}

/// Checks handle, key set and attestations of a ciphertext.
///
/// Attestations by strangers and duplicates do not count; they do no harm either.
pub(crate) fn check(ciphertext: &Claim<'_>, handle: Handle, key_set_id: B256, coprocessors: &CoprocessorSet) -> Result<(), KmsError> {
    let refuse = |reason: String| Err(KmsError::Provenance { handle, reason });
    if ciphertext.handle != handle {
        return refuse(format!("it is for handle {}", ciphertext.handle));
    }
    if ciphertext.key_set_id != key_set_id {
        return refuse(format!("it is under key set {}, not {key_set_id}", ciphertext.key_set_id));
    }
    if ciphertext.bytes.len() > ciphertext.max_bytes || ciphertext.attestations.len() > MAX_ATTESTATIONS {
        return refuse("it is too long".into());
    }
    let digest = (ciphertext.digest)(handle, key_set_id, keccak256(ciphertext.bytes));
    let attesting: BTreeSet<Address> = ciphertext
        .attestations
        .iter()
        .filter_map(|signature| recover_signer(digest, signature))
        .filter(|signer| coprocessors.signers.contains(signer))
        .collect();
    // A threshold of zero would let anything through; a chain that says so is misconfigured.
    let needed = coprocessors.threshold.max(1);
    if attesting.len() < needed {
        return refuse(format!("{} of {needed} registered coprocessors attest it", attesting.len()));
    }
    Ok(())
}
