//! Key sets with noise squashing: made with it, given it later, or made for a committee, whose secrets never touch a disk.
//!
//! The keys take more time and place than everything else together, and only threshold decryption needs them, so most sets are without. Squashed
//! values are under secrets of their own: whoever has those decrypts, without the set's secret key.

use std::{
    path::Path,
    sync::{Arc, PoisonError},
};

use super::{
    GenerationProgress, KeySet, Manifest, Part, SquashingParts,
    directory::{self, NewFile, Place, Readable},
    generate::{self, Stages},
    manifest,
};
use crate::{
    backend::FheBackend,
    error::FheError,
    parameters::ParameterSet,
    squashing::{NoiseSquasher, SquashingMaterial, SquashingSecrets},
};

const KEY_FILE: &str = "squashing_key.bin";
const PACKING_KEY_FILE: &str = "squashed_packing_key.bin";
const SECRET_FILE: &str = "squashing_secret.bin";

/// The bytes of the evaluation keys of noise squashing.
#[derive(Clone, Copy)]
pub struct SquashingKeyBytes<'a> {
    /// What squashes, compressed.
    pub key: &'a [u8],
    /// What packs squashed values into lists, compressed.
    pub packing_key: &'a [u8],
}

impl SquashingMaterial {
    fn parts(&self, secret: Option<&[u8]>) -> SquashingParts {
        SquashingParts {
            key: Part::describe(KEY_FILE, &self.squashing_key),
            packing_key: Part::describe(PACKING_KEY_FILE, &self.packing_key),
            secret: secret.map(|bytes| Part::describe(SECRET_FILE, bytes)),
        }
    }

    fn files(&self) -> [NewFile<'_>; 2] {
        let file = |name, bytes| NewFile {
            name,
            bytes,
            readable: Readable::Everyone,
        };
        [file(KEY_FILE, &self.squashing_key), file(PACKING_KEY_FILE, &self.packing_key)]
    }
}

impl Manifest {
    /// Reads the keys of noise squashing and decompresses them: 1.8 GB with production parameters, on top of those of the key set's backend, which
    /// it shares. Both are checked against their digests and the parameters; the bytes are not needed afterwards.
    ///
    /// # Errors
    /// [`FheError::KeyMaterial`] if the set has no noise squashing, the keys are not what the manifest says, or the backend is one of another kind.
    pub fn noise_squasher(&self, backend: &dyn FheBackend, bytes: SquashingKeyBytes<'_>) -> Result<NoiseSquasher, FheError> {
        let parts = self.squashing()?;
        parts.key.check_bytes(bytes.key)?;
        parts.packing_key.check_bytes(bytes.packing_key)?;
        let keys = backend
            .evaluation_keys()
            .ok_or_else(|| FheError::key("key set", "is one of the clear backend, whose noise cannot be squashed"))?;
        NoiseSquasher::with_keys(self.parameter_set()?, Arc::clone(keys), bytes.key, bytes.packing_key)
    }

    /// Returns the parts of noise squashing.
    ///
    /// # Errors
    /// [`FheError::KeyMaterial`] if there are none.
    pub fn squashing(&self) -> Result<&SquashingParts, FheError> {
        self.parts.squashing.as_ref().ok_or_else(|| {
            FheError::key(
                "key set",
                "has no noise squashing, which threshold decryption needs; `cipherloom keys add-noise-squashing` adds it where the secret key is",
            )
        })
    }
}

impl KeySet {
    /// Generates a key set with noise squashing for a committee: everything that is not secret goes into a directory, which must not exist or be
    /// empty, and the secrets of squashed values are returned, to be dealt and dropped. No secret touches the disk, and the set's own secret key, which
    /// nobody needs then, is wiped.
    ///
    /// # Errors
    /// As [`KeySet::generate`], and [`FheError::KeyMaterial`] if the parameters have no noise squashing.
    pub fn generate_for_committee(
        directory: &Path,
        parameters: ParameterSet,
        progress: &dyn GenerationProgress,
    ) -> Result<(Self, SquashingSecrets), FheError> {
        let cpu = parameters.cpu().filter(|_| parameters.can_squash_noise());
        let cpu = cpu.ok_or_else(|| FheError::key("key set", format!("of {parameters} cannot have noise squashing")))?;
        let place = Place::of(directory)?;
        let _lock = place.lock()?;
        place.remove_stale()?;
        place.check_free()?;
        let stages = Stages::of_key_set(true, progress);
        let material = generate::generate(parameters, &stages)?;
        stages.squashing();
        let squashing = SquashingMaterial::of_secret_key(&cpu, &material.secret_key)?;
        stages.writing();
        let manifest = Manifest::describe(parameters, &material).with_squashing(squashing.parts(None));
        let public = |name, bytes| NewFile {
            name,
            bytes,
            readable: Readable::Everyone,
        };
        let (parts, json) = (&manifest.parts, manifest.to_json()?);
        let [key, packing_key] = squashing.files();
        place.write_files(&[
            public(&parts.public_key.file, &material.public_key),
            public(&parts.crs.file, &material.crs),
            public(&parts.evaluation_key.file, &material.evaluation_key),
            key,
            packing_key,
            public(manifest::FILE, &json),
        ])?;
        stages.finished();
        Ok((Self::open(directory)?, squashing.secrets))
    }

