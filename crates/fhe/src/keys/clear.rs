//! The key material of the clear backend: a random number in four files, so that it is handled like real keys.

use super::{KeySetId, generate::Material, random_bytes};
use crate::{error::FheError, parameters::ParameterSet};

const PUBLIC_KEY: &[u8] = b"insecure-clear-public-key\x01";
const CRS: &[u8] = b"insecure-clear-crs\x01";
const EVALUATION_KEY: &[u8] = b"insecure-clear-evaluation-key\x01";
const SECRET_KEY: &[u8] = b"insecure-clear-secret-key\x01";
const NUMBER_BYTES: usize = 32;

/// Says which clear key set a value belongs to, and protects nothing. [`KeySet`](super::KeySet) makes and reads it.
#[derive(Clone, Copy)]
pub struct ClearKey {
    key_set: KeySetId,
}

impl ClearKey {
    pub(super) fn generate() -> Result<Material, FheError> {
        Self::material(random_bytes::<NUMBER_BYTES>()?)
    }

    /// Makes the material of a number that everybody knows, for known-answer tests.
    #[cfg(feature = "insecure-toy-parameters")]
    pub(super) fn insecure_from_seed(seed: u128) -> Result<Material, FheError> {
        let mut number = [0; NUMBER_BYTES];
        number.iter_mut().zip(seed.to_be_bytes()).for_each(|(to, from)| *to = from);
        Self::material(number)
    }

    fn material(number: [u8; NUMBER_BYTES]) -> Result<Material, FheError> {
        let file = |magic: &[u8]| [magic, &number].concat();
        Ok(Material {
            public_key: file(PUBLIC_KEY),
            crs: CRS.to_vec(),
            evaluation_key: file(EVALUATION_KEY),
            secret_key: file(SECRET_KEY).into(),
        })
    }

    /// Says whether these bytes claim to be the public key of a clear key set.
    pub(crate) fn is_public_key(bytes: &[u8]) -> bool {
        bytes.starts_with(PUBLIC_KEY)
    }

    /// Reads what clients are served.
    pub(crate) fn from_public(public_key: &[u8], crs: &[u8]) -> Result<Self, FheError> {
        if crs != CRS {
            return Err(FheError::key("CRS", "does not belong to the clear backend, as the public key does"));
        }
        Self::read(
            "public key",
            PUBLIC_KEY,
            public_key,
            KeySetId::of(ParameterSet::InsecureClear, public_key, crs),
        )
    }

    pub(super) fn from_evaluation(bytes: &[u8], key_set: KeySetId) -> Result<Self, FheError> {
        Self::read("evaluation key", EVALUATION_KEY, bytes, key_set)
    }

    pub(super) fn from_secret(bytes: &[u8], key_set: KeySetId) -> Result<Self, FheError> {
        Self::read("secret key", SECRET_KEY, bytes, key_set)
    }

    fn read(what: &str, magic: &[u8], bytes: &[u8], key_set: KeySetId) -> Result<Self, FheError> {
        match bytes.strip_prefix(magic) {
            Some(number) if number.len() == NUMBER_BYTES => Ok(Self { key_set }),
            _ => Err(FheError::key(what, "is not one of the clear backend")),
        }
    }

    /// Returns the id of the key set.
    pub(crate) const fn key_set(&self) -> KeySetId {
        self.key_set
    }
}
