//! Key sets: generated once, kept in a directory each, opened by everything that computes, encrypts or decrypts.
//!
//! | file | content | who needs it |
//! |---|---|---|
//! | `manifest.json` | parameters, ids, sizes and digests of the parts, what the set can do | everyone |
//! | `public_key.bin` | what clients encrypt inputs to | clients, coprocessors |
//! | `crs.bin` | common reference string of the input proofs | clients, coprocessors |
//! | `evaluation_key.bin` | what computations need, compressed | coprocessors |
//! | `secret_key.bin` | what decryptions need; only its owner can read the file | the KMS alone |
//! | `squashing_key.bin`, `squashed_packing_key.bin` | in sets with noise squashing: what it needs, compressed | coprocessors of threshold deployments |
//! | `squashing_secret.bin` | what squashed values are decrypted with, in sets that were not made by a ceremony; only its owner can read the file | who deals it to a committee |
//!
//! A directory without the secret files is a complete key set for a coprocessor. Directories appear whole or not at all:
//! they are written under another name, synced, and renamed. `docs/keys.md` has sizes and times.

mod bytes;
mod clear;
mod directory;
mod evaluation;
mod export;
mod generate;
mod manifest;
mod squashing;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, Weak},
};

use zeroize::Zeroizing;

#[cfg(feature = "gpu")]
pub(crate) use self::evaluation::MAX_EVALUATION_KEY_BYTES;
pub(crate) use self::generate::random_bytes;
pub use self::{
    bytes::KeySetBytes,
    clear::ClearKey,
    evaluation::EvaluationKeys,
    export::{KeySetCopy, PartInDirectory},
    generate::GenerationProgress,
    manifest::{Capabilities, KeySetId, Manifest, Part, Parts, SquashingParts},
    squashing::SquashingKeyBytes,
};
use crate::{
    backend::{Decrypt, EncryptInputs, FheBackend},
    decrypt::{ClearDecryptor, CpuDecryptor},
    error::FheError,
    input::encryptor_for_key_set,
    parameters::ParameterSet,
    squashing::NoiseSquasher,
};

/// An open key set.
///
/// Opening reads and checks everything but the two large or secret parts; those are read, checked against the manifest and
/// against the parameters, when they are first asked for.
pub struct KeySet {
    directory: PathBuf,
    manifest: Manifest,
    parameters: ParameterSet,
    public_key: Arc<[u8]>,
    crs: Arc<[u8]>,
    evaluation: Mutex<Option<Arc<dyn FheBackend>>>,
    /// The squasher, for as long as somebody uses it.
    squasher: Mutex<Weak<NoiseSquasher>>,
}

impl KeySet {
    /// Generates a key set into a directory, which must not exist or be empty, and opens it. With production parameters this
    /// takes a minute, nearly all of it for the reference string.
    ///
    /// Processes that generate into the same directory wait for each other. What a killed one left behind is removed.
    ///
    /// # Errors
    /// [`FheError::KeyFile`] if files cannot be written, [`FheError::KeyMaterial`] if the directory is taken or tfhe refuses the
    /// parameters.
    pub fn generate(directory: &Path, parameters: ParameterSet, progress: &dyn GenerationProgress) -> Result<Self, FheError> {
        let place = directory::Place::of(directory)?;
        let _lock = place.lock()?;
        Self::generate_locked(&place, directory, parameters, progress)
    }

    /// Generates the same key set from the same seed, for known-answer tests. **Insecure:** whoever knows the seed knows all secrets.
    ///
    /// # Errors
    /// As [`Self::generate`].
    #[cfg(feature = "insecure-toy-parameters")]
    pub fn insecure_generate_from_seed(directory: &Path, parameters: ParameterSet, seed: u128) -> Result<Self, FheError> {
        let place = directory::Place::of(directory)?;
        let _lock = place.lock()?;
        place.check_free()?;
        let material = generate::insecure_generate_from_seed(parameters, seed)?;
        place.write(&Manifest::describe(parameters, &material), &material)?;
        Self::open(directory)
    }

    /// Opens the key set of a directory, or generates one there if there is none.
    ///
    /// # Errors
    /// As [`Self::open`] and [`Self::generate`], and [`FheError::KeyMaterial`] if the set there has other parameters.
    pub fn open_or_generate(directory: &Path, parameters: ParameterSet, progress: &dyn GenerationProgress) -> Result<Self, FheError> {
        let exists = || directory.join(manifest::FILE).exists();
        let set = if exists() {
            Self::open(directory)?
        } else {
            let place = directory::Place::of(directory)?;
            let _lock = place.lock()?;
            // Another process may have made it while this one waited for the lock.
            if exists() {
                Self::open(directory)?
            } else {
                Self::generate_locked(&place, directory, parameters, progress)?
            }
        };
        if set.parameters != parameters {
            let reason = format!(
                "in {} is of parameter set {}, not {parameters}",
                directory.display(),
                set.parameters
            );
            return Err(FheError::key("key set", reason));
        }
        Ok(set)
    }

    fn generate_locked(
        place: &directory::Place,
        directory: &Path,
        parameters: ParameterSet,
        progress: &dyn GenerationProgress,
    ) -> Result<Self, FheError> {
        place.remove_stale()?;
        place.check_free()?;
        let stages = generate::Stages::of_key_set(false, progress);
        let material = generate::generate(parameters, &stages)?;
        let manifest = Manifest::describe(parameters, &material);
        if parameters.cpu().is_some() {
            stages.writing();
        }
        place.write(&manifest, &material)?;
        stages.finished();
        Self::open(directory)
    }

