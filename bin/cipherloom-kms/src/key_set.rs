//! The key set that a party squashes noise with, in a directory that is not believed.
//!
//! Whoever can choose these keys chooses what is decrypted: an evaluation key of his own makes a list of his own of any ciphertext, and decrypted lists give the secret away. A key set's id covers what clients encrypt
//! with and nothing else, and its manifest lies beside the files. So the bytes of every key are compared with the record of the ceremony that the party's share came with: all members signed it, and its digest is sealed
//! together with the share. The bytes that were compared are those that are used; files are read once.
//!
//! Nothing secret may be there. A party that could read the whole key would make the committee pointless.

use std::{
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context as _, Result, ensure};
use cipherloom_ceremony::{Material, Record};
use cipherloom_fhe::{KeySet, ParameterSet, SquashingKeyBytes, keys::KeySetBytes, keys::Part};
use cipherloom_kms::{OpenedKeys, SquashingKeys};
use cipherloom_primitives::B256;
use sha2::{Digest as _, Sha256};

/// What names of files with secrets have in common.
const SECRET: &str = "secret";

/// A key set without secrets, whose keys are used if the record of a ceremony names them.
pub struct RecordedKeys {
    keys: KeySet,
    /// What the newest record of a share of this key says.
    recorded: Mutex<Option<Arc<Record>>>,
}

impl RecordedKeys {
    /// Opens a directory. The large keys are not read yet.
    ///
    /// # Errors
    /// If it is no key set, has a secret, or cannot squash noise.
    pub fn open(directory: &Path) -> Result<Self> {
        let keys = KeySet::open(directory).with_context(|| format!("cannot use the keys in {}", directory.display()))?;
        let secrets = secrets(directory, &keys).with_context(|| format!("cannot read {}", directory.display()))?;
        ensure!(
            secrets.is_empty(),
            "{} has {}: a party must not have the whole key. Give it a copy without, as `cipherloom keys export` makes it, and look into how the secret got there",
            directory.display(),
            secrets.join(", ")
        );
        ensure!(
            keys.has_noise_squashing(),
            "the key set in {} has no keys of noise squashing, or they are not here: copy it again where they are, or add them with `cipherloom keys \
             add-noise-squashing` where the secret key is",
            directory.display()
        );
        Ok(Self {
            keys,
            recorded: Mutex::default(),
        })
    }

    /// Returns the key set's id.
    #[must_use]
    pub fn id(&self) -> B256 {
        B256::from(*self.keys.manifest().id.as_bytes())
    }

    /// Returns its parameters.
    #[must_use]
    pub const fn parameters(&self) -> ParameterSet {
        self.keys.parameters()
    }

    /// Takes the record of a share that the party has. One of another key is left aside.
    pub fn take_record(&self, record: &Arc<Record>) {
        if record.core.key_id == self.id() {
            *self.recorded.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(record));
        }
    }

    /// Compares names and sizes of the keys with a record, without reading them. Their digests are compared when they are read.
    ///
    /// # Errors
    /// If the record is of another key, or its keys are others.
    pub fn compare(&self, record: &Record) -> Result<()> {
        let (of_record, ours) = (record.core.key_id, self.id());
        ensure!(
            of_record == ours,
            "the party's share is of key set {of_record}, and the keys in {} are of {ours}",
            self.keys.directory().display()
        );
        for part in self.needed()? {
            material(record, part)?;
        }
        Ok(())
    }

    /// Lists the keys that squashing needs: the evaluation key, what squashes, and what packs.
    fn needed(&self) -> Result<[&Part; 3]> {
        let manifest = self.keys.manifest();
        let squashing = manifest.squashing()?;
        Ok([&manifest.parts.evaluation_key, &squashing.key, &squashing.packing_key])
    }

    fn read(&self) -> Result<OpenedKeys> {
        let record = self.recorded.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let record = record.context("the party has no record of a ceremony that names them")?;
        let [evaluation, key, packing_key] = self.needed()?;
        let (public_key, crs) = (self.keys.public_key(), self.keys.crs());
        let manifest = self.keys.manifest();
        let backend = {
            let evaluation_key = self.part(&record, evaluation)?;
            manifest.backend(KeySetBytes {
                public_key: &public_key,
                crs: &crs,
                evaluation_key: &evaluation_key,
            })?
        };
        let (key, packing_key) = (self.part(&record, key)?, self.part(&record, packing_key)?);
        let bytes = SquashingKeyBytes {
            key: &key,
            packing_key: &packing_key,
        };
        let squasher = Arc::new(manifest.noise_squasher(backend.as_ref(), bytes)?);
        Ok(OpenedKeys { backend, squasher })
    }

    /// Reads a key, which must be the one that the record names.
    fn part(&self, record: &Record, part: &Part) -> Result<Vec<u8>> {
        let recorded = material(record, part)?;
        let path: PathBuf = self.keys.directory().join(&part.file);
        let unreadable = || format!("cannot read {}", path.display());
        let mut file = File::open(&path).with_context(unreadable)?;
        let length = usize::try_from(recorded.size_bytes).context("the key is larger than memory")?;
        let mut bytes = Vec::with_capacity(length);
        file.by_ref()
            .take(recorded.size_bytes)
            .read_to_end(&mut bytes)
            .with_context(unreadable)?;
        ensure!(
            B256::from_slice(&Sha256::digest(&bytes)) == recorded.digest,
            "{} is not the key that the ceremony's record names: it was exchanged or damaged",
            path.display()
        );
        Ok(bytes)
    }
}

impl SquashingKeys for RecordedKeys {
    fn open(&self) -> Result<OpenedKeys, String> {
        self.read().map_err(|error| format!("{error:#}"))
    }
}

/// Finds what a record says about a key.
fn material<'a>(record: &'a Record, part: &Part) -> Result<&'a Material> {
    let found = record.core.material.iter().find(|material| material.name == part.file);
    let found = found.with_context(|| format!("the ceremony's record does not name {}", part.file))?;
    ensure!(
        found.size_bytes == part.size_bytes,
        "{} has {} bytes, and the one that the ceremony's record names has {}: it is another key",
        part.file,
        part.size_bytes,
        found.size_bytes
    );
    Ok(found)
}

/// Lists the files of a directory that hold something secret: those of the manifest, and those that are called so.
fn secrets(directory: &Path, keys: &KeySet) -> std::io::Result<Vec<String>> {
    let parts = keys.parts();
    let mut found: Vec<String> = parts
        .iter()
        .filter(|part| part.is_here && part.role.contains(SECRET))
        .map(|part| part.part.file.clone())
        .collect();
    for entry in std::fs::read_dir(directory)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.contains(SECRET) && !found.contains(&name) {
            found.push(name);
        }
    }
    found.sort_unstable();
    Ok(found)
}
