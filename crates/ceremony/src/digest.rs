//! Digests of documents, signatures over them, and randomness.
//!
//! A document's digest is Keccak-256 over a domain and the document's JSON with members in the order of their declaration. Digests that wallets sign begin with the byte 0x19
//! and transactions with an RLP list or a small type, so that nothing signed here can be mistaken for either.

use alloy_primitives::{Address, B256, Bytes, Keccak256, Signature};
use cipherloom_signcryption::{SigningKey, sign_digest};
use rand_core::{TryCryptoRng, TryRng};
use serde::{Serialize, de::DeserializeOwned};
use shake::{ExtendableOutput, Shake256, Shake256Reader, Update, XofReader};

use crate::CeremonyError;

const DOMAIN: &[u8] = b"cipherloom ceremony v1 ";

/// Hashes parts under a domain; lengths keep neighbouring parts apart.
pub(crate) fn digest_parts(domain: &str, parts: &[&[u8]]) -> B256 {
    let mut hasher = Keccak256::new();
    hasher.update(DOMAIN);
    for part in std::iter::once(&domain.as_bytes()).chain(parts) {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    hasher.finalize()
}

/// Hashes a document under a domain.
pub(crate) fn digest_document(domain: &'static str, document: &impl Serialize) -> Result<B256, CeremonyError> {
    Ok(digest_parts(domain, &[&to_json(domain, document)?]))
}

pub(crate) fn to_json(what: &'static str, document: &impl Serialize) -> Result<Vec<u8>, CeremonyError> {
    serde_json::to_vec(document).map_err(|error| CeremonyError::malformed(what, error))
}

/// Reads a document of limited length.
pub(crate) fn from_json<T: DeserializeOwned>(what: &'static str, bytes: &[u8], max: usize) -> Result<T, CeremonyError> {
    if bytes.len() > max {
        return Err(CeremonyError::malformed(
            what,
            format!("it has {} bytes; at most {max} are read", bytes.len()),
        ));
    }
    serde_json::from_slice(bytes).map_err(|error| CeremonyError::malformed(what, error))
}

pub(crate) fn sign(key: &SigningKey, digest: B256) -> Result<Bytes, CeremonyError> {
    let signature = sign_digest(key, digest).map_err(|_| CeremonyError::Signing)?;
    Ok(Bytes::copy_from_slice(&signature))
}

pub(crate) fn check_signature(what: &'static str, signature: &[u8], digest: B256, expected: Address) -> Result<(), CeremonyError> {
    let found = Signature::from_raw(signature).and_then(|signature| signature.recover_address_from_prehash(&digest));
    match found {
        Ok(signer) if signer == expected && expected != Address::ZERO => Ok(()),
        _ => Err(CeremonyError::Signature { what, expected }),
    }
}

/// Fills from the operating system, which in a trust domain is the hardware's generator.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], CeremonyError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| CeremonyError::Randomness(error.to_string()))?;
    Ok(bytes)
}

/// Randomness that is expanded from a secret seed.
pub(crate) struct SeededRng(Shake256Reader);

impl SeededRng {
    pub(crate) fn new(seed: &[u8; 32], purpose: &str) -> Self {
        let mut hasher = Shake256::default();
        for part in [DOMAIN, seed.as_slice(), purpose.as_bytes()] {
            hasher.update(&(part.len() as u64).to_be_bytes());
            hasher.update(part);
        }
        Self(hasher.finalize_xof())
    }
}

impl TryRng for SeededRng {
    type Error = std::convert::Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        let mut bytes = [0; 4];
        self.0.read(&mut bytes);
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        let mut bytes = [0; 8];
        self.0.read(&mut bytes);
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Self::Error> {
        self.0.read(bytes);
        Ok(())
    }
}

impl TryCryptoRng for SeededRng {}