    /// Adds noise squashing to this key set, whose secret key must be here, and opens it anew. The secrets of squashed values are written beside the
    /// secret key, for its owner alone. What the set could do before, and its id, stay as they are.
    ///
    /// # Errors
    /// [`FheError::KeyFile`] if the secret key is not here or files cannot be written, [`FheError::KeyMaterial`] if the set has noise squashing already or its
    /// parameters have none.
    pub fn add_noise_squashing(&self, progress: &dyn GenerationProgress) -> Result<Self, FheError> {
        let place = Place::of(&self.directory)?;
        let _lock = place.lock()?;
        // Another process may have done it while this one waited for the lock.
        let manifest = Manifest::read(&self.directory)?;
        if manifest.parts.squashing.is_some() {
            return Err(FheError::key("key set", "has noise squashing already"));
        }
        if manifest.id != self.manifest.id {
            return Err(FheError::key("key set", "was replaced by another one"));
        }
        let stages = Stages::of_squashing(progress);
        stages.squashing();
        let squashing = SquashingMaterial::generate(self)?;
        stages.writing();
        let secret = squashing.secrets.to_bytes(manifest.id);
        let manifest = manifest.with_squashing(squashing.parts(Some(&secret)));
        let secret = NewFile {
            name: SECRET_FILE,
            bytes: &secret,
            readable: Readable::Owner,
        };
        let [key, packing_key] = squashing.files();
        place.add_files(&[secret, key, packing_key], &manifest.to_json()?)?;
        stages.finished();
        Self::open(&self.directory)
    }

    /// Says whether the set can squash noise, and the keys for it are here.
    #[must_use]
    pub fn has_noise_squashing(&self) -> bool {
        let here = |part: &Part| part.path(&self.directory).exists();
        let parts = self.manifest.parts.squashing.as_ref();
        parts.is_some_and(|parts| here(&parts.key) && here(&parts.packing_key))
    }

    /// Returns what squashes. The keys are read and decompressed when nobody holds what an earlier call returned: some ten seconds and 1.8 GB with
    /// production parameters.
    ///
    /// # Errors
    /// [`FheError::KeyMaterial`] if the set has no noise squashing or a key is not what the manifest says, [`FheError::KeyFile`] if a file cannot be read.
    pub fn noise_squasher(&self) -> Result<Arc<NoiseSquasher>, FheError> {
        let mut held = self.squasher.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(squasher) = held.upgrade() {
            return Ok(squasher);
        }
        self.manifest.squashing()?;
        let squasher = Arc::new(self.squasher_on(self.evaluation()?.as_ref())?);
        *held = Arc::downgrade(&squasher);
        Ok(squasher)
    }

    /// The same for a backend of this key set that somebody made, each time anew.
    ///
    /// # Errors
    /// As [`Self::noise_squasher`], and [`FheError::KeyMaterial`] if the backend is of another kind.
    pub fn squasher_on(&self, backend: &dyn FheBackend) -> Result<NoiseSquasher, FheError> {
        let parts = self.manifest.squashing()?;
        let (key, packing_key) = (parts.key.read(&self.directory)?, parts.packing_key.read(&self.directory)?);
        let bytes = SquashingKeyBytes {
            key: &key,
            packing_key: &packing_key,
        };
        self.manifest.noise_squasher(backend, bytes)
    }

    /// Reads the secrets of squashed values, which only their owner may be able to read, to be dealt to a committee.
    ///
    /// # Errors
    /// [`FheError::KeyFile`] if they are not here, [`FheError::KeyMaterial`] if the set has none in files, others can read the file, or it is not the manifest's.
    pub fn squashing_secrets(&self) -> Result<SquashingSecrets, FheError> {
        let none = || FheError::key("key set", "was made for a committee: no file has its secrets of squashed values");
        let part = self.manifest.squashing()?.secret.as_ref().ok_or_else(none)?;
        directory::check_private(&part.path(&self.directory))?;
        let bytes = part.read(&self.directory)?;
        SquashingSecrets::from_bytes(self.parameters, self.manifest.id, &bytes)
    }
}