    /// Opens the key set of a directory.
    ///
    /// # Errors
    /// [`FheError::KeyFile`] if a file is missing or unreadable, [`FheError::KeyMaterial`] if one is not what the manifest says.
    pub fn open(directory: &Path) -> Result<Self, FheError> {
        let set = Self::open_published_parts(directory)?;
        set.manifest.parts.evaluation_key.check_size(directory)?;
        if let Some(squashing) = &set.manifest.parts.squashing {
            squashing.key.check_size(directory)?;
            squashing.packing_key.check_size(directory)?;
        }
        Ok(set)
    }

    fn open_published_parts(directory: &Path) -> Result<Self, FheError> {
        let manifest = Manifest::read(directory)?;
        let parameters = manifest.parameter_set()?;
        let public_key: Arc<[u8]> = manifest.parts.public_key.read(directory)?.as_slice().into();
        let crs: Arc<[u8]> = manifest.parts.crs.read(directory)?.as_slice().into();
        bytes::check_id(manifest.id, parameters, &public_key, &crs)?;
        Ok(Self {
            directory: directory.to_owned(),
            manifest,
            parameters,
            public_key,
            crs,
            evaluation: Mutex::new(None),
            squasher: Mutex::default(),
        })
    }

    /// Returns the manifest.
    #[must_use]
    pub const fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Returns the directory the set was opened from.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Returns the parameter set.
    #[must_use]
    pub const fn parameters(&self) -> ParameterSet {
        self.parameters
    }

    /// Returns the public key in the form every generation of clients reads.
    #[must_use]
    pub fn public_key(&self) -> Arc<[u8]> {
        Arc::clone(&self.public_key)
    }

    /// Returns the common reference string of the input proofs, as clients read it.
    #[must_use]
    pub fn crs(&self) -> Arc<[u8]> {
        Arc::clone(&self.crs)
    }

    /// Returns the backend that computes on this key set. The first call reads and decompresses the evaluation key, which
    /// takes seconds with production parameters; later ones return the same backend.
    ///
    /// # Errors
    /// [`FheError::KeyFile`] or [`FheError::KeyMaterial`] if the evaluation key cannot be used.
    pub fn evaluation(&self) -> Result<Arc<dyn FheBackend>, FheError> {
        let mut cached = self.evaluation.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(backend) = &*cached {
            return Ok(Arc::clone(backend));
        }
        let evaluation_key = self.manifest.parts.evaluation_key.read(&self.directory)?;
        let backend = bytes::backend(self.parameters, self.manifest.id, self.bytes(&evaluation_key))?;
        *cached = Some(Arc::clone(&backend));
        Ok(backend)
    }

    fn bytes<'a>(&'a self, evaluation_key: &'a [u8]) -> KeySetBytes<'a> {
        KeySetBytes {
            public_key: &self.public_key,
            crs: &self.crs,
            evaluation_key,
        }
    }

    /// Reads and decompresses the evaluation keys of a CPU key set, every time it is called, for callers that make several
    /// backends or [`CpuBlocks`](crate::CpuBlocks) of them. All others take [`Self::evaluation`].
    ///
    /// # Errors
    /// [`FheError::KeyFile`] or [`FheError::KeyMaterial`] if the evaluation key cannot be used or is one of the clear backend.
    pub fn evaluation_keys(&self) -> Result<Arc<EvaluationKeys>, FheError> {
        match self.parameters.cpu() {
            Some(parameters) => {
                let evaluation_key = self.manifest.parts.evaluation_key.read(&self.directory)?;
                bytes::evaluation_keys(&parameters, self.manifest.id, self.bytes(&evaluation_key))
            }
            None => Err(FheError::key("evaluation key", "is one of the clear backend")),
        }
    }

    /// Returns an encryptor for inputs to this key set.
    ///
    /// # Errors
    /// [`FheError::KeyMaterial`] if public key or reference string cannot be used.
    pub fn encryptor(&self) -> Result<Box<dyn EncryptInputs>, FheError> {
        encryptor_for_key_set(self.manifest.id, &self.public_key, &self.crs)
    }

    /// Says whether the directory holds the secret key.
    #[must_use]
    pub fn has_secret_key(&self) -> bool {
        self.manifest.parts.secret_key.path(&self.directory).exists()
    }

    /// Reads the secret key, which only its owner may be able to read.
    pub(crate) fn secret_key_bytes(&self) -> Result<Zeroizing<Vec<u8>>, FheError> {
        directory::check_private(&self.manifest.parts.secret_key.path(&self.directory))?;
        self.manifest.parts.secret_key.read(&self.directory)
    }

    /// Reads the secret key and returns what decrypts with it.
    ///
    /// # Errors
    /// [`FheError::KeyFile`] if the directory has no secret key, [`FheError::KeyMaterial`] if others can read the file or it is not
    /// the secret key of this set.
    pub fn decryptor(&self) -> Result<Arc<dyn Decrypt>, FheError> {
        let bytes = self.secret_key_bytes()?;
        match self.parameters.cpu() {
            Some(parameters) => {
                let stored = parameters.stored_format(self.manifest.id);
                Ok(Arc::new(CpuDecryptor::read(&parameters, &bytes, stored)?))
            }
            None => Ok(Arc::new(ClearDecryptor::new(ClearKey::from_secret(&bytes, self.manifest.id)?))),
        }
    }
}
